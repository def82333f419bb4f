--- What user code cannot have, as the core needs it: the one hook of the VM, and
--- the one profiler of the process. Both make handlers preemptible.

---@class perilune.hooks
local M = {}

local function refuse(name, instead)
  return function()
    error(("%s cannot be used here: the server needs it to interrupt handlers that compute for too "
      .. "long; %s"):format(name, instead), 2)
  end
end

--- Puts functions that refuse in the place of debug.sethook and of LuaJIT's
--- profiler, with it jit.p; once per VM, before any code of the app is loaded.
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
end

return M
