-- bench/soak/stress.lua - the jobs of spec/support/app/stress on many connections at once, each
-- result compared with the one that this process has computed by itself.
--
-- Some requests have a deadline that they cannot meet: 503 is right for those, and for no other.

local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local PROGRESS_S = 5
local DRAIN_S_MAX = 120 -- for what is under way at the end
local SETTLE_S_MAX = 20 -- for what was deferred
local WRONG_SHOWN_MAX = 20
local LATE_SHARE = 0.08
local SIZES = { 1, 4, 10 }
local NEVER_LATE = { -- jobs that an error in their midst may leave in disorder, as it should
  atomic = true, context = true,
  callback = true, -- no error may leave a function that C has called
}

local M = {}

local function load_jobs(source)
  package.path = source .. "/../spec/support/app/stress/?.lua;" .. package.path
  return require("jobs")
end

local function text_of(result)
  return type(result) == "number" and ("%.0f"):format(result) or "wrong already here: " .. result
end

---@class perilune.soak.Case
---@field name string
---@field text string the request
---@field status integer
---@field body string? nil: not looked at

local function job_cases(stress, seed, into)
  for _, list in ipairs({ stress.jobs, stress.twins }) do
    for name, run in pairs(list) do
      for _, n in ipairs(SIZES) do
        local own = seed + n * 7919
        into[#into + 1] = {
          name = name, status = 200, body = text_of(run(n, own)),
          text = swarm.request("GET", ("/job/%s?n=%d&seed=%d"):format(name, n, own)),
        }
      end
    end
  end
end

local function other_cases(stress, seed, into)
  into[#into + 1] = {
    name = "quick", status = 200, body = "quick", text = swarm.request("GET", "/quick"),
  }
  for _, n in ipairs({ 1, 60 }) do -- the large one is encoded in Lua
    into[#into + 1] = {
      name = "reply", status = 200, body = stress.reply_text(n, seed),
      text = swarm.request("GET", ("/reply?n=%d&seed=%d"):format(n, seed)),
    }
  end
  for n = 1, 12 do
    local bytes = stress.text_of(n, seed)
    into[#into + 1] = {
      name = "body", status = 200, body = text_of(stress.sum_of(bytes)),
      text = swarm.request("POST", "/body", bytes),
    }
  end
end

local function by_name(a, b)
  return a.name == b.name and a.text < b.text or a.name < b.name
end

local function late_cases(stress, seed)
  local cases = {}
  for _, list in ipairs({ stress.jobs, stress.twins }) do
    for name in pairs(list) do
      if not NEVER_LATE[name] then
        cases[#cases + 1] = {
          name = "late " .. name, status = 503,
          text = swarm.request("GET", ("/late/%s?n=1&seed=%d"):format(name, seed)),
        }
      end
    end
  end
  table.sort(cases, by_name)
  return cases
end

local function new_counts()
  return { answers = 0, late = 0, wrong = 0, lost = 0, done = {}, longest_s = 0 }
end

local function complain(counts, format, ...)
  counts.wrong = counts.wrong + 1
  if counts.wrong <= WRONG_SHOWN_MAX then
    print("WRONG " .. format:format(...))
  end
end

local function check(counts, case, reply)
  if reply.status ~= case.status then
    complain(counts, "%s: status %d: %s", case.name, reply.status, reply.body:sub(1, 200))
  elseif case.body and reply.body ~= case.body then
    complain(counts, "%s: %q, and not %q", case.name, reply.body:sub(1, 200),
      case.body:sub(1, 200))
  elseif case.status == 503 and not reply.head:find("application/problem+json", 1, true) then
    complain(counts, "%s: the 503 is no problem", case.name)
  end
  counts.answers = counts.answers + 1
  counts.late = counts.late + (case.status == 503 and 1 or 0)
  counts.done[case.name] = (counts.done[case.name] or 0) + 1
end

