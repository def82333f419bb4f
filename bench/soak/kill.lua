-- bench/soak/kill.lua - a worker is killed every second, under a constant load; in the scenario
-- log-kill also, at random points, the process that writes the log.
--
-- Only requests that were under way on connections of a killed worker may fail; every other one
-- must succeed, and every answer that a client has got must have its access record in the log,
-- once. Handlers take up to 20 ms, so that there is always something under way.
--
-- Which worker has a connection is known from its answers, which hold the pid; of a connection that
-- has none yet it is not, so that one may fail if any worker has been killed since it was opened.

local ffi = require("ffi")
local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local KILL_EVERY_S = 1
local DRAIN_S_MAX = 60
local PROGRESS_S = 5
local WRONG_SHOWN_MAX = 20
local SLEEPS_MS = 21 -- request i sleeps for i % that
local CONTROL_EVERY_S = { 0.5, 1.2 } -- at random between the two; sooner it isn't started at once
local SIGKILL = 9

local M = {}

---@class perilune.soak.Kills
---@field times table<integer, number> when each worker was killed, by pid
---@field count integer
---@field waiting table[] { pid, at } killed, and no new worker has answered since
---@field gaps number[] seconds from a kill to the first answer of a new worker

local function new_state()
  return {
    answers = 0, lost = 0, lost_new = 0, idle_closed = 0, wrong = 0, reconnects = 0,
    answered = {}, latencies = {},
    kills = { times = {}, last = 0, count = 0, waiting = {}, gaps = {} }, known = {},
    control = { count = 0, due = CONTROL_EVERY_S[1] },
  }
end

local function complain(state, format, ...)
  state.wrong = state.wrong + 1
  if state.wrong <= WRONG_SHOWN_MAX then
    print("WRONG " .. format:format(...))
  end
end

local function note_answer(state, conn, pid, now)
  conn.worker = pid
  if state.known[pid] then
    return
  end
  state.known[pid] = true
  local killed = table.remove(state.kills.waiting, 1)
  if killed then
    table.insert(state.kills.gaps, now - killed)
  end
end

-- Whether the loss of a request is what it should be.
local function note_loss(state, conn, tag, why)
  local killed = conn.worker and state.kills.times[conn.worker]
  if killed then
    state.lost = state.lost + 1
  elseif not conn.worker and state.kills.last >= conn.opened_at then
    state.lost_new = state.lost_new + 1
  else
    complain(state, "request %d: lost (%s) on a connection of worker %s, which lives", tag.i, why,
      tostring(conn.worker))
  end
end

