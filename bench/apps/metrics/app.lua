--- What bench/metrics.lua asks for: counting in a loop inside a handler, and many series.

local P = require "perilune"

local app = P.app { title = "metrics" }

local counter = P.metric.counter("bench_total", "Counted in a loop.")
local labelled = P.metric.counter("bench_labelled_total", "The same.", { "kind", "state" })
local histogram = P.metric.histogram("bench_seconds", "Recorded in a loop.")

--- The loops themselves are measured, too, and taken off.
local WORK = {
  nothing = function(n)
    local sum = 0
    for i = 1, n do
      sum = sum + i
    end
    return sum
  end,
  add = function(n)
    for _ = 1, n do
      counter:add(1)
    end
  end,
  with = function(n)
    for _ = 1, n do
      labelled:with("a", "b"):add(1)
    end
  end,
  record = function(n)
    for i = 1, n do
      histogram:record(i * 1e-6)
    end
  end,
}

app:get("/run/:what/:n<int>", { timeout = "60s" }, function(_, what, n)
  WORK[what](10000)
  local begun = os.clock()
  WORK[what](n)
  return ("%.9f"):format((os.clock() - begun) / n)
end)

local PER_METRIC = 1000

--- Makes series of a kind: "whole" and "fraction" are counters.
app:get("/fill/:kind/:n<int>", { timeout = "60s" }, function(_, kind, n)
  local metric
  for i = 0, n - 1 do
    local number = math.floor(i / PER_METRIC)
    if i % PER_METRIC == 0 then
      metric = kind == "histogram"
        and P.metric.histogram(("fill_%d_seconds"):format(number), "Many.", { "shop", "item" })
        or P.metric.counter(("fill_%d_total"):format(number), "Many.", { "shop", "item" })
    end
    local series = metric:with("shop " .. i % 10, "item " .. i)
    if kind == "histogram" then
      for e = -12, 0 do
        series:record(2 ^ e * (1 + i / n))
      end
    else
      series:add(kind == "whole" and i or i / 3)
    end
  end
  return "filled"
end)

return app