-- Keeps every connection busy for so long, then waits for the answers.
local function drive(clients, counts, next_case, seconds)
  local begin, told = process.now(), process.now()
  local stop = begin + seconds
  local busy

  clients.on_reply = function(conn, reply, case)
    counts.longest_s = math.max(counts.longest_s, process.now() - conn.sent_at)
    check(counts, case, reply)
    if process.now() < stop and counts.wrong < WRONG_SHOWN_MAX then
      local following = next_case()
      clients:send(conn, following.text, following)
    end
  end
  clients.on_lost = function(_, case, why)
    if case then
      counts.lost = counts.lost + 1
      complain(counts, "%s: the connection was lost: %s", case.name, why)
    end
  end
  for _, conn in ipairs({ unpack(clients.conns) }) do
    local case = next_case()
    clients:send(conn, case.text, case)
  end
  repeat
    clients:wait(0.2)
    busy = 0
    for _, conn in ipairs(clients.conns) do
      busy = busy + (conn.tag and 1 or 0)
    end
    if process.now() - told >= PROGRESS_S then
      told = process.now()
      print(("%5.0f s: %d answers (%d past their deadline), %d wrong"):format(told - begin,
        counts.answers, counts.late, counts.wrong))
      io.stdout:flush()
    end
  until busy == 0 or process.now() > stop + DRAIN_S_MAX
  if busy > 0 then
    complain(counts, "%d requests were never answered", busy)
  end
  return process.now() - begin
end

-- What a worker says of its totals; nil when nobody answers.
local function ask(clients, conn, target)
  local reply
  clients.on_reply = function(_, got) reply = got end
  clients.on_lost = function() end
  clients:send(conn, swarm.request("GET", target), target)
  local due = process.now() + 10
  while not reply and conn.fd >= 0 and process.now() < due do
    clients:wait(0.1)
  end
  return reply and reply.status == 200 and reply.body or nil
end

-- Deferred calls run behind their answers: asks until all of them have.
local function settled_totals(clients, conn)
  local due = process.now() + SETTLE_S_MAX
  while true do
    local text = ask(clients, conn, "/totals") or ""
    local owed, deferred = text:match('"owed":(%d+)'), text:match('"deferred":(%d+)')
    if owed == deferred or process.now() > due then
      return text, owed, deferred
    end
    process.sleep(0.1)
  end
end

-- Asks every worker by every connection: what P.atomic protects must add up.
local function check_totals(clients, counts)
  local workers = {}
  for _, conn in ipairs({ unpack(clients.conns) }) do
    local pid = ask(clients, conn, "/pid")
    local text, owed, deferred = settled_totals(clients, conn)
    if not owed or owed ~= deferred then
      complain(counts, "deferred calls of worker %s: %s", tostring(pid), text)
    elseif text:match('"violations":(%d+)') ~= "0" then
      complain(counts, "P.atomic in worker %s: %s", tostring(pid), text)
    end
    if pid and not workers[pid] then
      workers[pid] = true
      print(("worker %s: %s"):format(pid, text))
    end
  end
end

local function print_done(counts)
  local names = {}
  for name in pairs(counts.done) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    names[i] = ("%s %d"):format(name, counts.done[name])
  end
  print(table.concat(names, ", "))
end

local function same(a, b)
  return table.concat(a, " ") == table.concat(b, " ")
end

--- Runs the stress.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local stress = load_jobs(opts.source)
  local cases, late, x = {}, late_cases(stress, opts.seed), opts.seed
  job_cases(stress, opts.seed, cases)
  other_cases(stress, opts.seed, cases)
  table.sort(cases, by_name)

  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = opts.app, workers = opts.workers or 2,
    library = opts.library, settings = opts.settings,
  }))
  local pids = server.workers(running)
  print(("stress: %d cases, %d connections, %d workers, %s"):format(#cases + #late,
    opts.connections, #pids, server.luajit_of(pids[1]) or "no LuaJIT"))

  local counts = new_counts()
  local luajit = server.luajit_of(pids[1]) or ""
  if opts.library and luajit:sub(1, #opts.library) ~= opts.library then
    complain(counts, "LuaJIT is not that of %s: is the launcher linked with it statically?",
      opts.library)
  end
  local clients = swarm.new(running.port)
  for _ = 1, opts.connections do
    assert(clients:connect())
  end
  local seconds = drive(clients, counts, function()
    x = stress.step(x)
    if x % 1000 < LATE_SHARE * 1000 then
      return late[math.floor(x / 1000) % #late + 1]
    end
    return cases[math.floor(x / 1000) % #cases + 1]
  end, opts.seconds)
  check_totals(clients, counts)
  if not same(pids, server.workers(running)) then
    complain(counts, "a worker has died")
  end
  print_done(counts)
  local mib = server.workers_mib(running)
  clients:close_all()
  if not server.stop(running) then
    complain(counts, "the server did not stop")
  end
  server.print_records(running)
  print(("stress: %d answers in %.0f s (%.0f/s), %d past their deadline, longest %.2f s, "
    .. "workers %.0f MiB, %d wrong"):format(counts.answers, seconds, counts.answers / seconds,
    counts.late, counts.longest_s, mib, counts.wrong))
  return counts.wrong == 0
end

return M
