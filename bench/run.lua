-- bench/run.lua - compares Perilune with its peers and with the same server in plain C.
--
-- Usage: luajit bench/run.lua [SCENARIO ...] [options]      (see usage below)
--
-- Servers run on one core and the load on another, one server under load at a time, in turns, for
-- several rounds; printed are medians. Everything happens on 127.0.0.1; what is started here ends
-- here. Installs no package: it says which one is missing.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local measure = require("measure")
local peers = require("peers")
local process = require("process")
local report = require("report")
local scenarios = require("scenarios")
local script = require("script").new("bench", [[
usage: luajit bench/run.lua [SCENARIO ...] [options]

scenarios: plain plain16 api body big idle (default: all)

  --rounds N        measurements of each server and scenario (default 5)
  --seconds S       length of one measurement (default 4)
  --peers a,b       perilune baseline nginx h2o h2o-mruby go node fastify (default: these), and
                    perilune-nopreempt: with perilune, what preemption costs
  --access          instead of peers: Perilune with its access log on against off, in pairs
  --discard         with --access: the log goes to /dev/null, so that the price is Perilune's alone,
                    without the kernel's for a file's pages; lines are not counted
  --sample SHARE    with --access: log.access_sample of the one that logs; lines are not counted
  --against FILE    with --access: the launcher of the one that does not log, such as that of a
                    version that did not count or trace either: what all of that costs together
  --traced          requests have a traceparent
  --json FILE       write all samples and medians
  --svg FILE        write the picture
  --perilune FILE   the launcher (default build/release/bin/perilune)
  --build FOLDER    for what the peers need compiled (default build/bench)
  --unpacked FOLDER where nginx and h2o are unpacked (default build/peers)
  --port N          the first port used (default 18100)
  --no-pin          do not pin to cores
]])
local statistics = require("statistics")
local fail = script.fail

local ROUNDS_MAX, SECONDS_MAX = 100, 60
local IDLE_ROUNDS_MAX = 3

local ARGUMENTS = {
  numbers = {
    rounds = { 5, 1, ROUNDS_MAX }, seconds = { 4, 1, SECONDS_MAX }, port = { 18100, 1024, 60000 },
  },
  files = { build = "build/bench", unpacked = "build/peers", against = false },
  texts = { peers = true, json = true, svg = true, sample = true },
  flags = { access = true, discard = true, no_pin = true, traced = true },
  word = function(opts, word)
    opts.scenarios = opts.scenarios or {}
    table.insert(opts.scenarios, scenarios.find(word))
    return scenarios.find(word)
  end,
}

local function choose_peers(names)
  local chosen = {}
  if not names then
    for _, peer in ipairs(peers.list) do
      table.insert(chosen, not peer.is_extra and peer or nil)
    end
    return chosen
  end
  for name in names:gmatch("[^,]+") do
    table.insert(chosen, peers.find(name) or script.misuse("unknown peer %s", name))
  end
  return chosen
end

local function require_tools(place, chosen)
  local tools = "command -v wrk && command -v taskset && command -v cc"
  local ok = process.run({ "sh", "-c", tools }, 10)
  if not ok then
    fail("wrk, taskset and cc are needed: install wrk, util-linux and gcc")
  end
  for _, peer in ipairs(chosen) do
    local missing = peers.missing(peer, place)
    if missing then
      fail("%s is missing: %s, or leave it out with --peers", peer.label, missing)
    end
  end
end

local function build(place, chosen)
  local ok, err = measure.build(place)
  if not ok then
    fail("cannot build idle: %s", err)
  end
  for _, peer in ipairs(chosen) do
    if peer.prepare then
      ok, err = peer.prepare(place)
      if not ok then
        fail("cannot build %s: %s", peer.label, err)
      end
    end
  end
end

local function cpu_model()
  for line in io.lines("/proc/cpuinfo") do
    local model = line:match("^model name%s*:%s*(.*)")
    if model then
      return model
    end
  end
  return "?"
end

local function first_line(argv)
  local ok, output = process.run(argv, 10)
  return ok and output:match("[^\n]+") or "?"
end

