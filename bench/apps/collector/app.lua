-- bench/apps/collector/app.lua - what the collector's measurement runs: a handler that makes
-- garbage beside live objects of the module, and that tells how much CPU each run of it took.
--
-- The times lie in memory of C, so that measuring makes no garbage.

local P = require("perilune")
local ffi = require("ffi")

ffi.cdef([[
struct bench_time { long s, ns; };
int bench_clock(int clock, struct bench_time *out) __asm__("clock_gettime");
]])

local CLOCK_THREAD_CPUTIME_ID = 3
local LIVE_OBJECTS = 100000
local RECENT = 1000 -- of the live objects are replaced in turn
local SAMPLES_MAX = 1000000

local C = ffi.C
local time = ffi.new("struct bench_time")
local samples, count = ffi.new("float[?]", SAMPLES_MAX), 0

local live = {}
for i = 1, LIVE_OBJECTS do
  live[i] = { id = i, name = "object " .. i % 1000 }
end

local function cpu_us()
  C.bench_clock(CLOCK_THREAD_CPUTIME_ID, time)
  return tonumber(time.s) * 1e6 + tonumber(time.ns) * 1e-3
end

-- Some 60 tables and strings, as an ordinary JSON answer has; one of them stays.
local function work(id)
  local list = {}
  for i = 1, 20 do
    local item = live[(id * 31 + i * 7) % LIVE_OBJECTS + 1]
    list[i] = { id = item.id, text = item.name .. "/" .. id, tags = { i, id } }
  end
  live[id % RECENT + 1] = { id = id, name = list[1].text }
  return list
end

local app = P.app({ title = "Collector" })

app:get("/work/:id<int>", function(_, id)
  local before = cpu_us()
  local list = work(id)
  local after = cpu_us()
  samples[count % SAMPLES_MAX] = after - before
  count = count + 1
  return tostring(#list)
end)

-- Forgets what was measured so far: the compiler has warmed up.
app:get("/begin", function()
  count = 0
  return "begun"
end)

app:get("/report", function()
  local sorted = {}
  for i = 1, count do
    sorted[i] = samples[i - 1]
  end
  table.sort(sorted)
  local function at(percent)
    return sorted[math.max(1, math.ceil(count * percent / 100))] or 0
  end
  return ("requests=%d p50_us=%.3f p99_us=%.3f p999_us=%.3f p9999_us=%.3f most_us=%.3f"):format(
    count, at(50), at(99), at(99.9), at(99.99), at(100))
end)

return app
