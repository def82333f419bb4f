-- bench/waits/app.lua - parks coroutines, and tells what one park takes; see ../waits.lua.

local P = require "perilune"

local app = P.app {}
local ffi = require "ffi"

ffi.cdef [[
struct bench_time { long seconds, ns; };
int clock_gettime(int clock, struct bench_time *at);
]]

local PROCESS_CPU = 2
local at = ffi.new("struct bench_time")

local function cpu()
  ffi.C.clock_gettime(PROCESS_CPU, at)
  return tonumber(at.seconds) + tonumber(at.ns) / 1e9
end

local function park(rounds)
  for _ = 1, rounds do
    P.sleep(0)
  end
end

--- So many tasks, each of which parks so often: nearly all of a turn of the loop is parking.
app:get("/park/:tasks<int>/:rounds<int>", function(_, tasks, rounds)
  local list = {}
  for i = 1, tasks do
    list[i] = { park, rounds }
  end
  local begun = cpu()
  P.all(list)
  return ("%.1f"):format((cpu() - begun) * 1e9 / tasks / rounds)
end)

return app
