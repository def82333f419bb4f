-- bench/log.lua - what a call of P.log costs, and what overload of the log does to requests.
--
-- Usage: luajit bench/log.lua [--rounds N] [--seconds N] [--rate N] [--perilune FILE]
--
-- Calls: a million of each kind in compiled code, in batches that the ring has room for; beside
-- them a line of JSON by lua-cjson and io.write, which is what one would write without P.log.
--
-- Overload: `rate` requests a second, each with 400 records, of which one is an error, against two
-- servers in turns: one whose log is a file, and one whose log is a FIFO that is read ten times
-- too slowly. Afterwards each record is looked for: written, or told as dropped.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("log", [[
usage: luajit bench/log.lua [--rounds N] [--seconds N] [--rate N] [--perilune FILE]
]])
local statistics = require("statistics")
local swarm = require("swarm")
local fail = script.fail

local PORT = 18794
local PATIENCE_S = 60
local CONNECTIONS = 16
local BATCH, BATCHES = 5000, 200
local RECORDS = 400 -- of a request
local LINE_BYTES = 230 -- of one of them, about
local OVERLOAD = 10
local LEVELS = { "debug", "info", "warn", "error" }
local WAYS = {
  { "pairs", "names and values in turn" }, { "table", "a table" }, { "bare", "without fields" },
  { "below", "below `log.level`" }, { "cjson", "cjson and io.write, to /dev/null" },
}

local function touch(path)
  assert(io.open(path, "w")):close()
end

-- The servers ---------------------------------------------------------------------------

local function start_reader(side, place, opts)
  local fifo = side.home .. "/fifo"
  assert(process.run({ "mkfifo", fifo }, 5))
  local rate = math.floor(opts.rate * RECORDS * LINE_BYTES / OVERLOAD)
  side.reader = process.start({ output = side.home .. "/reader",
    argv = { "luajit", place.source .. "/harness/trickle.lua", fifo, side.log, tostring(rate),
      side.home .. "/until" } })
  process.sleep(0.2)
  return fifo
end

local function start(side, place, opts)
  side.home = place.home .. "/" .. side.name
  side.log = side.home .. "/log"
  process.make_folder(side.home)
  local output = side.slow and start_reader(side, place, opts) or side.log
  side.pid = process.start({ output = side.home .. "/output", env = { XDG_RUNTIME_DIR = side.home },
    argv = { place.perilune, "run", place.source .. "/apps/log", "--listen",
      "127.0.0.1:" .. side.port, "--workers", "1", "--name", "log-" .. side.port, "--set",
      "log.output=" .. output, "--set", "log.level=" .. side.level,
      "--set", "timeouts.idle=1h" } })
  side.clients = swarm.new(side.port, function(conn, reply, tag)
    conn.reply = reply
    if type(tag) == "function" then
      tag(reply)
    end
  end, function(_, _, why) fail("%s: a connection was lost: %s", side.name, why) end)
  local due = process.now() + PATIENCE_S
  while not side.clients:connect() do
    if process.now() > due or not process.is_running(side.pid) then
      fail("%s did not start", side.name)
    end
    process.sleep(0.05)
  end
  for _ = 2, CONNECTIONS do
    assert(side.clients:connect())
  end
end

local function ask(side, target)
  local conn, due = side.clients.conns[1], process.now() + PATIENCE_S
  side.clients:send(conn, swarm.request("GET", target), true)
  while conn.tag and process.now() < due do
    side.clients:wait(0.1)
  end
  if not conn.reply or conn.reply.status ~= 200 then
    fail("%s: %s: %s", side.name, target, conn.reply and conn.reply.body:sub(1, 300) or "no answer")
  end
  side.asked = (side.asked or 0) + 1
  return conn.reply.body
end

--- Ends a server and reads its log: how many records of each level were written, and dropped.
local function finish(side)
  side.issued = ask(side, "/issued")
  if side.reader then
    touch(side.home .. "/until")
    process.sleep(1)
  end
  side.clients:close_all()
  process.stop(side.pid)
  while side.reader and process.is_running(side.reader) do
    process.sleep(0.05)
  end
  local sums = { written = {}, dropped = {}, requests = 0 }
  for _, level in ipairs(LEVELS) do
    sums.written[level], sums.dropped[level] = 0, 0
  end
  for line in io.lines(side.log) do
    local level = line:match('"level":"(%l+)"')
    if line:find('"msg":"a step"', 1, true) or line:find('"msg":"note saved"', 1, true) then
      sums.written[level] = sums.written[level] + 1
    elseif line:find('"msg":"request"', 1, true) then
      sums.requests = sums.requests + 1
    elseif line:find('"msg":"log records dropped', 1, true) then
      for _, each in ipairs(LEVELS) do
        local count = tonumber(line:match('"' .. each .. '":(%d+)')) or 0
        sums.dropped[each] = sums.dropped[each] + count
      end
    end
  end
  return sums
