--- Counts what LuaJIT's compiler does, for the server's metrics: traces, those that
--- it gives up, and machine code. And tells the core which lines are in each trace, for
--- profiles of allocations (core/vm/traces.h).
---
--- LuaJIT tells of each trace by calling a function, which it does with hooks off: so it is
--- short. There is one such function per event: an app that attaches its own to "trace" or
--- "record" (`jit.attach`, `jit.v`, `jit.dump`) takes ours away, and what is compiled from then
--- on is counted no more, and allocates as its callers.

local aborts = require("perilune.aborts")
local C = require("perilune.ffi").C
local core = require("perilune.core")
local util = require("jit.util")

---@class perilune.traces
local M = {}

local tracemc, traceinfo, traceir = util.tracemc, util.traceinfo, util.traceir

-- Instructions of the compiler's, by number (jit.vmdef); those that allocate, or may.
local PROF, LOOP
local allocates = {}

local function read_names()
  local was_loaded = package.loaded["jit.vmdef"]
  local ok, vmdef = pcall(require, "jit.vmdef")
  if not ok then
    return
  end
  package.loaded["jit.vmdef"] = was_loaded -- it is large, and needed but once
  for at = 1, #vmdef.irnames, 6 do
    local name, number = vmdef.irnames:sub(at, at + 5):match("%S+"), (at - 1) / 6
    if name == "PROF" then
      PROF = number
    elseif name == "LOOP" then
      LOOP = number
    elseif name and (name:find("^CALL") or name:find("NEW") or name:find("^BUF")
        or name == "TDUP" or name == "CNEWI" or name == "TOSTR") then
      allocates[number] = true
    end
  end
end

--- What a loop repeats: for each line's beginning in there, which one before the loop it is, from
--- 1; 0 where nothing is allocated. The loop is a second copy of what is before it without what
--- doesn't change, so what allocates comes in the same order.
---@param trace integer
---@return integer[]? parts
local function loop_parts(trace)
  local seen, seen_parts, parts = {}, {}, {} -- what allocates before the loop, and where
  local part, at, inside = 0, 1, false
  for index = 1, traceinfo(trace).nins do
    local _, ot = traceir(trace, index)
    local op = (ot - ot % 256) / 256
    if op == LOOP then
      inside, part = true, 0
    elseif op == PROF then
      part = part + 1
      if inside then
        parts[part] = 0
      end
    elseif allocates[op] and not inside then
      seen[#seen + 1], seen_parts[#seen + 1] = op, part
    elseif allocates[op] and part > 0 then
      while seen[at] and seen[at] ~= op do
        at = at + 1
      end
      parts[part] = seen_parts[at] or parts[part]
      at = at + 1
    end
  end
  return parts
end

--- Begins to count, for the VM that runs. Of no use while the compiler is off.
function M.watch()
  local counts = C.pl_jit_counts()
  local jit = require("jit")
  local begin, recorded, complete, abandon, flush = core.trace_watch(util.funcinfo, traceinfo)

  if recorded then
    read_names()
    jit.attach(recorded, "record")
  end
  aborts.begin()
  jit.attach(function(what, trace, func, pc, other, info)
    if what == "start" then
      if begin then
        begin()
      end
      aborts.started(func, pc, other)
    elseif what == "stop" then
      local code, address, loop = tracemc(trace)
      counts.traces = counts.traces + 1
      counts.code_bytes = counts.code_bytes + (code and #code or 0)
      if code and complete then
        complete(code, address, loop, loop > 0 and PROF and loop_parts(trace) or nil)
      end
    elseif what == "abort" then
      counts.aborts = counts.aborts + 1
      if abandon then
        abandon()
      end
      aborts.aborted(func, pc, other, info)
    elseif what == "flush" then
      counts.flushes = counts.flushes + 1
      counts.code_bytes = 0
      if flush then
        flush()
      end
    end
  end, "trace")
end

return M
