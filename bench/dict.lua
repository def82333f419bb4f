-- bench/dict.lua - P.shared.dict beside nginx's lua_shared_dict: operations per second in one
-- worker, and in two at once.
--
-- Usage: luajit bench/dict.lua [--rounds N] [--seconds N] [--perilune FILE] [WORK ...]
--
-- Both servers run all the time, with two workers, each pinned to a core; one of them is measured
-- at a time, in turns. The work (apps/dict/work.lua) is a loop inside a handler, the same Lua in
-- both: requests per second are run.lua's. nginx is what `.ci/setup bench` has unpacked.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local peers = require("peers")
local process = require("process")
local script = require("script").new("dict", [[
usage: luajit bench/dict.lua [--rounds N] [--seconds N] [--perilune FILE] [WORK ...]
]])
local statistics = require("statistics")
local swarm = require("swarm")
local fail = script.fail

local WORKS = { "get", "set", "mixed", "incr", "get_1k", "set_1k", "mixed_1k" }
local LABELS = {
  get = "get, 32 bytes", set = "set, 32 bytes", mixed = "3 get : 1 set, 32 bytes",
  incr = "incr", get_1k = "get, 1 KiB", set_1k = "set, 1 KiB",
  mixed_1k = "3 get : 1 set, 1 KiB",
}
local RATIO_MIN = 3
local BOUND = { get = true, set = true, mixed = true } -- what the ratio is asked of
local PORT = 18790
local WARM_S = 0.2
local PATIENCE_S = 20
local CONNECTIONS_MAX = 64

local ARGUMENTS = {
  numbers = { rounds = { 5, 1, 100 }, seconds = { 1, 0.1, 60, fraction = true } },
  word = function(opts, word)
    opts.works = opts.works or {}
    table.insert(opts.works, LABELS[word] and word)
    return LABELS[word]
  end,
}

-- The servers ---------------------------------------------------------------------------

local function perilune_argv(place, port, home)
  return {
    place.perilune, "run", place.source .. "/apps/dict", "--listen", "127.0.0.1:" .. port,
    "--workers", "2", "--name", "dict-" .. port, "--set", "log.output=" .. home .. "/log",
  }, { XDG_RUNTIME_DIR = home }
end

local SIDES = {
  { name = "perilune", port = PORT, argv = perilune_argv },
  { name = "nginx", port = PORT + 1, argv = peers.nginx_dict },
}

--- Sends a request and waits for its answer.
local function ask(clients, conn, target)
  local due = process.now() + PATIENCE_S
  clients:send(conn, swarm.request("GET", target), true)
  while conn.tag and conn.fd >= 0 and process.now() < due do
    clients:wait(0.1)
  end
  local reply = conn.reply
  conn.reply = nil
  if not reply or reply.status ~= 200 then
    fail("%s: %s", target, reply and reply.status .. ": " .. reply.body:sub(1, 300) or "no answer")
  end
  return reply.body
end

local function pin(pid, core)
  assert(process.run({ "taskset", "-p", "-c", tostring(core), tostring(pid) }, 5))
end

--- One connection to each of both workers, which are pinned.
local function meet(side)
  local by_pid, list = {}, {}
  for _ = 1, CONNECTIONS_MAX do
    local conn = assert(side.clients:connect())
    local pid = tonumber(ask(side.clients, conn, "/pid"))
    if by_pid[pid] then
      side.clients:close(conn)
    else
      by_pid[pid] = true
      list[#list + 1] = conn
      pin(pid, #list - 1)
      if #list == 2 then
        side.conns = list
        return
      end
    end
  end
  fail("%s: no connection to both workers", side.name)
end

local function start(side, place, home)
  local own = home .. "/" .. side.name
  process.make_folder(own)
  local argv, env = side.argv(place, side.port, own)
  side.pid = process.start({ argv = argv, env = env, output = own .. "/output" })
  side.clients = swarm.new(side.port, function(conn, reply)
    conn.reply = reply
  end, function() end)
  local due = process.now() + PATIENCE_S
  repeat
    local conn = side.clients:connect()
    if conn then
      side.clients:close(conn)
      return meet(side)
    end
    process.sleep(0.05)
  until process.now() > due or not process.is_running(side.pid)
  local file = io.open(own .. "/output")
  fail("%s did not start: %s", side.name, file and file:read("*a") or "")
end

-- Measuring ------------------------------------------------------------------------------

--- Operations per second of one worker, or of both together.
local function measure(side, what, workers, seconds)
  local clients, total = side.clients, 0
  ask(clients, side.conns[1], "/prepare/" .. what)
  local target = ("/run/%s?start=%.6f&seconds=%g"):format(what, process.now() + WARM_S, seconds)
  for i = 1, workers do
    clients:send(side.conns[i], swarm.request("GET", target), true)
  end
  local due = process.now() + PATIENCE_S + seconds
  for i = 1, workers do
    local conn = side.conns[i]
    while conn.tag and process.now() < due do
      clients:wait(0.1)
    end
    total = total + (tonumber(conn.reply and conn.reply.body) or fail("%s: %s: %s", side.name, what,
      conn.reply and conn.reply.body:sub(1, 300) or "no answer"))
    conn.reply = nil
  end
  return total
end

local function print_table(opts, samples)
  local met = true
  print("| work | workers | Perilune, million/s | lua_shared_dict, million/s | ratio |")
  print("|---|---:|---:|---:|---:|")
  for _, what in ipairs(opts.works) do
    for workers = 1, 2 do
      local mine = statistics.median(samples.perilune[what][workers]) / 1e6
      local theirs = statistics.median(samples.nginx[what][workers]) / 1e6
      print(("| %s | %d | %.2f (%.0f ns) | %.2f (%.0f ns) | %.1f |"):format(LABELS[what], workers,
        mine, workers * 1e3 / mine, theirs, workers * 1e3 / theirs, mine / theirs))
      met = met and (not BOUND[what] or mine / theirs >= RATIO_MIN)
    end
  end
  print(("at least %d times lua_shared_dict's operations per second (32 bytes): %s"):format(
    RATIO_MIN, met and "met" or "NOT MET"))
end

local function main()
  local opts = script.parse(ARGUMENTS)
  opts.works = opts.works or WORKS
  local place = {
    source = script.source, unpacked = script.source .. "/../build/peers",
    perilune = opts.perilune,
  }
  local home, samples = process.make_temp_folder(), {}
  for _, side in ipairs(SIDES) do
    start(side, place, home)
    samples[side.name] = {}
    for _, what in ipairs(opts.works) do
      samples[side.name][what] = { {}, {} }
    end
  end
  for round = 1, opts.rounds do
    for _, what in ipairs(opts.works) do
      for workers = 1, 2 do
        for turn = 0, 1 do
          local side = SIDES[(round + turn) % 2 + 1]
          local rate = measure(side, what, workers, opts.seconds)
          table.insert(samples[side.name][what][workers], rate)
        end
      end
    end
    io.stderr:write(("round %d of %d\n"):format(round, opts.rounds))
  end
  for _, side in ipairs(SIDES) do
    process.stop(side.pid)
  end
  process.run({ "rm", "-rf", home }, 20)
  print_table(opts, samples)
end

main()