end

-- Measuring ------------------------------------------------------------------------------

--- Milliseconds from when each request was due to its answer.
local function load(side, opts)
  local clients, times = side.clients, {}
  local from, count = process.now() + 0.05, math.floor(opts.rate * opts.seconds)
  local sent, request = 0, swarm.request("GET", "/burst")
  while #times < count do
    local now, due = process.now(), from + sent / opts.rate
    if now > from + opts.seconds + PATIENCE_S then
      fail("%s: %d of %d requests were answered", side.name, #times, count)
    end
    local free
    for _, conn in ipairs(clients.conns) do
      free = free or (not conn.tag and conn)
    end
    if sent < count and now >= due and free then
      sent = sent + 1
      clients:send(free, request, function(reply)
        if reply.status ~= 200 then
          fail("%s: status %d", side.name, reply.status)
        end
        times[#times + 1] = (process.now() - due) * 1e3
      end)
    else
      clients:wait(sent < count and free and due - now or 0.1)
    end
  end
  side.asked = side.asked + count
  table.sort(times)
  return { p50 = times[math.ceil(count / 2)], p99 = times[math.ceil(count * 0.99)] }
end

local function calls(place, opts)
  local side = { name = "calls", port = PORT, level = "info" }
  start(side, place, opts)
  print("| a call with five fields | ns, median batch | ns, slow batch | bytes |")
  print("|---|---:|---:|---:|")
  for _, way in ipairs(WAYS) do
    local body = ask(side, ("/call/%s?count=%d&batches=%d"):format(way[1], BATCH, BATCHES))
    print(("| %s | %.0f | %.0f | %.2f |"):format(way[2], tonumber(body:match('"ns":([%d.]+)')),
      tonumber(body:match('"ns_p99":([%d.]+)')), tonumber(body:match('"bytes":([%d.e+-]+)'))))
  end
  local sums = finish(side)
  for _, level in ipairs(LEVELS) do
    if sums.dropped[level] > 0 then
      print(("NOT ALL OF IT WAS WRITTEN: %d %s records dropped"):format(sums.dropped[level], level))
    end
  end
end

local function print_sums(side, sums)
  print(("\n%s: %d requests, %d of them in the log\n"):format(side.label, side.asked,
    sums.requests))
  print("| level | issued | written | dropped | missing |")
  print("|---|---:|---:|---:|---:|")
  for _, level in ipairs(LEVELS) do
    local issued = tonumber(side.issued:match('"' .. level .. '":(%d+)'))
    local written, dropped = sums.written[level], sums.dropped[level]
    if level == "info" then -- requests are dropped with them
      issued, written = issued + side.asked, written + sums.requests
    end
    print(("| %s | %d | %d | %d | %d |"):format(level, issued, written, dropped,
      issued - written - dropped))
  end
end

local function overload(place, opts)
  local sides = {
    { name = "file", label = "a log that keeps up", port = PORT + 1, level = "debug" },
    { name = "fifo", label = "a log that is ten times too slow", port = PORT + 2, level = "debug",
      slow = true },
  }
  local samples = { file = {}, fifo = {} }
  for _, side in ipairs(sides) do
    start(side, place, opts)
    ask(side, "/burst")
    load(side, { rate = opts.rate, seconds = 2 })
  end
  for round = 1, opts.rounds do
    for turn = 0, 1 do
      local side = sides[(round + turn) % 2 + 1]
      table.insert(samples[side.name], load(side, opts))
    end
    io.stderr:write(("round %d of %d\n"):format(round, opts.rounds))
  end
  local full = ask(sides[2], ("/call/pairs?count=%d&batches=%d"):format(BATCH * 10, 20))
  print("\n| requests | P50, ms | P99, ms |")
  print("|---|---:|---:|")
  for _, side in ipairs(sides) do
    local median = statistics.medians(samples[side.name])
    print(("| %s | %.2f | %.2f |"):format(side.label, median.p50, median.p99))
  end
  print(("\na call whose record is dropped: %.0f ns"):format(tonumber(full:match('"ns":([%d.]+)'))))
  for _, side in ipairs(sides) do
    print_sums(side, finish(side))
  end
end

local function main()
  local opts = script.parse({ numbers = {
    rounds = { 3, 1, 100 }, seconds = { 10, 1, 600 }, rate = { 100, 1, 10000 },
  } })
  local place = { source = script.source, home = process.make_temp_folder(),
    perilune = opts.perilune }
  calls(place, opts)
  overload(place, opts)
  process.run({ "rm", "-rf", place.home }, 20)
end

main()
