--- The clock that is never set, read when it is asked.
---
--- The core reads its clocks once per tick (`pl_clock`); between two ticks they
--- stand still. That is enough for deadlines, but tells a handler that computes
--- nothing of how long it has: so this one asks the kernel.

local ffi = require("ffi")
local core_clock = require("perilune.ffi").C.pl_clock()

---@class perilune.clock
local M = {}

-- Names of our own: an app may declare those of libc itself, in its own way.
if not pcall(ffi.typeof, "struct pl_time") then -- once per VM
  ffi.cdef([[
  struct pl_time { long s, ns; };
  int pl_time_get(int clock, struct pl_time *out) __asm__("clock_gettime");
  ]])
end

local C = ffi.C
local new_time = ffi.typeof("struct pl_time")
local CLOCK_MONOTONIC = 1

--- How far the core's clock is ahead of the kernel's: specs move it forward.
local ahead_s = 0

--- Seconds; never less than the core's own clock says.
---
--- The core's clock is read first: a tick may come between any two lines here,
--- and one that came behind the kernel's answer would look like time that a spec
--- has moved.
---@return number
function M.monotonic()
  local tick = core_clock.monotonic
  local time = new_time() -- not kept: between call and read another one may call
  C.pl_time_get(CLOCK_MONOTONIC, time)
  local real = tonumber(time.s) + tonumber(time.ns) * 1e-9
  local now = real + ahead_s
  if tick > now then
    ahead_s = tick - real
    now = tick
  end
  return now
end

--- Seconds since the core has read its clock; never negative.
---@return number
function M.since_tick()
  local tick = core_clock.monotonic -- first, as above
  return M.monotonic() - tick
end

return M