local function describe(place, chosen, opts)
  local about = {
    date = os.date("!%Y-%m-%d %H:%M UTC"),
    commit = first_line({ "git", "-C", place.source, "describe", "--always", "--dirty" }),
    kernel = first_line({ "uname", "-sr" }),
    cpu = cpu_model(),
    cores = process.cpu_count(),
    rounds = opts.rounds,
    seconds = opts.seconds,
    traced = opts.traced,
    command = "luajit bench/run.lua " .. table.concat(arg, " "),
    versions = {},
  }
  for _, peer in ipairs(chosen) do
    about.versions[peer.name] = peer.version(place)
  end
  return about
end

local function print_about(about, chosen)
  print(("%s, commit %s, %s, %d cores (%s), %d rounds of %d s"):format(about.date, about.commit,
    about.kernel, about.cores, about.cpu, about.rounds, about.seconds))
  print(about.command)
  for _, peer in ipairs(chosen) do
    print(("  %-10s %s"):format(peer.name, about.versions[peer.name]))
  end
end

-- The stages of one scenario.

local function start_all(setting, scenario, starts)
  local servers = {}
  for _, start in ipairs(starts) do
    local server, err = measure.start(setting, start.peer, start)
    if not server then
      return nil, err, servers
    end
    table.insert(servers, server)
    local ok
    ok, err = measure.prepare(setting, scenario, server)
    if not ok then
      return nil, err, servers
    end
  end
  return servers
end

local function stop_all(servers)
  for _, server in ipairs(servers) do
    if not measure.stop(server) then
      io.stderr:write("bench: ", server.name, " had to be killed\n")
    end
  end
end

