-- bench/soak/reload.lua - the app is reloaded again and again under a constant load, good and
-- broken versions in turn.
--
-- No request may fail, and each answer must be wholly of one generation: what the app's two files
-- say, and the generation that the response names, must belong together. The memory of the workers
-- must be at the end what it was after the first hundredth. With --kills a worker is killed every
-- second meanwhile: then requests under way on its connections may be lost, and only those.

local ffi = require("ffi")
local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local SIGHUP, SIGKILL = 1, 9
local KILL_EVERY_S = 1
local DRAIN_S_MAX = 60
local RELOAD_S_MAX = 60
local PROGRESS = 100 -- reloads between lines
local WRONG_SHOWN_MAX = 20
local GROWTH_MAX = 1.25 -- of the workers' memory
local LOAD_TIMEOUT = "250ms"

local M = {}

local APP = [[
local P = require "perilune"
local part = require "part"
local app = P.app {}
local kept = P.keep("sum", 1, function() return { loads = 0 } end)
kept.loads = kept.loads + 1
local garbage = {}
for i = 1, 2000 do garbage[i] = { i, tostring(i) } end
app:get("/quick", function() return "ready" end)
app:get("/version", function(c)
  local ms = tonumber(c:query("ms")) or 0
  if ms > 0 then P.sleep(ms / 1000) end
  return "%d " .. part.version .. " " .. #garbage
end)
P.every("50ms", "tick", { per = "worker" }, function() garbage[1][1] = garbage[1][1] + 1 end)
return app
]]

local BROKEN = { -- what it is, and what the log must say of it
  { text = "return app }", says = "expected" },
  { text = 'error("no such luck")', says = "no such luck" },
  { text = 'require("is.not.there")', says = "is.not.there" },
  { text = "return 7", says = "returns a number" },
  { text = "local t = {} ; t.a.b = 1", says = "attempt to index" },
  { text = "while true do end", says = "vm.load_timeout" },
}

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

