--- The Lua half of the C-Lua border: declares the structs and functions of the
--- core to LuaJIT's FFI, and refuses a core that this half was not written for.
---
--- The text comes from the headers themselves (core/vm/ffi.h), so fields can
--- not drift; what can is the meaning, and that is what `ABI` stands for.

local ffi = require("ffi")
local core = require("perilune.core")

---@class perilune.ffi
local M = {}

--- What these modules were written for; PL_ABI_VERSION of the core must equal it.
local ABI = 6

if not pcall(ffi.typeof, "struct pl_req") then -- once per VM: a spec may load this module again
  ffi.cdef(core.cdef())
end

local C = ffi.C
local theirs = C.pl_abi()

local function refuse(why)
  error(("perilune: the Lua modules (ABI %d) do not fit this launcher (version %s, ABI %d): %s")
    :format(ABI, tostring(core.version), theirs.version, why), 0)
end

if theirs.version ~= ABI then
  refuse("their versions differ")
end
for name, bytes in pairs({
  ["struct pl_req"] = theirs.req_bytes,
  ["struct pl_header"] = theirs.header_bytes,
  ["struct pl_param"] = theirs.param_bytes,
  ["struct pl_context"] = theirs.context_bytes,
}) do
  if ffi.sizeof(name) ~= bytes then
    refuse(("%s has %d bytes here and %d there"):format(name, ffi.sizeof(name), bytes))
  end
end

-- Looks every function up once: a trace is given up at a symbol that has not
-- been resolved, and one that is missing shows here and not in a request.
for name in core.cdef():gsub("/%*.-%*/", ""):gmatch("%f[%w_](pl_[%w_]+)%s*%(") do
  if not pcall(function() return C[name] end) then
    refuse(("%s is missing there"):format(name))
  end
end

local request_type = ffi.typeof("struct pl_req *")

--- The request in a slot. The pointer stays valid as long as the worker lives;
--- whose request it is tells its `serial`.
---@param slot integer
---@return ffi.cdata* req `struct pl_req *`
function M.request(slot)
  return ffi.cast(request_type, core.request(slot))
end

M.C = C
M.ABI = ABI

return M
