-- bench/harness/measure.lua - one server under one load, once: what it did and what it cost.
--
-- Every function is bounded in time. A server that is started here is stopped here, also when
-- something goes wrong in between: the caller hands over what to do meanwhile.

local client = require("client")
local process = require("process")
local scenarios = require("scenarios")

local READY_S_MAX = 15
local READY_POLL_S = 0.02
local WARM_UP_S = 1
local LOAD_SLACK_S = 20
local IDLE_SETTLE_S = 1
local IDLE_HOLD_S = 4
local IDLE_S_MAX = 120

local M = {}

---@class perilune.bench.Server a running one
---@field peer perilune.bench.Peer
---@field name string of this server in tables; differs where a peer is started twice
---@field pid integer
---@field port integer
---@field folder string
---@field access_log string? file
---@field requests integer answered under load so far

---@class perilune.bench.Setting of the whole run
---@field place perilune.bench.Place
---@field folder string temporary
---@field seconds number of one measurement
---@field server_core? integer nil: not pinned
---@field load_core? integer
---@field port integer the first one
---@field order_text string

local function output_of(folder)
  local parts = {}
  for _, name in ipairs({ "output", "error.log", "server.log" }) do
    local file = io.open(folder .. "/" .. name)
    if file then
      parts[#parts + 1] = file:read("*a"):sub(-2000)
      file:close()
    end
  end
  return table.concat(parts, "\n")
end

--- Starts a server and waits until it answers.
---@param setting perilune.bench.Setting
---@param peer perilune.bench.Peer
---@param start table how: access_log (true: a file in the server's folder; a string: that file),
--- name (default: the peer's); of Perilune also access_sample, launcher
---@return perilune.bench.Server? server
---@return string? err with what the server said
function M.start(setting, peer, start)
  local server = {
    peer = peer, name = start.name or peer.name, port = setting.port, requests = 0,
    access_sample = start.access_sample, launcher = start.launcher,
  }
  local access_log = start.access_log
  setting.port = setting.port + 1
  server.folder = ("%s/%s-%d"):format(setting.folder, peer.name, server.port)
  process.make_folder(server.folder)
  server.access_log = access_log == true and server.folder .. "/access.log" or access_log or nil

  local argv, env = peer.start(setting.place, server)
  server.pid = process.start({
    argv = argv,
    env = env,
    cwd = server.folder,
    core = setting.server_core,
    output = server.folder .. "/output",
  })
  local deadline = process.now() + READY_S_MAX
  while process.now() < deadline do
    if client.request(server.port, { path = "/", seconds_max = 1 }) then
      return server
    end
    if not process.is_running(server.pid) then
      return nil, ("%s ended at once:\n%s"):format(server.name, output_of(server.folder))
    end
    process.sleep(READY_POLL_S)
  end
  process.stop(server.pid)
  return nil, ("%s does not answer:\n%s"):format(server.name, output_of(server.folder))
end

---@param server perilune.bench.Server
---@return boolean clean
function M.stop(server)
  return process.stop(server.pid)
end

local function wrk(setting, scenario, server, seconds)
  local argv = {}
  if setting.load_core then
    argv = { "taskset", "-c", tostring(setting.load_core) }
  end
  local source = setting.place.source
  for _, arg in ipairs({
    "wrk", "-t1", "-c" .. scenario.connections, ("-d%ds"):format(seconds), "--timeout", "10s",
    "-s", source .. "/wrk.lua", ("http://127.0.0.1:%d%s"):format(server.port, scenario.path),
    "--", scenario.name, source .. "/order.json", setting.traced and "traced",
  }) do
    argv[#argv + 1] = arg
  end
  local ok, output = process.run(argv, seconds + LOAD_SLACK_S)
  local line = output:match("\nRESULT ([^\n]+)")
  if not ok or not line then
    return nil, "wrk failed: " .. output
  end
  local result = {}
  for name, number in line:gmatch("([%w_]+)=(%d+)") do
    result[name] = tonumber(number)
  end
  return result
end

-- CPU µs per request between two readings, whole and by process name.
local function cpu_between(before, after, requests)
  local sum = { user_us = 0, system_us = 0, by_process = {} }
  for pid, now in pairs(after) do
    local was = before[pid] or { user_s = 0, system_s = 0 }
    local user_us = (now.user_s - was.user_s) * 1e6 / requests
    local system_us = (now.system_s - was.system_s) * 1e6 / requests
    local part = sum.by_process[now.name] or { user_us = 0, system_us = 0 }
    part.user_us, part.system_us = part.user_us + user_us, part.system_us + system_us
    sum.by_process[now.name] = part
    sum.user_us, sum.system_us = sum.user_us + user_us, sum.system_us + system_us
  end
  sum.cpu_us = sum.user_us + sum.system_us
  return sum
end

---@class perilune.bench.Sample
---@field requests_per_s number
---@field p50_us number as wrk sees it: time that a request had to wait to be sent is not in it;
---  -1 in pipelined scenarios
---@field p99_us number
---@field user_us number CPU of all the server's processes per request
---@field system_us number
---@field cpu_us number their sum
---@field busy number CPU seconds of the server per second
---@field by_process table<string, { user_us: number, system_us: number }>

--- Puts a server under load once.
---@param setting perilune.bench.Setting
---@param scenario perilune.bench.Scenario
---@param server perilune.bench.Server
---@return perilune.bench.Sample? sample
---@return string? err
function M.load(setting, scenario, server)
  local before = process.cpu(server.pid)
  local result, err = wrk(setting, scenario, server, setting.seconds)
  if not result then
    return nil, err
  end
  local after = process.cpu(server.pid)
  if result.errors > 0 or result.refused > 0 or result.requests == 0 then
    return nil, ("%s in %s: %d requests, %d socket errors, %d refused\n%s"):format(server.name,
      scenario.name, result.requests, result.errors, result.refused, output_of(server.folder))
  end
  server.requests = server.requests + result.requests

  local sample = cpu_between(before, after, result.requests)
  local seconds = result.duration_us / 1e6
  sample.requests_per_s = result.requests / seconds
  sample.p50_us = scenario.is_pipelined and -1 or result.p50_us
  sample.p99_us = scenario.is_pipelined and -1 or result.p99_us
  sample.busy = sample.cpu_us * result.requests / 1e6 / seconds
  return sample
end

--- Checks a server's answers and warms it up.
---@param setting perilune.bench.Setting
---@param scenario perilune.bench.Scenario
---@param server perilune.bench.Server
---@return boolean ok
---@return string? err
function M.prepare(setting, scenario, server)
  local ok, fault = scenarios.check(scenario, server.port, setting.order_text)
  if not ok then
    return false, ("%s answers %s wrongly: %s\n%s"):format(server.name, scenario.name, fault,
      output_of(server.folder))
  end
  if scenario.name == "idle" then
    return true
  end
  local result, err = wrk(setting, scenario, server, WARM_UP_S)
  if not result then
    return false, err
  end
  server.requests = server.requests + result.requests
  return true
end

---@class perilune.bench.IdleSample
---@field rss_bytes number per connection
---@field pss_bytes number per connection
---@field before_pss_bytes number of the whole server without connections
---@field after_pss_bytes number
---@field closed number connections that the server ended meanwhile

--- Opens idle connections to a fresh server and measures what they add to its memory.
---@param setting perilune.bench.Setting
---@param scenario perilune.bench.Scenario
---@param server perilune.bench.Server
---@return perilune.bench.IdleSample? sample
---@return string? err
function M.idle(setting, scenario, server)
  local count = scenario.connections
  local argv = {
    "timeout", tostring(IDLE_S_MAX), setting.place.build .. "/idle",
    tostring(server.port), tostring(count), tostring(IDLE_HOLD_S),
  }
  local rss_before, pss_before = process.memory(server.pid)
  local pipe = assert(io.popen(process.line(argv) .. " 2>&1"))
  local line = pipe:read("*l")
  if line ~= "open " .. count then
    pipe:close()
    return nil, ("%s in idle: %s"):format(server.name, tostring(line))
  end
  process.sleep(IDLE_SETTLE_S)
  local rss, pss = process.memory(server.pid)
  local closed = (pipe:read("*l") or ""):match("^closed (%d+)$")
  pipe:close()
  return {
    rss_bytes = (rss - rss_before) / count,
    pss_bytes = (pss - pss_before) / count,
    before_pss_bytes = pss_before,
    after_pss_bytes = pss,
    closed = tonumber(closed),
  }
end

--- Builds what the harness itself needs.
---@param place perilune.bench.Place
---@return boolean ok
---@return string? err
function M.build(place)
  process.make_folder(place.build)
  local ok, output = process.run({
    "cc", "-std=gnu11", "-O2", place.source .. "/idle.c", "-o", place.build .. "/idle",
  })
  return ok, output
end

return M
