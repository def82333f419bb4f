-- bench/soak/leaks.lua - planted leaks among honest waits, under a constant load with reloads.
--
-- Each worker has HONEST coroutines that wait for long, of all kinds: for the clock, for a channel,
-- for room in one, for a task, for a lock that somebody holds, for what only a time limit ends.
-- Requests wait as well, for less, among them some whose clients are slow. Between two reloads
-- leaks of all kinds are planted; then every one of them must be found and have ended, and nothing
-- else: by the names of the tasks that the admin plane tells. Then those that wait are woken: each
-- must still be there. What waits for as long as it takes must never be a suspect either.
--
-- Of coroutines that wait for each other the first one that is ended may wake the others: they must
-- have ended, and are leaks at most as often as they were planted.

local ffi = require("ffi")
local client = require("client")
local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local SIGHUP = 1
local ROUND_S = 20 -- of planting, between two reloads
local SETTLE_S_MAX = 60
local DRAIN_S_MAX = 60
local LOOK_EVERY_S = 0.5
local KINDS = 6
local EACH = 84 -- honest waits of a kind in a worker: more than 1,000 in two
local WOKEN_KINDS = 3
local BODY_S = 0.4 -- until a slow client sends the second half
local WRONG_SHOWN_MAX = 20
local EXACT = { "recv", "send", "inner", "lock", "inside" } -- names of what is planted
local AT_MOST = { "outer", "one", "other" }

local M = {}

