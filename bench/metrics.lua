-- bench/metrics.lua - what metrics cost: nanoseconds for counting, from compiled Lua and from C,
-- and milliseconds for a scrape of ten thousand series.
--
-- Usage: luajit bench/metrics.lua [--rounds N] [--series N] [--perilune FILE]
--
-- Counting runs in a loop inside a handler (apps/metrics), the empty loop taken off; the C half is
-- metrics.c. A scrape is timed from the connection to the control socket to its first byte, which
-- comes when all of the text is made; curl sends it. Figures are the least of the rounds for
-- counting, medians for scrapes.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("metrics", [[
usage: luajit bench/metrics.lua [--rounds N] [--series N] [--perilune FILE]
]])
local statistics = require("statistics")
local swarm = require("swarm")
local fail = script.fail

local PORT, WORKERS = 18795, 2
local LOOPS = 20000000
local LINES_PER_HISTOGRAM = 23
local PATIENCE_S = 60
local RECORD_NS_MAX, SCRAPE_MS_MAX = 10, 10

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
  local server = { home = home, socket = home .. "/perilune/metrics.sock" }
  server.pid = process.start({
    argv = { place.perilune, "run", place.source .. "/apps/metrics", "--name", "metrics",
      "--listen", "127.0.0.1:" .. PORT, "--workers", tostring(WORKERS),
      "--set", "log.access=false", "--set", "metrics.series_max=10000" },
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

--- Seconds for one step of work, in compiled Lua.
local function lua_cost(server, what, rounds)
  local least = math.huge
  for _ = 1, rounds do
    least = math.min(least, tonumber(ask(server, ("/run/%s/%d"):format(what, LOOPS))))
  end
  return least
end

local function c_costs(place, rounds)
  local binary = process.make_temp_folder() .. "/metrics"
  local core = place.source .. "/../core"
  local ok, text = process.run({ "cc", "-std=gnu11", "-O2", "-I" .. core,
    place.source .. "/metrics.c", core .. "/fabric/shard.c", core .. "/base/clock.c",
    "-o", binary }, PATIENCE_S)
  if not ok then
    fail("metrics.c cannot be built: %s", text)
  end
  local _, out = process.run({ binary, tostring(rounds) }, PATIENCE_S)
  return tonumber(out:match("add ([%d.]+)")), tonumber(out:match("record ([%d.]+)"))
end

local function scrape(server, format)
  local file = server.home .. "/scrape"
  local _, out = process.run({ "curl", "-s", "-o", file, "-w", "%{time_starttransfer}",
    "--unix-socket", server.socket, "http://x/metrics?format=" .. format }, PATIENCE_S)
  return tonumber(out) * 1e3, file
end

local function samples_in(file)
  local count, bytes = 0, 0
  for line in io.lines(file) do
    bytes = bytes + #line + 1
    count = count + (line:sub(1, 1) ~= "#" and 1 or 0)
  end
  return count, bytes
end

local KINDS = {
  { kind = "whole", label = "counters, whole numbers", lines = 1 },
  { kind = "fraction", label = "counters, thirds", lines = 1 },
  { kind = "histogram", label = "histograms", lines = LINES_PER_HISTOGRAM },
}

local function measure_scrapes(place, opts)
  local worst = 0
  print("| series | format | samples | KiB | ms |")
  print("|---|---|---:|---:|---:|")
  for _, one in ipairs(KINDS) do
    local server = start(place)
    ask(server, ("/fill/%s/%d"):format(one.kind, math.ceil(opts.series / one.lines)))
    for _, format in ipairs({ "prometheus", "openmetrics" }) do
      local times, file = {}, nil
      for i = 1, opts.rounds * 3 do
        times[i], file = scrape(server, format)
      end
      local count, bytes = samples_in(file)
      local ms = statistics.median(times)
      worst = math.max(worst, ms)
      print(("| %s | %s | %d | %d | %.2f |"):format(one.label, format, count, bytes / 1024, ms))
    end
    stop(server)
  end
  return worst
end

local function main()
  local opts = script.parse({ numbers = {
    rounds = { 7, 1, 100 }, series = { 10000, 100, 16000 },
  } })
  local place = { source = script.source,
    perilune = opts.perilune }
  local server = start(place)
  local nothing = lua_cost(server, "nothing", opts.rounds)
  local cost = {}
  for _, what in ipairs({ "add", "with", "record" }) do
    cost[what] = (lua_cost(server, what, opts.rounds) - nothing) * 1e9
  end
  stop(server)
  local c_add, c_record = c_costs(place, opts.rounds)
  print("| | compiled Lua, ns | C, ns |")
  print("|---|---:|---:|")
  print(("| counter:add | %.1f | %.1f |"):format(cost.add, c_add))
  print(("| counter:with(a, b):add | %.1f | |"):format(cost.with))
  print(("| histogram:record | %.1f | %.1f |"):format(cost.record, c_record))
  print()
  local worst = measure_scrapes(place, opts)
  print()
  print(("a record from Lua in at most %d ns: %s"):format(RECORD_NS_MAX,
    cost.record <= RECORD_NS_MAX and "met" or "NOT MET"))
  print(("%d series in at most %d ms: %s"):format(opts.series, SCRAPE_MS_MAX,
    worst <= SCRAPE_MS_MAX and "met" or "NOT MET"))
end

main()
