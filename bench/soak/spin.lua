-- bench/soak/spin.lua - neighbours of handlers that never end: quick requests at a fixed rate,
-- without and with 1 % of requests that loop until their deadline of 1 s, in turns.
--
-- All others must succeed, each bad one must get 503, and the others' P99 may be higher by
-- SLICES_MAX slices. Latencies count from when a request was due, not from when it was sent. How
-- late the clients were themselves is printed too: on a machine that is busy with something else,
-- that is in the latencies.

local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local statistics = require("statistics")
local swarm = require("swarm")

local BAD_EVERY = 100
local BAD_PATHS = { "/spin", "/spin-pcall" }
local DRAIN_S_MAX = 20
local SLICES_MAX = 3
local WRONG_SHOWN_MAX = 20
local WARM_UP_S = 1

local M = {}

local function measure(port, rate, seconds, has_bad)
  local sample = { latencies = {}, late = {}, good = 0, bad = 0, wrong = 0, slowest_bad_s = 0 }
  local pending, free = 0, {}
  local clients

  local function complain(format, ...)
    sample.wrong = sample.wrong + 1
    if sample.wrong <= WRONG_SHOWN_MAX then
      print("WRONG " .. format:format(...))
    end
  end

  local function on_reply(conn, reply, tag)
    local now = process.now()
    pending = pending - 1
    free[#free + 1] = conn
    if tag.is_bad then
      sample.bad = sample.bad + 1
      sample.slowest_bad_s = math.max(sample.slowest_bad_s, now - conn.sent_at)
      if reply.status ~= 503 then
        complain("%s: status %d", tag.path, reply.status)
      end
      return
    end
    sample.good = sample.good + 1
    table.insert(sample.latencies, now - tag.due)
    if reply.status ~= 200 or reply.body ~= "quick" then
      complain("/quick: status %d", reply.status)
    end
  end

  local function on_lost(_, tag, why)
    if tag then
      pending = pending - 1
      complain("%s: the connection was lost: %s", tag.path, why)
    end
  end

  clients = swarm.new(port, on_reply, on_lost)
  local requests = { ["/quick"] = swarm.request("GET", "/quick") }
  for _, path in ipairs(BAD_PATHS) do
    requests[path] = swarm.request("GET", path)
  end
  open_loop.run(clients, {
    rate = rate, seconds = seconds, drain_s_max = DRAIN_S_MAX,
    pending = function() return pending end,
    send = function(i, due)
      local conn = table.remove(free)
      while conn and conn.fd < 0 do
        conn = table.remove(free)
      end
      conn = conn or assert(clients:connect())
      local is_bad = has_bad and i % BAD_EVERY == 0
      local path = is_bad and BAD_PATHS[i / BAD_EVERY % #BAD_PATHS + 1] or "/quick"
      pending = pending + 1
      table.insert(sample.late, process.now() - due)
      clients:send(conn, requests[path], { due = due, is_bad = is_bad, path = path })
      return true
    end,
  })
  if pending > 0 then
    complain("%d requests were never answered", pending)
  end
  clients:close_all()
  table.sort(sample.latencies)
  table.sort(sample.late)
  sample.late_p99 = open_loop.percentile(sample.late, 99)
  sample.p50, sample.p99 = open_loop.percentile(sample.latencies, 50),
    open_loop.percentile(sample.latencies, 99)
  sample.p999, sample.most = open_loop.percentile(sample.latencies, 99.9),
    sample.latencies[#sample.latencies] or 0
  return sample
end

local function print_sample(what, sample)
  print(("%-12s %7d quick, %4d bad, P50 %6.2f ms, P99 %6.2f, P99.9 %6.2f, most %6.2f, "
    .. "slowest 503 %.2f s; clients late P99 %.2f ms"):format(what, sample.good, sample.bad,
    sample.p50 * 1e3, sample.p99 * 1e3, sample.p999 * 1e3, sample.most * 1e3,
    sample.slowest_bad_s, sample.late_p99 * 1e3))
  io.stdout:flush()
end

local function slice_of(opts)
  for i = #opts.settings, 1, -1 do
    local digits, unit = opts.settings[i]:match("^vm%.slice=([%d.]+)(%a*)$")
    if digits then
      return tonumber(digits) * (unit == "ms" and 1e-3 or 1)
    end
  end
  return 0.010
end

--- Runs the pairs of measurements.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local pinned = process.cpu_count() >= 2 and (opts.workers or 1) == 1
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = opts.app, workers = opts.workers or 1,
    library = opts.library, settings = opts.settings, core = pinned and 0 or nil,
  }))
  local rate, slice = opts.rate or 1000, slice_of(opts)
  local without, with, wrong = {}, {}, 0

  if pinned then
    process.pin(1)
  end
  print(("spin: %d requests/s, 1 %% of them bad, slice %.0f ms, %d worker(s)%s"):format(rate,
    slice * 1e3, opts.workers or 1, pinned and ", server and clients on a core each" or ""))
  measure(running.port, rate, WARM_UP_S, true)
  for round = 1, opts.rounds do
    for turn = 0, 1 do
      local has_bad = (round + turn) % 2 == 0
      local sample = measure(running.port, rate, opts.seconds, has_bad)
      print_sample(has_bad and "with bad" or "without", sample)
      table.insert(has_bad and with or without, sample.p99)
      wrong = wrong + sample.wrong
    end
  end
  if not server.stop(running) then
    wrong = wrong + 1
    print("WRONG the server did not stop")
  end
  server.print_records(running)
  local slices = (statistics.median(with) - statistics.median(without)) / slice
  print(("spin: P99 with %.2f ms, without %.2f ms (medians of %d): %.2f slices apart (at most %d), "
    .. "%d wrong"):format(statistics.median(with) * 1e3, statistics.median(without) * 1e3,
    opts.rounds, slices, SLICES_MAX, wrong))
  return wrong == 0 and slices <= SLICES_MAX
end

return M