local APP = [[
local P = require "perilune"
local app = P.app {}
local VERSION, EACH = %d, %d
local ring, woken = P.shared.counter("ring"), P.shared.counter("woken" .. VERSION)
local bell, full, mutex = P.channel(), P.channel(), P.channel(1)

local function lock_and_wait()
  local lock = P.channel(1)
  P.detach("honest holder", function()
    lock:send(true)
    while ring:get() ~= VERSION do P.sleep(0.1) end
    lock:recv()
  end)
  P.sleep(0.01)
  for _ = 1, EACH do
    P.detach("honest lock", function()
      lock:send(true)
      lock:recv()
      woken:add()
    end)
  end
end

P.detach("honest starter", function()
  for _ = 1, EACH do
    P.detach("honest sleep", P.sleep, 86400)
    P.detach("honest task", function() P.detach("honest sleeper", P.sleep, 86400):wait() end)
    P.detach("honest time", function() P.channel():recv(86400) end)
    P.detach("honest recv", function() bell:recv(); woken:add() end)
    P.detach("honest send", function() full:send(true); woken:add() end)
  end
  lock_and_wait()
end)
P.every("100ms", "bell", { per = "worker" }, function()
  if ring:get() ~= VERSION then return end
  while bell:send(true, 0) do end
  while full:recv(0) do end
end)

local function leaks()
  P.detach("leaky recv", function() P.channel():recv() end)
  P.detach("leaky send", function() P.channel():send(1) end)
  P.detach("leaky outer", function()
    P.detach("leaky inner", function() P.channel():recv() end):wait()
  end)
  local pair = {}
  pair.one = P.detach("leaky one", function() P.sleep(0.01); pair.other:wait() end)
  pair.other = P.detach("leaky other", function() pair.one:wait() end)
  local lock = P.channel(1)
  lock:send("by one that is gone")
  P.detach("leaky lock", function() lock:send(true) end)
  P.detach("leaky inside", function()
    coroutine.wrap(function() P.channel():recv() end)()
  end)
end

app:get("/quick", function() return "ready" end)
app:get("/ring", function() ring:set(VERSION) return "rung" end)
app:get("/woken", function() return tostring(woken:get()) end)
app:get("/leak", function() leaks() return "planted" end)
app:get("/leaking", function() P.channel():recv() end)
app:get("/sleep", function() P.sleep(0.2) return "ok" end)
app:get("/pair", function()
  local ch, back = P.channel(), P.channel(2)
  P.spawn(function() for v in function() return ch:recv() end do back:send(v) end end)
  for i = 1, 20 do
    ch:send(i)
    assert(back:recv() == i)
  end
  ch:close()
  return "ok"
end)
app:get("/all", function()
  local a, b = P.all { { function() P.sleep(0.05) return 1 end }, { function() return 2 end } }
  return a + b == 3 and "ok" or "wrong"
end)
app:get("/mutex", function()
  mutex:send(true)
  P.sleep(0.002)
  mutex:recv()
  return "ok"
end)
app:get("/task", function()
  return P.spawn(function() P.sleep(0.1) return "ok" end):wait()
end)
app:get("/late", function()
  local value, err = P.channel():recv(0.1)
  return value == nil and err == "timeout" and "ok" or "wrong"
end)
app:post("/body", function(c) return #c:body() == 10 and "ok" or "wrong" end)
return app
]]

local HONEST = { "/sleep", "/pair", "/all", "/mutex", "/task", "/late", "/body" }

local function complain(state, format, ...)
  state.wrong = state.wrong + 1
  if state.wrong <= WRONG_SHOWN_MAX then
    print("WRONG " .. format:format(...))
    io.stdout:flush()
  end
end

local function write_version(state)
  state.version = state.version + 1
  process.make_folder(state.app)
  local file = assert(io.open(state.app .. "/app.lua.new", "wb"))
  -- each version has its lines elsewhere, as changed code does
  file:write(("\n"):rep(state.version % 50), APP:format(state.version, EACH))
  file:close()
  assert(os.rename(state.app .. "/app.lua.new", state.app .. "/app.lua"))
end

local function ask(port, path)
  local reply = client.request(port, { path = path, seconds_max = 30 })
  return reply and reply.status == 200 and reply.body or ""
end

--- What was found, by the name of the task; requests by "request"; and suspects.
local function found(state)
  local text = ask(state.admin, "/debug/pprof/coroutineleak?debug=1")
  local proven, suspected = text:match("^proven:.-\n\n(.-)suspected:.-\n\n(.*)$")
  local counts = {}
  for count, kind, rest in (proven or ""):gmatch("(%d+) %[(%a+), %a+%] worker %d+([^\n]*)\n") do
    local name = kind == "request" and kind or rest:match(', task "leaky (%a+)"')
    if name then
      counts[name] = (counts[name] or 0) + tonumber(count)
    else
      complain(state, "%s is no leak", kind .. rest)
    end
  end
  if not proven then
    complain(state, "the admin plane does not tell of leaks: %s", text:sub(1, 200))
  elseif suspected ~= "" then
    complain(state, "suspected: %s", suspected:sub(1, 300))
  end
  return counts
end

--- Whether all that was planted is found and has ended; never more than that.
local function is_settled(state)
  local counts, all = found(state), true
  for _, name in ipairs(EXACT) do
    all = all and counts[name] == state.planted
    if (counts[name] or 0) > state.planted then
      complain(state, "%d leaks %s, %d planted", counts[name], name, state.planted)
    end
  end
  for _, name in ipairs(AT_MOST) do
    if (counts[name] or 0) > state.planted then
      complain(state, "%d leaks %s, %d planted", counts[name], name, state.planted)
    end
  end
  all = all and (counts.request or 0) == state.leaking
  state.counts = counts
  return all and not ask(state.admin, "/debug/pprof/coroutine?debug=2"):find('task "leaky', 1, true)
end

local function served(state)
  state.log = state.log or assert(io.open(state.log_path, "rb"))
  while true do
    local at = state.log:seek()
    local line = state.log:read("*L")
    if not line or line:sub(-1) ~= "\n" then
      state.log:seek("set", at)
      return false
    elseif line:find('"msg":"a generation is served"', 1, true) then
      return true
    elseif line:find('"msg":"a generation ', 1, true) then
      complain(state, "%s", line)
    end
  end
end

--- The parts of a round, in their order: whether each is over. Leaks are planted in the first only.
local PARTS = {
  { name = "planted", is_over = function(state, now)
    return now - state.since > ROUND_S and state.leaks_pending == 0
  end },
  { name = "found", is_over = is_settled },
  { name = "rung", is_over = function(state) return ask(state.port, "/ring") == "rung" end },
  { name = "woken", is_over = function(state)
    local count = tonumber(ask(state.port, "/woken")) or 0
    if count > state.honest then
      complain(state, "%d of %d were woken", count, state.honest)
    end
    return count == state.honest
  end },
  { name = "reloaded", is_over = function(state, _, running)
    if not state.is_reloading then
      state.is_reloading = true
      write_version(state)
      ffi.C.kill(running.pid, SIGHUP)
    end
    state.is_reloading = not served(state)
    return not state.is_reloading
  end },
}

local function tell_round(state)
  local counts, parts = state.counts, {}
  for _, name in ipairs({ "outer", "one", "other" }) do
    parts[#parts + 1] = ("%s %d"):format(name, counts[name] or 0)
  end
  print(("round %d: %d of each kind planted and found (%s), %d requests; %d answers, %d wrong")
    :format(state.version, state.planted, table.concat(parts, ", "), state.leaking, state.answers,
      state.wrong))
  io.stdout:flush()
end

local function step(state, running, now)
  if now - state.looked < LOOK_EVERY_S then
    return
  end
  state.looked = now
  local part = PARTS[state.part]
  local over = part.is_over(state, now, running)
  if not over and now - state.since > ROUND_S + SETTLE_S_MAX then
    local told = {}
    for name, count in pairs(state.counts or {}) do
      told[#told + 1] = name .. " " .. count
    end
    complain(state, "round %d: not all were %s; planted %d and %d requests, found: %s",
      state.version, part.name, state.planted, state.leaking, table.concat(told, ", "))
    over, state.given_up = true, true
  end
  if over then
    if part.name == "woken" then
      tell_round(state)
    end
    state.part = state.part % #PARTS + 1
    state.since = now
    state.is_over = state.given_up or now > state.stop and state.part == 1
  end
end

local function what_next(state, i)
  if state.part == 1 and i % 10 == 0 then
    return i % 100 == 0 and "/leaking" or "/leak"
  end
  return HONEST[i % #HONEST + 1]
end

local function check_reply(state, tag, reply)
  if tag.path == "/leaking" or tag.path == "/leak" then
    state.leaks_pending = state.leaks_pending - 1
  end
  if tag.path == "/leaking" and reply.status == 500 then
    state.leaking = state.leaking + 1
  elseif tag.path == "/leak" and reply.status == 200 then
    state.planted = state.planted + 1
  elseif reply.status ~= 200 or reply.body ~= "ok" then
    return complain(state, "%s: status %d: %s", tag.path, reply.status, reply.body:sub(1, 200))
  end
  state.answers = state.answers + 1
end

--- The other halves of bodies that are due.
local function send_halves(state, clients, now)
  while state.halves[1] and state.halves[1].due <= now do
    local half = table.remove(state.halves, 1)
    clients:send(half.conn, "67890", half.tag)
  end
end

local function drive(state, running, opts)
  local pending, free, clients = 0, {}, nil

  local function on_reply(conn, reply, tag)
    pending = pending - 1
    free[#free + 1] = conn
    check_reply(state, tag, reply)
  end

  local function on_lost(conn, tag, why)
    complain(state, "%s was lost: %s", tag and tag.path or "an idle connection", why)
    pending = pending - (tag and 1 or 0)
    for i = #free, 1, -1 do
      if free[i] == conn then
        table.remove(free, i)
      end
    end
    free[#free + 1] = assert(clients:connect())
  end

  local function send(i)
    local conn = table.remove(free, 1)
    if not conn then
      return false
    end
    local tag = { path = what_next(state, i) }
    pending = pending + 1
    if tag.path:find("^/leak") then
      state.leaks_pending = state.leaks_pending + 1
    end
    if tag.path == "/body" then
      clients:send(conn, swarm.request("POST", "/body", "1234567890"):sub(1, -6), tag)
      table.insert(state.halves, { conn = conn, tag = tag, due = process.now() + BODY_S })
    else
      clients:send(conn, swarm.request("GET", tag.path), tag)
    end
    return true
  end

  clients = swarm.new(running.port, on_reply, on_lost)
  for i = 1, opts.connections do
    free[i] = assert(clients:connect())
  end
  state.since = process.now()
  state.stop = state.since + opts.seconds
  local sent = open_loop.run(clients, {
    rate = opts.rate or 100, drain_s_max = DRAIN_S_MAX,
    seconds = opts.seconds + ROUND_S + #PARTS * SETTLE_S_MAX,
    pending = function() return pending end,
    is_over = function() return state.is_over end,
    send = send,
    on_turn = function(now)
      send_halves(state, clients, now)
      if not state.is_over then
        step(state, running, now)
      end
    end,
  })
  if pending > 0 then
    complain(state, "%d requests were never answered", pending)
  end
  clients:close_all()
  return sent
end

local function start(state, opts)
  local settings = {
    "admin.listen=127.0.0.1:0", "limits.tasks_per_worker=20000", "leaks.collect=500ms",
    "leaks.after=5s", "leaks.window=5s", unpack(opts.settings),
  }
  local workers = opts.workers or 2
  write_version(state)
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = state.app, workers = workers,
    library = opts.library, settings = settings,
  }))
  state.log_path, state.port = running.log, running.port
  state.honest = workers * EACH * WOKEN_KINDS
  state.admin = tonumber(server.read(running.output):match(
    "admin plane on http://127%.0%.0%.1:(%d+)"))
  assert(state.admin and served(state), "no first generation in the log")
  print(("leaks: %d honest waits of %d kinds, %d requests/s on %d connections, a reload every %d s")
    :format(workers * EACH * KINDS, KINDS, opts.rate or 100, opts.connections, ROUND_S))
  return running
end

--- Runs the load, the leaks and the reloads.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local state = {
    app = opts.folder .. "/app", version = 0, wrong = 0, answers = 0, planted = 0, leaking = 0,
    leaks_pending = 0, part = 1, looked = 0, halves = {},
  }
  local running = start(state, opts)
  local mib = server.workers_mib(running)
  local sent = drive(state, running, opts)
  print(("leaks: workers have %.1f MiB, had %.1f MiB at first"):format(server.workers_mib(running),
    mib))
  for line in ask(state.admin, "/metrics"):gmatch("\n(perilune_coroutine_leaks_total[^\n]+)") do
    print("leaks: " .. line)
  end
  for line in ask(state.admin, "/metrics"):gmatch("\n(perilune_profile_unnamed_total[^\n]+)") do
    print("leaks: " .. line)
  end
  if not server.stop(running) then
    complain(state, "the server did not stop")
  end
  server.print_records(running)
  print(("leaks: %d rounds, %d of each kind and %d requests planted, all found: %s; %d sent, %d "
    .. "answered, %d wrong"):format(state.version - 1, state.planted, state.leaking,
    tostring(not state.given_up), sent, state.answers, state.wrong))
  return state.wrong == 0
end

return M
