--- Writes down which traces LuaJIT's compiler begins and gives up, for `perilune jit` and the
--- dashboard: the reason, where that was, and where the trace had begun.
---
--- Called from inside the compiler, with hooks off: so it is short. A trace that goes on being
--- given up is tried less and less often, and then no more, so this is rare once an app is warm.

local bit = require("bit")
local util = require("jit.util")
local C = require("perilune.ffi").C

---@class perilune.aborts
local M = {}

local funcinfo, funcbc = util.funcinfo, util.funcbc
local band, format = bit.band, string.format

-- What takes the place of an instruction that begins no trace any more.
local LOOP, FUNCTION = 1, 2 -- enum pl_abort_blacklisted
local BLACKLISTED = { IFORL = LOOP, IITERL = LOOP, ILOOP = LOOP, IFUNCF = FUNCTION,
  IFUNCV = FUNCTION }

--- Names of this LuaJIT's, as far as they are installed; of the large table only what is needed.
local function read_names()
  local was_loaded = package.loaded["jit.vmdef"]
  local ok, vmdef = pcall(require, "jit.vmdef")
  package.loaded["jit.vmdef"] = was_loaded
  if not ok then
    return {}, {}, {}
  end
  local bytecodes = {}
  for i = 0, #vmdef.bcnames / 6 - 1 do
    bytecodes[i] = vmdef.bcnames:sub(i * 6 + 1, i * 6 + 6):match("^%S*")
  end
  return bytecodes, vmdef.traceerr, vmdef.ffnames
end

local bytecodes, reasons, functions = read_names()

local start_func, start_pc -- of the trace that is being recorded
local start_is_root

--- "file:line"; of a function in C its name.
local function place(func, pc)
  local info = funcinfo(func, pc)
  if info.source then
    local source, mark = info.source, info.source:byte(1)
    return format("%s:%d", (mark == 64 or mark == 61) and source:sub(2) or source, -- "@", "="
      info.currentline or info.linedefined)
  end
  return info.ffid and functions[info.ffid] or "C"
end

--- In LuaJIT's words, with names in the place of numbers.
local function reason_of(code, info)
  if type(code) ~= "number" then
    return "error: " .. (type(code) == "string" and code or type(code))
  end
  local text = reasons[code] or "reason " .. code
  if type(info) == "function" then
    info = place(info)
  elseif text:find("bytecode", 1, true) and type(info) == "number" then
    text, info = "NYI: bytecode %s", bytecodes[info]
  end
  if text:find("%%[sd]") then
    return (text:gsub("%%[sd]", tostring(info)))
  end
  return text
end

--- The compiler begins to record; as LuaJIT tells it.
---@param func function
---@param pc integer
---@param parent? integer the trace that it branches off
function M.started(func, pc, parent)
  start_func, start_pc, start_is_root = func, pc, not parent
end

--- It has given up; as LuaJIT tells it. The instruction that the trace had begun at has been
--- changed by now, if that was once too often.
---@param func function where it was then
---@param pc integer
---@param code integer|string
---@param info any
function M.aborted(func, pc, code, info)
  local black = 0
  if start_func and start_is_root and start_pc >= 0 then
    local ins = funcbc(start_func, start_pc)
    black = ins and BLACKLISTED[bytecodes[band(ins, 0xff)]] or 0
  end
  local reason, at = reason_of(code, info), place(func, pc)
  local from = start_func and place(start_func, start_pc) or at
  C.pl_aborts_note(reason, #reason, at, #at, from, #from, black)
end

--- Nothing of an earlier VM is kept.
function M.begin()
  C.pl_aborts_begin()
end

return M