local function kill_one(state, running, now)
  local pids = server.workers(running)
  local victim
  for turn = 0, #pids - 1 do -- one that serves already, as long as there is another one
    local pid = pids[(state.kills.count + turn) % #pids + 1]
    if state.known[pid] then
      victim = pid
      break
    end
  end
  if victim then
    state.kills.times[victim], state.kills.last = now, now
    state.kills.count = state.kills.count + 1
    table.insert(state.kills.waiting, now)
    ffi.C.kill(victim, SIGKILL)
  end
end

local function kill_control(state, running, elapsed)
  local pid = elapsed >= state.control.due and server.control(running)
  if pid then
    state.control.due = elapsed + CONTROL_EVERY_S[1]
      + math.random() * (CONTROL_EVERY_S[2] - CONTROL_EVERY_S[1])
    state.control.count = state.control.count + 1
    ffi.C.kill(pid, SIGKILL)
  end
end

local function count_records(path)
  local counts = {}
  for line in io.lines(path) do
    local i = line:match('"msg":"request".*"target":"/pid%?i=(%d+)&')
    if i then
      i = tonumber(i)
      counts[i] = (counts[i] or 0) + 1
    end
  end
  return counts
end

local function check_log(state, running, sent)
  local counts = count_records(running.log)
  local missing, twice, others = 0, 0, 0
  for i = 1, sent do
    local count = counts[i] or 0
    if state.answered[i] and count == 0 then
      missing = missing + 1
    elseif count > 1 then
      twice = twice + 1
    elseif count == 1 and not state.answered[i] then
      others = others + 1
    end
  end
  print(("log: of %d answers %d have no access record, %d records came twice, %d are of requests "
    .. "that were lost"):format(state.answers, missing, twice, others))
  if missing > 0 or twice > 0 then
    complain(state, "the log has not what it should have")
  end
end

local function drive(state, running, opts)
  local pending, free, told, next_kill = 0, {}, 0, KILL_EVERY_S
  local clients

  local function open()
    local conn = assert(clients:connect())
    conn.opened_at = process.now()
    return conn
  end

  local function on_reply(conn, reply, tag)
    local now = process.now()
    local pid = tonumber(reply.body)
    pending = pending - 1
    free[#free + 1] = conn
    if reply.status ~= 200 or not pid then
      complain(state, "request %d: status %d: %s", tag.i, reply.status, reply.body:sub(1, 200))
      return
    end
    state.answers = state.answers + 1
    state.answered[tag.i] = true
    table.insert(state.latencies, now - tag.due)
    note_answer(state, conn, pid, now)
  end

  local function on_lost(conn, tag, why)
    if tag then
      pending = pending - 1
      note_loss(state, conn, tag, why)
    else
      state.idle_closed = state.idle_closed + 1
      for i, each in ipairs(free) do
        if each == conn then
          table.remove(free, i)
          break
        end
      end
    end
    free[#free + 1] = open()
  end

  clients = swarm.new(running.port, on_reply, on_lost)
  for i = 1, opts.connections do
    free[i] = open()
  end
  local sent = open_loop.run(clients, {
    rate = opts.rate or 2000, seconds = opts.seconds, drain_s_max = DRAIN_S_MAX,
    pending = function() return pending end,
    send = function(i, due)
      local conn = table.remove(free, 1)
      if not conn then
        return false
      end
      pending = pending + 1
      clients:send(conn, swarm.request("GET", ("/pid?i=%d&ms=%d"):format(i, i % SLEEPS_MS)),
        { i = i, due = due })
      return true
    end,
    on_turn = function(now, begin)
      if now - begin >= next_kill and now - begin < opts.seconds then
        next_kill = next_kill + KILL_EVERY_S
        kill_one(state, running, now)
      end
      if opts.scenario == "log-kill" and now - begin < opts.seconds then
        kill_control(state, running, now - begin)
      end
      if now - begin >= told + PROGRESS_S then
        told = told + PROGRESS_S
        print(("%5.0f s: %d answers, %d kills, %d lost with them, %d wrong"):format(told,
          state.answers, state.kills.count, state.lost + state.lost_new, state.wrong))
        io.stdout:flush()
      end
    end,
  })
  if pending > 0 then
    complain(state, "%d requests were never answered", pending)
  end
  clients:close_all()
  return sent
end

--- Runs the load and the kills.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = opts.app, workers = opts.workers or 2,
    library = opts.library, settings = opts.settings, access_log = true,
  }))
  local state = new_state()
  math.randomseed(opts.seed)
  print(("kill: %d requests/s on %d connections for %d s, a worker killed every second"):format(
    opts.rate or 2000, opts.connections, opts.seconds))
  local sent = drive(state, running, opts)
  if not server.stop(running) then
    complain(state, "the server did not stop")
  end
  check_log(state, running, sent)
  server.print_records(running)
  table.sort(state.latencies)
  table.sort(state.kills.gaps)
  local gaps = state.kills.gaps
  if state.control.count > 0 then
    print(("kill: the process that writes the log was killed %d times"):format(state.control.count))
  end
  print(("kill: %d kills; from a kill to the first answer of a new worker: median %.0f ms, "
    .. "most %.0f ms"):format(state.kills.count, open_loop.percentile(gaps, 50) * 1e3,
    open_loop.percentile(gaps, 100) * 1e3))
  print(("kill: P50 %.2f ms, P99 %.2f ms, longest %.0f ms"):format(
    open_loop.percentile(state.latencies, 50) * 1e3,
    open_loop.percentile(state.latencies, 99) * 1e3,
    open_loop.percentile(state.latencies, 100) * 1e3))
  print(("kill: %d sent, %d answered, %d lost with their worker, %d lost on new connections, "
    .. "%d idle connections closed, %d wrong"):format(sent, state.answers, state.lost,
    state.lost_new, state.idle_closed, state.wrong))
  return state.wrong == 0
end

return M
