-- bench/wrk.lua - the script of wrk: what each scenario sends, and one line of results at the end.
--
-- Usage: wrk ... -s bench/wrk.lua URL -- SCENARIO ORDER_FILE [traced]
-- luacheck: globals wrk init request done

local ROUTE_COUNT = 200
local REQUEST_COUNT = 1000 -- made once, sent in turns
local PIPELINE = 16

local TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

local function api_requests()
  local headers = {
    ["Accept"] = "application/json",
    ["Authorization"] = "Bearer bench-token",
    ["User-Agent"] = "bench/1.0",
    ["traceparent"] = wrk.headers["traceparent"],
  }
  local texts = {}
  for i = 0, REQUEST_COUNT - 1 do
    -- Both steps have no factor in common with the counts: every route comes, in no order.
    local path = ("/api/r%d/%d"):format(i * 77 % ROUTE_COUNT, i * 7919 % 100000)
    texts[#texts + 1] = wrk.format("GET", path, headers)
  end
  return texts
end

local SET_UP = {
  plain = function() end,
  idle = function() end,

  plain16 = function()
    local text = wrk.format("GET", "/"):rep(PIPELINE)
    request = function()
      return text
    end
  end,

  api = function()
    local texts, at = api_requests(), 0
    request = function()
      at = at % REQUEST_COUNT + 1
      return texts[at]
    end
  end,

  body = function(order_path)
    local file = assert(io.open(order_path, "rb"))
    wrk.method, wrk.body = "POST", file:read("*a")
    file:close()
    wrk.headers["Content-Type"] = "application/json"
  end,

  big = function() end,
}

function init(args)
  wrk.headers["Host"] = "127.0.0.1"
  wrk.headers["traceparent"] = args[3] == "traced" and TRACEPARENT or nil
  SET_UP[args[1]](args[2])
end

local RESULT = "RESULT requests=%d duration_us=%d bytes=%d p50_us=%d p99_us=%d"
  .. " errors=%d refused=%d\n"

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(RESULT:format(summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), failed, errors.status))
end
