-- bench/soak/otlp.lua - a collector that goes away for a while, under a constant load.
--
-- Three parts of equal length: with the collector, without it, and with another one on its port.
-- Every request must be answered as it should be; the latencies of the parts are told side by side.
-- Some requests fail: each of these must have its trace in one of the collectors, once, as far as
-- the queue reaches; what is missing is counted. Memory must not grow past rings and queue.
--
-- The collector is spec/support/otlp/collector.py, which decodes what it gets by Google's protobuf.

local client = require("client")
local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local PYTHON = "/usr/bin/python3"
local FAIL_EVERY = 200 -- requests; well below what all traces would be kept for
local DRAIN_S_MAX = 60
local SETTLE_S_MAX = 90 -- the wait before a retry is up to 32 s
local GROWTH_MIB_MAX = 32 -- rings and queue, while there is no collector
local PARTS = { "with", "without", "again" }

local APP = [[
local app = require("perilune").app {}
app:get("/quick", function() return "ok" end)
app:get("/fail", function() error("it fails") end)
return app
]]

local M = {}

local function wait_for(file, pattern)
  local due = process.now() + 20
  while process.now() < due do
    local found = (server.read(file) or ""):match(pattern)
    if found then
      return found
    end
    process.sleep(0.02)
  end
  error("no " .. pattern .. " in " .. (server.read(file) or ""))
end

local function start_collector(opts, name, port)
  local output = opts.folder .. "/" .. name
  local pid = process.start({ output = output,
    argv = { PYTHON, opts.source .. "/../spec/support/otlp/collector.py", port } })
  return { pid = pid, port = tonumber(wait_for(output, "port (%d+)")) }
end

--- What a collector has: spans of failed requests, all spans, faults.
local function ask_collector(collector)
  local reply = assert(client.request(collector.port, { path = "/names", seconds_max = 30 }))
  return { fails = tonumber(reply.body:match('"GET /fail": (%d+)') or 0),
    spans = tonumber(reply.body:match('"spans": (%d+)')),
    faults = tonumber(reply.body:match('"faults": (%d+)')) }
end

local function write_app(folder)
  process.make_folder(folder)
  local file = assert(io.open(folder .. "/app.lua", "w"))
  file:write(APP)
  file:close()
  return folder
end

--- The numbers of traces that the server tells.
local function ask_server(running)
  local text = assert(client.request(running.admin, { path = "/metrics", seconds_max = 30 })).body
  local dropped = 0
  for reason, count in text:gmatch(
    '\nperilune_otlp_dropped_total{signal="traces",reason="(%w+)"} (%d+)') do
    dropped = dropped + tonumber(count)
    if tonumber(count) > 0 then
      print(("dropped: %d spans, %s"):format(count, reason))
    end
  end
  return { dropped = dropped, exported = tonumber(
    text:match('\nperilune_otlp_exported_total{signal="traces"} (%d+)')) }
end

local function memory_mib(running)
  local _, pss_bytes = process.memory(running.pid)
  return pss_bytes / 1048576
end

local function drive(running, opts, state, change)
  local pending, free, clients, part = 0, {}, nil, 1
  local part_s = opts.seconds / #PARTS

  local function on_reply(conn, reply, tag)
    pending = pending - 1
    free[#free + 1] = conn
    if reply.status ~= (tag.fails and 500 or 200) then
      state.wrong = state.wrong + 1
      return
    end
    state.answers = state.answers + 1
    table.insert(state.latencies[tag.part], process.now() - tag.due)
  end

  local function on_lost(_, tag)
    state.wrong = state.wrong + 1
    pending = pending - (tag and 1 or 0)
    free[#free + 1] = assert(clients:connect())
  end

  clients = swarm.new(running.port, on_reply, on_lost)
  for i = 1, opts.connections do
    free[i] = assert(clients:connect())
  end
  local sent = open_loop.run(clients, {
    rate = opts.rate or 2000, seconds = opts.seconds, drain_s_max = DRAIN_S_MAX,
    pending = function() return pending end,
    send = function(i, due)
      local conn = table.remove(free, 1)
      if not conn then
        return false
      end
      local fails = i % FAIL_EVERY == 0
      state.fails = state.fails + (fails and 1 or 0)
      pending = pending + 1
      clients:send(conn, swarm.request("GET", fails and "/fail" or "/quick"),
        { due = due, part = part, fails = fails })
      return true
    end,
    on_turn = function(now, begin)
      local at = math.min(#PARTS, math.floor(math.max(0, now - begin) / part_s) + 1)
      while part < at do
        state.pss[part] = memory_mib(running)
        part = part + 1
        change(part)
      end
    end,
  })
  state.pss[#PARTS] = memory_mib(running)
  clients:close_all()
  return sent
end

local function print_parts(state)
  for part, name in ipairs(PARTS) do
    local latencies = state.latencies[part]
    table.sort(latencies)
    print(("%-8s %7d answers, P50 %.2f ms, P99 %.2f ms, longest %.0f ms; memory of all processes "
      .. "%.1f MiB"):format(name, #latencies, open_loop.percentile(latencies, 50) * 1e3,
      open_loop.percentile(latencies, 99) * 1e3, open_loop.percentile(latencies, 100) * 1e3,
      state.pss[part]))
  end
end

--- Waits until the queue is empty: all that was not dropped has arrived.
local function settle(state, last)
  local due = process.now() + SETTLE_S_MAX
  local got
  repeat
    process.sleep(1)
    got = ask_collector(last)
  until state.first.fails + got.fails >= state.fails or process.now() > due
  return got
end

local function check(state, got, told)
  local fails, spans = state.first.fails + got.fails, state.first.spans + got.spans
  local missing = state.fails - fails
  print(("traces: %d of %d failed requests have one; %d spans arrived, the server says %d; %d "
    .. "dropped"):format(fails, state.fails, spans, told.exported, told.dropped))
  print(("memory: %.1f MiB more without a collector"):format(state.pss[2] - state.pss[1]))
  return missing >= 0 and missing <= told.dropped and spans >= told.exported
    and state.first.faults + got.faults == 0 and state.pss[2] - state.pss[1] <= GROWTH_MIB_MAX
end

--- Runs the load while a collector goes away and comes back.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local first = start_collector(opts, "first")
  local settings = { "otlp.endpoint=http://127.0.0.1:" .. first.port, "admin.listen=127.0.0.1:0" }
  for _, pair in ipairs(opts.settings or {}) do
    settings[#settings + 1] = pair
  end
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = write_app(opts.folder .. "/app"), workers = opts.workers or 2,
    library = opts.library, settings = settings,
  }))
  running.admin = tonumber(wait_for(running.output, "admin plane on http://127%.0%.0%.1:(%d+)"))
  local state = { answers = 0, wrong = 0, fails = 0, latencies = { {}, {}, {} }, pss = {} }
  local second
  local sent = drive(running, opts, state, function(part)
    if part == 2 then
      state.first = ask_collector(first)
      process.stop(first.pid)
    else
      second = start_collector(opts, "second", tostring(first.port))
    end
  end)
  local got = settle(state, second)
  local told = ask_server(running)
  if not server.stop(running) then
    state.wrong = state.wrong + 1
    print("WRONG the server did not stop")
  end
  process.stop(second.pid)
  print_parts(state)
  local ok = check(state, got, told)
  print(("otlp-down: %d sent, %d answered, %d wrong"):format(sent, state.answers, state.wrong))
  return ok and state.wrong == 0 and state.answers == sent
end

return M
