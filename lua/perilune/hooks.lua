--- What the core needs for itself, or cannot let happen, in the place of what LuaJIT has.
---
--- The one hook of a VM and the one profiler of a process make handlers preemptible: to
--- user code they are refused. A finalizer runs inside whatever code allocates next; an
--- error in it would end that code, and LuaJIT itself where that is compiled: so those of
--- `ffi.gc` and `ffi.metatype` are told to the log instead.

local core = require("perilune.core")
local ffi = require("ffi")

local finalizer_failed = core.finalizer_failed
local pairs, pcall, rawget, type = pairs, pcall, rawget, type

---@class perilune.hooks
local M = {}

local function refuse(name, instead)
  return function()
    error(("%s cannot be used here: the server needs it to interrupt handlers that compute for too "
      .. "long; %s"):format(name, instead), 2)
  end
end

local guards = setmetatable({}, { __mode = "k" }) -- finalizer -> one that raises nothing

local function guarded(finalizer)
  if type(finalizer) ~= "function" then
    return finalizer -- nil, or a foreign function
  end
  local guard = guards[finalizer]
  if not guard then
    guard = function(object)
      local ok, err = pcall(finalizer, object)
      if not ok then
        finalizer_failed(type(err) == "string" and err or "an error that is a " .. type(err))
      end
    end
    guards[finalizer] = guard
  end
  return guard
end

local function install_finalizers()
  local raw_gc, raw_metatype = ffi.gc, ffi.metatype

  ffi.gc = function(object, finalizer) -- luacheck: ignore 122
    return raw_gc(object, guarded(finalizer))
  end
  ffi.metatype = function(ctype, metatable) -- luacheck: ignore 122
    if type(metatable) == "table" and rawget(metatable, "__gc") then
      local copy = {}
      for key, value in pairs(metatable) do
        copy[key] = value
      end
      copy.__gc = guarded(metatable.__gc)
      metatable = copy
    end
    return raw_metatype(ctype, metatable)
  end
end

--- Once per VM, before any code of the app is loaded.
function M.install()
  local instead = "to profile or to count lines, run the code with plain luajit"

  debug.sethook = refuse("debug.sethook", instead) -- luacheck: ignore 122
  local profile = {}
  for _, name in ipairs({ "start", "stop", "dumpstack" }) do
    profile[name] = refuse("LuaJIT's profiler (jit.profile, jit.p)", instead)
  end
  package.preload["jit.profile"] = function()
    return profile
  end
  install_finalizers()
end

return M
