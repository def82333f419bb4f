--- Counts what LuaJIT's compiler does, for the server's metrics: traces, those that
--- it gives up, and machine code.
---
--- LuaJIT tells of each trace by calling a function, which it does with hooks off:
--- so it is short, and only counts.

local aborts = require("perilune.aborts")
local C = require("perilune.ffi").C
local util = require("jit.util")

---@class perilune.traces
local M = {}

local tracemc = util.tracemc

--- Begins to count, for the VM that runs. Of no use while the compiler is off.
function M.watch()
  local counts = C.pl_jit_counts()

  aborts.begin()
  require("jit").attach(function(what, trace, func, pc, other, info)
    if what == "start" then
      aborts.started(func, pc, other)
    elseif what == "stop" then
      counts.traces = counts.traces + 1
      local code = tracemc(trace)
      counts.code_bytes = counts.code_bytes + (code and #code or 0)
    elseif what == "abort" then
      counts.aborts = counts.aborts + 1
      aborts.aborted(func, pc, other, info)
    elseif what == "flush" then
      counts.flushes = counts.flushes + 1
      counts.code_bytes = 0
    end
  end, "trace")
end

return M