-- Every second version is broken; part.lua is of the good one before it then.
local function write_version(state, n)
  state.version = n
  if n % 2 == 0 then
    state.broken = BROKEN[n / 2 % #BROKEN + 1]
    write(state.app .. "/app.lua", state.broken.text)
    return
  end
  state.broken = nil
  write(state.app .. "/part.lua", ("return { version = %d }"):format(n))
  write(state.app .. "/app.lua", APP:format(n))
end

local function new_state(opts)
  return {
    app = opts.folder .. "/app", wrong = 0, answers = 0, lost = 0, reconnects = 0, latencies = {},
    took = { good = {}, broken = {} }, generations = {}, reloads = 0, kills = {}, kill_count = 0,
    seen = 0, asked_at = false,
  }
end

-- The next record about a reload in the log.
local function next_end(state)
  state.log = state.log or assert(io.open(state.log_path, "rb"))
  while true do
    local at = state.log:seek()
    local line = state.log:read("*L")
    if not line or line:sub(-1) ~= "\n" then
      state.log:seek("set", at)
      return nil
    end
    if line:find('"msg":"a generation ', 1, true) then
      return line
    end
  end
end

local function check_end(state, line, now)
  local served = line:find('"msg":"a generation is served"', 1, true) ~= nil
  local took = state.broken and state.took.broken or state.took.good
  table.insert(took, now - state.asked_at)
  if served == (state.broken ~= nil) then
    complain(state, "version %d: %s", state.version, line)
  elseif state.broken and not line:find(state.broken.says, 1, true) then
    complain(state, "version %d was rejected, but for %s", state.version, line)
  end
end

-- One step of the reloads: asks for the next, or looks whether it has ended.
local function step(state, running, opts, now)
  if not state.asked_at then
    if state.reloads == opts.reloads then
      return
    end
    write_version(state, state.reloads + 2)
    state.asked_at = now
    ffi.C.kill(running.pid, SIGHUP)
    return
  end
  local line = next_end(state)
  if line then
    check_end(state, line, now)
    state.asked_at = false
    state.reloads = state.reloads + 1
    if state.reloads == math.max(10, math.floor(opts.reloads / 100)) then
      state.mib_before = server.workers_mib(running)
    end
    if state.reloads % PROGRESS == 0 then
      print(("%5d reloads: %d answers, %d lost with %d kills, %d wrong, workers %.1f MiB"):format(
        state.reloads, state.answers, state.lost, state.kill_count, state.wrong,
        server.workers_mib(running)))
      io.stdout:flush()
    end
  elseif now - state.asked_at > RELOAD_S_MAX then
    complain(state, "version %d: the reload did not end", state.version)
    state.reloads, state.asked_at = opts.reloads, false
  end
end

-- An answer is of one generation: both files, and what the header says.
local function check_answer(state, tag, reply)
  local version, part = reply.body:match("^(%d+) (%d+) 2000$")
  local generation = reply.head:match("[Pp]erilune%-[Gg]eneration: (%d+)%-%x+")
  if reply.status ~= 200 or not version or not generation then
    return complain(state, "request %d: status %d: %s", tag.i, reply.status, reply.body:sub(1, 200))
  end
  if version ~= part then
    return complain(state, "request %d: app.lua is version %s, part.lua %s", tag.i, version, part)
  end
  state.generations[generation] = state.generations[generation] or version
  if state.generations[generation] ~= version then
    complain(state, "request %d: generation %s was version %s, and is %s", tag.i, generation,
      state.generations[generation], version)
  end
  state.answers = state.answers + 1
end

local function kill_one(state, running, now)
  local pids = server.workers(running)
  if #pids < 2 then
    return
  end
  local victim = pids[state.kill_count % #pids + 1]
  state.kill_count = state.kill_count + 1
  state.last_kill = now
  ffi.C.kill(victim, SIGKILL)
end

local function drive(state, running, opts)
  local pending, free, next_kill = 0, {}, KILL_EVERY_S
  local clients

  local function on_reply(conn, reply, tag)
    pending = pending - 1
    free[#free + 1] = conn
    check_answer(state, tag, reply)
    table.insert(state.latencies, process.now() - tag.due - tag.ms / 1000)
  end

  local function on_lost(conn, tag, why)
    if tag then
      pending = pending - 1
      if opts.kills then
        state.lost = state.lost + 1
      else
        complain(state, "request %d was lost: %s", tag.i, why)
      end
    else
      for i, each in ipairs(free) do
        if each == conn then
          table.remove(free, i)
          break
        end
      end
    end
    state.reconnects = state.reconnects + 1
    free[#free + 1] = assert(clients:connect())
  end

  clients = swarm.new(running.port, on_reply, on_lost)
  for i = 1, opts.connections do
    free[i] = assert(clients:connect())
  end
  local sent = open_loop.run(clients, {
    rate = opts.rate or 1000, seconds = opts.seconds, drain_s_max = DRAIN_S_MAX,
    pending = function() return pending end,
    is_over = function() return state.reloads >= opts.reloads end,
    send = function(i, due)
      local conn = table.remove(free, 1)
      if not conn then
        return false
      end
      pending = pending + 1
      local ms = i % 10 == 0 and i % 40 or 0
      clients:send(conn, swarm.request("GET", ("/version?ms=%d"):format(ms)),
        { i = i, due = due, ms = ms })
      return true
    end,
    on_turn = function(now, begin)
      step(state, running, opts, now)
      if opts.kills and now - begin >= next_kill then
        next_kill = next_kill + KILL_EVERY_S
        kill_one(state, running, now)
      end
    end,
  })
  if pending > 0 then
    complain(state, "%d requests were never answered", pending)
  end
  clients:close_all()
  return sent
end

local function check_memory(state, running)
  process.sleep(2) -- what a burst has left is collected
  local after = server.workers_mib(running)
  print(("reload: workers have %.1f MiB, had %.1f MiB after the first reloads"):format(after,
    state.mib_before))
  if after > state.mib_before * GROWTH_MAX then
    complain(state, "the memory has grown")
  end
end

local function print_times(name, values)
  table.sort(values)
  print(("reload: %-6s median %.0f ms, P99 %.0f ms, longest %.0f ms"):format(name,
    open_loop.percentile(values, 50) * 1e3, open_loop.percentile(values, 99) * 1e3,
    open_loop.percentile(values, 100) * 1e3))
end

--- Runs the load and the reloads.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local state = new_state(opts)
  process.make_folder(state.app)
  write_version(state, 1)
  local settings = { "vm.load_timeout=" .. LOAD_TIMEOUT, unpack(opts.settings) }
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = state.app, workers = opts.workers or 2,
    library = opts.library, settings = settings,
  }))
  state.log_path = running.log
  assert(process.now() > 0 and next_end(state), "no first generation in the log")
  print(("reload: %d reloads, good and broken in turn, %d requests/s on %d connections%s"):format(
    opts.reloads, opts.rate or 1000, opts.connections,
    opts.kills and ", a worker killed every second" or ""))
  local sent = drive(state, running, opts)
  check_memory(state, running)
  if not server.stop(running) then
    complain(state, "the server did not stop")
  end
  server.print_records(running)
  print_times("good", state.took.good)
  print_times("broken", state.took.broken)
  table.sort(state.latencies)
  print(("reload: latency P50 %.2f ms, P99 %.2f ms, P99.9 %.2f ms, longest %.0f ms"):format(
    open_loop.percentile(state.latencies, 50) * 1e3,
    open_loop.percentile(state.latencies, 99) * 1e3,
    open_loop.percentile(state.latencies, 99.9) * 1e3,
    open_loop.percentile(state.latencies, 100) * 1e3))
  print(("reload: %d reloads, %d sent, %d answered, %d lost with %d kills, %d wrong"):format(
    state.reloads, sent, state.answers, state.lost, state.kill_count, state.wrong))
  return state.wrong == 0
end

return M
