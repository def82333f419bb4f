-- bench/recorder.lua - what the flight recorder costs: nanoseconds for an event, from C and from
-- compiled Lua, and milliseconds for the trace of a ring that is full.
--
-- Usage: luajit bench/recorder.lua [--rounds N] [--perilune FILE]
--
-- Marks run in a loop inside a handler (apps/recorder), the empty loop taken off; the C half is
-- recorder.c. Figures are the least of the rounds.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("recorder", [[
usage: luajit bench/recorder.lua [--rounds N] [--perilune FILE]
]])
local swarm = require("swarm")
local fail = script.fail

local PORT = 18797
local LOOPS = 5000000
local PATIENCE_S = 60
local C_NS_MAX, LUA_NS_MAX, DUMP_MS_MAX = 10, 25, 100

-- The server ------------------------------------------------------------------------------

local function ask(server, target)
  local conn = assert(server.clients:connect())
  local due = process.now() + PATIENCE_S
  server.clients:send(conn, swarm.request("GET", target), true)
  while conn.tag and process.now() < due do
    server.clients:wait(0.1)
  end
  local reply = conn.reply
  server.clients:close(conn)
  if not reply or reply.status ~= 200 then
    fail("%s: %s", target, reply and reply.body:sub(1, 300) or "no answer")
  end
  return reply.body
end

local function start(place)
  local home = process.make_temp_folder()
  local server = { home = home }
  server.pid = process.start({
    argv = { place.perilune, "run", place.source .. "/apps/recorder", "--name", "recorder",
      "--listen", "127.0.0.1:" .. PORT, "--workers", "1", "--set", "log.access=false" },
    env = { XDG_RUNTIME_DIR = home }, output = home .. "/output",
  })
  server.clients = swarm.new(PORT, function(conn, reply) conn.reply = reply end, function() end)
  local due = process.now() + PATIENCE_S
  repeat
    process.sleep(0.05)
    local conn = server.clients:connect()
    if conn then
      server.clients:close(conn)
      return server
    end
  until process.now() > due
  fail("the server did not start")
end

local function stop(server)
  process.stop(server.pid)
  process.run({ "rm", "-rf", server.home }, 20)
end

-- Measuring ------------------------------------------------------------------------------

--- Nanoseconds for one step of work, in compiled Lua.
local function lua_cost(server, what, rounds)
  local least = math.huge
  for _ = 1, rounds do
    least = math.min(least, tonumber(ask(server, ("/run/%s/%d"):format(what, LOOPS))))
  end
  return least
end

local SOURCES = { "fabric/events.c", "fabric/routes.c", "log/timeline.c", "log/digits.c",
  "base/stopwatch.c", "base/clock.c", "base/buf.c", "base/alloc.c" }

local function c_costs(place, rounds)
  local binary = process.make_temp_folder() .. "/recorder"
  local core = place.source .. "/../core"
  local argv = { "cc", "-std=gnu11", "-O2", "-DPL_ALLOC_LIBC=1", "-I" .. core,
    place.source .. "/recorder.c" }
  for _, file in ipairs(SOURCES) do
    argv[#argv + 1] = core .. "/" .. file
  end
  for _, more in ipairs({ "-lm", "-o", binary }) do
    argv[#argv + 1] = more
  end
  local ok, text = process.run(argv, PATIENCE_S)
  if not ok then
    fail("recorder.c cannot be built: %s", text)
  end
  local _, out = process.run({ binary, tostring(rounds) }, PATIENCE_S)
  local costs = {}
  for name, value in out:gmatch("(%a+) ([%d.]+)") do
    costs[name] = tonumber(value)
  end
  return costs
end

local function main()
  local opts = script.parse({ numbers = { rounds = { 7, 1, 100 } } })
  local place = { source = script.source,
    perilune = opts.perilune }
  local server = start(place)
  local mark = lua_cost(server, "mark", opts.rounds) - lua_cost(server, "nothing", opts.rounds)
  stop(server)
  local c = c_costs(place, opts.rounds)
  print("| | ns |")
  print("|---|---:|")
  print(("| an event in C, its time being known | %.1f |"):format(c.known))
  print(("| an event in C that reads the processor's counter | %.1f |"):format(c.read))
  print(("| a request of a caller's trace that never waits: three events | %.1f |")
    :format(c.request))
  print(("| P.mark from compiled Lua | %.1f |"):format(mark))
  print(("| the trace of a full ring | %.0f ms |"):format(c.dump))
  print()
  print(("an event in C in at most %d ns: %s"):format(C_NS_MAX,
    math.max(c.known, c.read) <= C_NS_MAX and "met" or "NOT MET"))
  print(("from Lua in at most %d ns: %s"):format(LUA_NS_MAX,
    mark <= LUA_NS_MAX and "met" or "NOT MET"))
  print(("a whole ring in at most %d ms: %s"):format(DUMP_MS_MAX,
    c.dump <= DUMP_MS_MAX and "met" or "NOT MET"))
end

main()
