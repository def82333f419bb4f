--- What the context of a request costs from Lua: nanoseconds of CPU for one call, medians over
--- rounds, inside a handler.
---
--- Run inside the runtime: `perilune test bench/micro/context.lua`. Arguments of the environment:
--- ROUNDS (default 15).

local P = require("perilune")
local test = require("perilune.test")

local clock = os.clock
local ROUNDS, CALLS = tonumber(os.getenv("ROUNDS")) or 15, 200000

local HEADERS = {
  traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  tracestate = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
  baggage = "userId=alice,serverNode=DF%2028,isProduction=false",
}

local into = {}

local MEASURED = {
  { "c.trace_id", function(c) return c.trace_id end },
  { "c.span_id", function(c) return c.span_id end },
  { "c.tenant", function(c) return c.tenant end },
  { "c:baggage(key)", function(c) return c:baggage("serverNode") end },
  { "P.context.current()", function() return P.context.current() end },
  { "P.context.headers(into)", function() return P.context.headers(into) end },
}

local function median(numbers)
  table.sort(numbers)
  return numbers[math.floor(#numbers / 2) + 1]
end

--- A loop of its own for each, so that each is compiled.
local LOOP = [[
  local call, clock = ...
  return function(c, count)
    local start = clock()
    for _ = 1, count do
      call(c)
    end
    return (clock() - start) / count * 1e9
  end
]]

local app = P.app()
app:get("/", { timeout = "10m" }, function(c)
  c.tenant = "acme"
  for _, one in ipairs(MEASURED) do
    local run, rounds = loadstring(LOOP)(one[2], clock), {}
    for round = 1, ROUNDS do
      rounds[round] = run(c, CALLS)
    end
    print(("| `%s` | %.0f ns |"):format(one[1], median(rounds)))
  end
  return "ok"
end)
test.app(app):get("/", { headers = HEADERS })