-- Each round begins with another server, so that none of them always comes after the same one.
local function in_turns(setting, scenario, servers, rounds)
  local samples = {}
  for _, server in ipairs(servers) do
    samples[server] = {}
  end
  for round = 1, rounds do
    for turn = 0, #servers - 1 do
      local server = servers[(round + turn - 1) % #servers + 1]
      local sample, err = measure.load(setting, scenario, server)
      if not sample then
        return nil, err
      end
      table.insert(samples[server], sample)
    end
    io.stderr:write(("%s: round %d of %d\n"):format(scenario.name, round, rounds))
  end
  return samples
end

local function result_of(scenario, servers, samples)
  local result = { scenario = { name = scenario.name, what = scenario.what }, servers = {} }
  for _, server in ipairs(servers) do
    table.insert(result.servers, {
      name = server.name,
      label = server.label or server.peer.label,
      median = statistics.medians(samples[server]),
      samples = samples[server],
    })
  end
  return result
end

local function run_load(setting, scenario, chosen, rounds)
  local starts = {}
  for _, peer in ipairs(chosen) do
    table.insert(starts, { peer = peer, access_log = scenario.access_log })
  end
  local servers, err, started = start_all(setting, scenario, starts)
  if not servers then
    stop_all(started)
    return nil, err
  end
  local samples
  samples, err = in_turns(setting, scenario, servers, rounds)
  stop_all(servers)
  if not samples then
    return nil, err
  end
  return result_of(scenario, servers, samples)
end

local function idle_once(setting, scenario, peer)
  local server, err = measure.start(setting, peer, {})
  if not server then
    return nil, err
  end
  local ok, sample
  ok, err = measure.prepare(setting, scenario, server)
  if ok then
    sample, err = measure.idle(setting, scenario, server)
  end
  stop_all({ server })
  return sample, err
end

local function run_idle(setting, scenario, chosen, rounds)
  local samples = {}
  for _ = 1, math.min(rounds, IDLE_ROUNDS_MAX) do
    for _, peer in ipairs(chosen) do
      local sample, err = idle_once(setting, scenario, peer)
      if not sample then
        return nil, err
      end
      samples[peer] = samples[peer] or {}
      table.insert(samples[peer], sample)
    end
  end
  local shown = {}
  for _, peer in ipairs(chosen) do
    local server = { name = peer.name, peer = peer }
    table.insert(shown, server)
    samples[server] = samples[peer]
  end
  return result_of(scenario, shown, samples)
end

local function peers_for(scenario, chosen)
  local able = {}
  for _, peer in ipairs(chosen) do
    if not peer.scenarios or peer.scenarios[scenario.name] then
      table.insert(able, peer)
    end
  end
  return able
end

local function compare_peers(setting, chosen, opts)
  local results, by_name = {}, {}
  for _, scenario in ipairs(opts.scenarios) do
    local able = peers_for(scenario, chosen)
    if #able > 0 then
      local run = scenario.name == "idle" and run_idle or run_load
      local result, err = run(setting, scenario, able, opts.rounds)
      if not result then
        return nil, err
      end
      report.print(result)
      table.insert(results, result)
      by_name[scenario.name] = result
    end
  end
  report.print_targets(by_name)
  return results
end

-- The access log's price: the same server twice.

local function count_lines(path)
  local _, output = process.run({ "wc", "-l", path }, 120)
  return tonumber(output:match("%d+")) or 0
end

local function print_price(scenario, samples, on, off)
  local cpu, rate, p99 = {}, {}, {}
  for i = 1, #samples[on] do
    cpu[i] = samples[on][i].cpu_us / samples[off][i].cpu_us
    rate[i] = samples[on][i].requests_per_s / samples[off][i].requests_per_s
    p99[i] = samples[on][i].p99_us / samples[off][i].p99_us
  end
  print(("on / off in %s, medians of %d pairs: CPU per request %.3f, requests/s %.3f, P99 %.3f")
    :format(scenario.name, #cpu, statistics.median(cpu), statistics.median(rate),
      statistics.median(p99)))
end

local function access_once(setting, scenario, opts)
  local peer = peers.find("perilune")
  local servers, err, started = start_all(setting, scenario, {
    { peer = peer, access_log = opts.discard and "/dev/null" or true, name = "log on",
      access_sample = opts.sample },
    { peer = peer, access_log = false, name = "log off", launcher = setting.place.against },
  })
  if not servers then
    stop_all(started)
    return nil, err
  end
  local on, off = servers[1], servers[2]
  on.label, off.label = "access log on", "access log off"
  local samples
  samples, err = in_turns(setting, scenario, servers, opts.rounds)
  stop_all(servers)
  if not samples then
    return nil, err
  end
  local result = result_of(scenario, servers, samples)
  report.print(result)
  print_price(scenario, samples, on, off)
  if opts.discard or opts.sample then
    return result
  end
  -- The log also holds the answers to the checks and to what wrk left unread at its end.
  local lines = count_lines(on.access_log)
  print(("%d requests measured, %d lines in the log: %s"):format(on.requests, lines,
    lines >= on.requests and "none is missing" or (on.requests - lines) .. " ARE MISSING"))
  os.remove(on.access_log)
  return result
end

local function compare_access(setting, opts)
  local results = {}
  for _, scenario in ipairs(opts.scenarios) do
    local result, err = access_once(setting, scenario, opts)
    if not result then
      return nil, err
    end
    table.insert(results, result)
  end
  return results
end

local function default_scenarios(opts)
  if opts.scenarios then
    return opts.scenarios
  elseif opts.access then
    return { scenarios.find("plain"), scenarios.find("plain16"), scenarios.find("api") }
  end
  return scenarios.list
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function main()
  local opts = script.parse(ARGUMENTS)
  local place = {
    source = script.source,
    build = opts.build,
    unpacked = opts.unpacked,
    perilune = opts.perilune,
    against = opts.against,
  }
  opts.scenarios = default_scenarios(opts)
  local chosen = opts.access and { peers.find("perilune") } or choose_peers(opts.peers)
  require_tools(place, chosen)
  build(place, chosen)

  local pin = not opts.no_pin and process.cpu_count() >= 2
  local setting = {
    place = place,
    folder = process.make_temp_folder(),
    seconds = opts.seconds,
    server_core = pin and 0 or nil,
    load_core = pin and 1 or nil,
    port = opts.port,
    order_text = read(script.source .. "/order.json"),
  }
  local about = describe(place, chosen, opts)
  print_about(about, chosen)

  local ok, results, err = pcall(opts.access and compare_access or compare_peers, setting,
    opts.access and opts or chosen, opts)
  process.run({ "rm", "-rf", setting.folder }, 60)
  if not ok or not results then
    fail("%s", tostring(err or results))
  end
  if opts.json then
    report.write_json(opts.json, { about = about, results = results })
  end
  if opts.svg then
    report.write_svg(opts.svg, results, ("%s, commit %s, %s, %d cores"):format(about.date,
      about.commit, about.cpu, about.cores))
  end
end

main()
