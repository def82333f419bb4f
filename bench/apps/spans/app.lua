-- bench/apps/spans/app.lua - requests with spans, for bench/spans.lua.

local P = require("perilune")
local ffi = require("ffi")

ffi.cdef([[
struct perilune_bench_span_time { long sec, nsec; };
int clock_gettime(int clock, struct perilune_bench_span_time *out);
]])

local CLOCK_THREAD = 3
local at = ffi.new("struct perilune_bench_span_time")
local app = P.app({ title = "Spans" })

local function now_ns()
  ffi.C.clock_gettime(CLOCK_THREAD, at)
  return tonumber(at.sec) * 1e9 + tonumber(at.nsec)
end

local function nothing() end

local function attribute()
  P.span_set("rows", 3)
end

-- Spans that fit into one request, each way.
local WAYS = {}

function WAYS.none(count)
  for _ = 1, count do
    xpcall(nothing, nothing)
  end
end

function WAYS.span(count)
  for _ = 1, count do
    P.span("load", nothing)
  end
end

function WAYS.set(count)
  for _ = 1, count do
    P.span("load", attribute)
  end
end

--- CPU time and allocated bytes of one, as "ns bytes".
app:get("/:way", function(c)
  local way, count = WAYS[c:param("way")], tonumber(c:query("count"))
  local bytes = collectgarbage("count")
  local begun = now_ns()
  way(count)
  local ended = now_ns()
  return ("%.1f %.2f"):format((ended - begun) / count,
    (collectgarbage("count") - bytes) * 1024 / count)
end)

return app
