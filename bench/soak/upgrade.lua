-- bench/soak/upgrade.lua - the program is replaced by USR2 again and again under a constant load.
--
-- No request may fail: keep-alive connections of the old program are drained, new connections are
-- never refused. Every second replacement finds an app that does not load, and must leave the old
-- program serving.

local ffi = require("ffi")
local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local SIGUSR2 = 12
local DRAIN_S_MAX = 60
local REPLACED_S_MAX = 30
local PROGRESS = 10
local WRONG_SHOWN_MAX = 20

local M = {}

local GOOD = [[
local P = require "perilune"
local app = P.app {}
app:get("/quick", function() return "ready" end)
app:get("/work", function(c)
  local ms = tonumber(c:query("ms")) or 0
  if ms > 0 then P.sleep(ms / 1000) end
  return "done"
end)
return app
]]
local BROKEN = "error('half a deployment')"

local function write(path, text)
  local file = assert(io.open(path .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

local function complain(state, format, ...)
  state.wrong = state.wrong + 1
  if state.wrong <= WRONG_SHOWN_MAX then
    print("WRONG " .. format:format(...))
  end
end

local function pid_of(running)
  return tonumber(server.read(running.folder .. "/perilune/soak.pid") or "")
end

local function is_gone(pid)
  return server.read(("/proc/%d/stat"):format(pid)) == nil
    or server.read(("/proc/%d/stat"):format(pid)):find(") Z ", 1, true) ~= nil
end

local function count_failures(running)
  local _, count = (server.read(running.log) or ""):gsub('"msg":"the program was not replaced"', "")
  return count
end

local function begin_one(state, running, now)
  state.is_broken = state.count % 2 == 1
  write(state.app .. "/app.lua", state.is_broken and BROKEN or GOOD)
  state.old, state.asked_at = pid_of(running), now
  ffi.C.kill(state.old, SIGUSR2)
end

-- One step: asks for a replacement, or looks whether it has happened.
local function step(state, running, opts, now)
  if not state.asked_at then
    if state.count < opts.upgrades then
      begin_one(state, running, now)
    end
    return
  end
  local pid = pid_of(running)
  local done
  if state.is_broken then
    done = count_failures(running) > state.failures
    if done and pid ~= state.old then
      complain(state, "a program whose app does not load has taken over")
    end
  else
    done = pid and pid ~= state.old and is_gone(state.old)
  end
  if done then
    state.failures = state.failures + (state.is_broken and 1 or 0)
    table.insert(state.is_broken and state.refused or state.took, now - state.asked_at)
    state.count, state.asked_at = state.count + 1, false
    if state.count % PROGRESS == 0 then
      print(("%4d: %d answers, %d connections opened anew, %d wrong"):format(state.count,
        state.answers, state.reconnects, state.wrong))
      io.stdout:flush()
    end
  elseif now - state.asked_at > REPLACED_S_MAX then
    complain(state, "replacement %d did not end", state.count + 1)
    state.count, state.asked_at = opts.upgrades, false
  end
end

local function drive(state, running, opts)
  local pending, free = 0, {}
  local clients

  local function open()
    local conn, err = clients:connect()
    if not conn then
      complain(state, "a connection was refused: %s", tostring(err))
      process.sleep(0.01)
      return open()
    end
    return conn
  end

  local function on_reply(conn, reply, tag)
    pending = pending - 1
    free[#free + 1] = conn
    if reply.status ~= 200 or reply.body ~= "done" then
      complain(state, "request %d: status %d: %s", tag.i, reply.status, reply.body:sub(1, 200))
    end
    state.answers = state.answers + 1
    table.insert(state.latencies, process.now() - tag.due - tag.ms / 1000)
  end

  -- An idle connection may be closed at any time; a request that was sent must be answered, unless
  -- its connection was closed in that very moment, without a byte of an answer (RFC 9112 9.3.1):
  -- then it is sent again, as every client does.
  local function on_lost(conn, tag, why)
    for i, each in ipairs(free) do
      if each == conn then
        table.remove(free, i)
        break
      end
    end
    state.reconnects = state.reconnects + 1
    local new = open()
    if not tag then
      free[#free + 1] = new
    elseif tag.again or conn.input ~= "" then
      pending = pending - 1
      free[#free + 1] = new
      complain(state, "request %d was lost: %s", tag.i, why)
    else
      tag.again = true
      state.again = state.again + 1
      clients:send(new, tag.text, tag)
    end
  end

  clients = swarm.new(running.port, on_reply, on_lost)
  for i = 1, opts.connections do
    free[i] = open()
  end
  local sent = open_loop.run(clients, {
    rate = opts.rate or 1000, seconds = opts.seconds, drain_s_max = DRAIN_S_MAX,
    pending = function() return pending end,
    is_over = function() return state.count >= opts.upgrades end,
    send = function(i, due)
      local conn = table.remove(free, 1)
      if not conn then
        return false
      end
      pending = pending + 1
      local ms = i % 10 == 0 and i % 40 or 0
      local text = swarm.request("GET", ("/work?ms=%d"):format(ms))
      clients:send(conn, text, { i = i, due = due, ms = ms, text = text })
      return true
    end,
    on_turn = function(now) step(state, running, opts, now) end,
  })
  if pending > 0 then
    complain(state, "%d requests were never answered", pending)
  end
  clients:close_all()
  return sent
end

local function stop_last(state, running)
  local pid = pid_of(running)
  ffi.C.kill(pid, 15)
  local due = process.now() + 20
  while not is_gone(pid) do
    if process.now() > due then
      return complain(state, "the last program did not stop")
    end
    process.sleep(0.05)
  end
end

local function print_times(name, values)
  table.sort(values)
  print(("upgrade: %-10s median %.0f ms, longest %.0f ms"):format(name,
    open_loop.percentile(values, 50) * 1e3, open_loop.percentile(values, 100) * 1e3))
end

--- Runs the load and the replacements.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local state = {
    app = opts.folder .. "/app", wrong = 0, answers = 0, reconnects = 0, again = 0, count = 0,
    failures = 0, latencies = {}, took = {}, refused = {}, asked_at = false,
  }
  process.make_folder(state.app)
  write(state.app .. "/app.lua", GOOD)
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = state.app, workers = opts.workers or 2,
    library = opts.library, settings = opts.settings,
  }))
  print(("upgrade: %d replacements, every second one must fail, %d requests/s on %d connections")
    :format(opts.upgrades, opts.rate or 1000, opts.connections))
  local sent = drive(state, running, opts)
  stop_last(state, running)
  print_times("replaced", state.took)
  print_times("refused", state.refused)
  table.sort(state.latencies)
  print(("upgrade: latency P50 %.2f ms, P99 %.2f ms, longest %.0f ms"):format(
    open_loop.percentile(state.latencies, 50) * 1e3,
    open_loop.percentile(state.latencies, 99) * 1e3,
    open_loop.percentile(state.latencies, 100) * 1e3))
  print(("upgrade: %d replacements (%d refused), %d sent, %d answered, %d sent again as their "
    .. "connection was being closed, %d connections opened anew, %d wrong"):format(state.count,
    #state.refused, sent, state.answers, state.again, state.reconnects, state.wrong))
  return state.wrong == 0
end

return M
