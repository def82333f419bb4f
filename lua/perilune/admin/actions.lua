--- The rules of perilune/actions.lua at work: figures from the server's own status and metrics,
--- once a second, and what there is to be done about them. In the VM of the admin plane, so that
--- it works while every worker hangs; that VM is there without a socket, too (watch.lua).

local core = require("perilune.core")
local engines = require("perilune.actions")
local ffi = require("perilune.ffi")
local json = require("perilune.json")
local log = require("perilune.log")
local make = require("perilune.admin.make")
local metric = require("perilune.metric")
local problem = require("perilune.problem")
local runner = require("perilune.runner")
local series = require("perilune.series")
local task = require("perilune.task")

---@class perilune.admin.actions
local M = {}

M.index = [[
GET /debug/actions    rules, how they are, and what was done last, as JSON
]]

local EVERY_S = 1
local FUNCTION_S = 30 -- that a function of the app's may take
local WHEN_S = 2 -- that one may take to say whether its rule is met
local PROFILE_S = 10
local BOOST_S, BOOST_SHARE = 60, 1
local LEVEL_S = 300
local ANSWER_S, RECORD_S = 5, 30 -- of the master; when a record is written
local POLL_LEAST, POLL_MOST = 0.005, 0.1 -- at whether it has come
local SILENT_MS = 2000 -- as the health rule has it

local COUNTER = metric.counter("perilune_actions_total",
  "What has come of actions of rules: done, failed or held.",
  { "action", "outcome", "rule" })

local UNJUDGED = metric.counter("perilune_actions_unjudged_total",
  "How often the function of a rule failed or took too long, so that the rule was not judged.",
  { "rule" })

-- Figures --------------------------------------------------------------------------------

local function each(s, key, into)
  local value
  for _, worker in ipairs(s.workers) do
    if worker[key] then
      value = into(value or 0, worker[key])
    end
  end
  return value
end

local function sum(a, b)
  return a + b
end

local function milliseconds(value)
  return value and value / 1000
end

--- What the server is like: all of it, or with the rule's `route` that one.
local FIGURES = {
  p50 = function(_, of) return milliseconds(of.p50_ms) end,
  p99 = function(_, of) return milliseconds(of.p99_ms) end,
  requests = function(_, of) return of.requests_per_s end,
  errors = function(_, of) return of.errors_per_s end,
  error_share = function(_, of)
    local rate = of.requests_per_s
    return rate and (rate > 0 and of.errors_per_s / rate or 0)
  end,
  in_flight = function(s) return each(s, "in_flight", sum) end,
  connections = function(s) return each(s, "connections", sum) end,
  workers = function(s) return #s.workers end,
  busy = function(s) return (each(s, "busy", sum) or 0) / math.max(1, #s.workers) end,
  lag = function(s) return milliseconds(each(s, "lag_ms", math.max)) end,
  memory = function(s) return each(s, "memory_bytes", math.max) end,
  crashes = function(s) return s.crashes end,
  silent = function(s)
    local count = 0
    for _, worker in ipairs(s.workers) do
      if worker.state ~= "serving" or worker.heartbeat_ms > SILENT_MS then
        count = count + 1
      end
    end
    return count
  end,
}

local before = {} -- values of counters: by the figure, { at, value, rate }

local function rate_of(key, value, now)
  local last = before[key]
  if last and last.at == now then -- another rule has asked in this look
    return last.rate
  end
  local rate = last and now > last.at and value >= last.value
    and (value - last.value) / (now - last.at) or nil
  before[key] = { at = now, value = value, rate = rate }
  return rate
end

--- What Lua has allocated in all workers, without the text of all metrics.
local function allocated(s)
  local vitals = assert(json.decode(core.report("vitals")))
  return rate_of("allocation", each(vitals, "allocated_bytes", sum) or 0, s.at)
end

local function read_metric(condition, s)
  s.metrics = s.metrics or core.report("metrics") or ""
  local value = series.sum(s.metrics, condition.name, condition.labels)
  local is_known = value or metric._is_declared(condition.name, condition.labels)
  if condition.is_rate and is_known then
    local rate = rate_of(condition.text, value or 0, s.at)
    return value and rate, true
  end
  return value, is_known
end

local function route_of(s, route)
  for _, one in ipairs(s.routes or {}) do
    if ("%s %s"):format(one.method, one.route) == route or one.route == route then
      return one
    end
  end
  return {}
end

local function read(condition, s, rule)
  if condition.name == "allocation" then
    return allocated(s)
  end
  local figure = FIGURES[condition.name]
  if not figure then
    return read_metric(condition, s)
  end
  return figure(s, rule.opts.route and route_of(s, rule.opts.route) or s)
end

local function snapshot()
  local s = assert(json.decode(core.report("status")))
  s.at = task.monotonic()
  return s
end

-- Means ----------------------------------------------------------------------------------

local ENDED = "it was ended before it was done: a new generation serves"

--- Runs `fn` in a task, which settles whatever comes: by what `fn` calls, or by how it ends.
local function aside(name, settle, fn)
  local running, err = task.detach(name, function()
    local ok, failure = xpcall(fn, runner.describe)
    if not ok then
      ffi.C.pl_settle() -- it is over, and only to be told
      failure = runner.failure(failure)
      settle("failed", failure == problem.CANCELLED and ENDED or failure.message
        or runner.message(failure.err))
    end
  end)
  if not running then
    settle("held", err)
  end
  return running
end

--- The master's answer to a wish; nil: it has not said anything in that time.
local function answer_to(number, seconds)
  local until_s, pause = task.monotonic() + seconds, POLL_LEAST
  repeat
    task.sleep(pause)
    local answer = core.report("granted", number)
    if answer and answer ~= "" then
      return answer
    end
    pause = math.min(pause * 2, POLL_MOST)
  until task.monotonic() > until_s
end

--- Asks the master for something, and waits for what it says.
local function wish(what, settle, seconds)
  seconds = seconds or ANSWER_S
  local number = core.report("wish", what)
  if not number then
    return settle("held", "the server does not listen to its rules now")
  end
  aside("action's answer", settle, function()
    local answer = answer_to(number, seconds)
    if not answer then
      settle("failed", ("the server has not answered within %d s"):format(seconds))
    elseif answer:sub(1, 1) == "+" then
      settle("done", answer ~= "+" and answer:sub(2) or nil)
    else
      settle("held", answer:sub(2))
    end
  end)
end

--- What the core says of a file: what is behind "+"; nil, and it is settled, what is behind "-".
local function said(answer, settle)
  if answer and answer:sub(1, 1) == "+" then
    return answer:sub(2)
  end
  settle("failed", "the file was not written: " .. (answer or "-it is refused"):sub(2))
end

--- Has bytes written into a file, and waits for as long as the disk takes.
local function save(event, kind, bytes, settle)
  local line = ("pb.gz %s-%s\n"):format(kind, event.rule)
  local ticket = said(core.report("save", line .. bytes), settle)
  if not ticket then
    return
  end
  aside("action's file", settle, function()
    local answer
    repeat
      task.sleep(POLL_MOST)
      answer = core.report("saved", ticket)
    until answer ~= ""
    local path = said(answer, settle)
    if path then
      settle("done", path)
    end
  end)
end

local LATE = ("its function takes longer than %d s"):format(WHEN_S)

--- Runs the function of a rule beside all others: it may compute for ever.
---@return perilune.actions.Trial
local function try(when, s, rule)
  local began, ended = task.monotonic(), nil
  local ok, is_met, value
  local running, err = task.detach("rule " .. rule.name, function()
    ok, is_met, value = xpcall(when, runner.describe, s)
    if not ok then
      local failure = runner.failure(is_met)
      is_met = failure.message or runner.message(failure.err)
    end
    ended = task.monotonic()
  end)
  if not running then
    return function() return false, err end
  end
  return function()
    local is_done = running:done()
    if (ended or task.monotonic()) - began > WHEN_S then
      running:cancel()
      return false, LATE, true
    elseif is_done and not ended then
      return false, ENDED
    elseif is_done then
      return ok, is_met, ok and value or nil
    end
  end
end

local MEANS = {}

function MEANS.add_worker(event, settle)
  local most = event.opts.workers_max or core.config("actions.workers_max")
  if most == 0 then
    most = core.config("cpus")
  end
  return wish(("worker %d"):format(most), settle)
end

function MEANS.collect(_, settle)
  return wish("collect", settle)
end

function MEANS.log_level(event, settle)
  local seconds = math.ceil(event.opts.seconds or LEVEL_S)
  return wish(("level %s %d"):format(event.opts.level, seconds), settle)
end

function MEANS.record(event, settle)
  if core.config("recorder.on") == 0 then
    return settle("held", "nothing is recorded: recorder.on is false")
  end
  return wish("record " .. event.rule, settle, RECORD_S)
end

function MEANS.heap_profile(event, settle)
  local bytes = make.text("heap", "heap")
  if not bytes then
    return settle("held", "this server has no heap profiles")
  end
  return save(event, "heap", bytes, settle)
end

--- Of the seconds that have been: that is what was too much.
function MEANS.cpu_profile(event, settle)
  local seconds = math.ceil(event.opts.seconds or PROFILE_S)
  local bytes = make.text("profile", ("seconds=%d&ago=0&format=pprof"):format(seconds))
  if not bytes then
    return settle("held", "this server has no CPU profiles")
  end
  return save(event, "cpu", bytes, settle)
end

function MEANS.trace_boost(event, settle)
  local share, seconds = event.opts.share or BOOST_SHARE, event.opts.seconds or BOOST_S
  if not core.report("trace_boost", ("%g %g"):format(share, seconds)) then
    return settle("held", "this server samples no traces")
  end
  return settle("done", ("%g of all traces for %g s"):format(share, seconds))
end

--- A function of the app's, in a task: it may wait.
local function call(fn, event, settle)
  local copy = {
    rule = event.rule, value = event.value, condition = event.condition, snapshot = event.snapshot,
  }
  local running = aside("action " .. event.rule, settle, function()
    fn(copy)
    settle("done")
  end)
  if not running then
    return
  end
  task.detach("action's time", function()
    task.sleep(FUNCTION_S)
    if not running:done() then
      settle("failed", ("it takes longer than %d s"):format(FUNCTION_S))
      running:cancel()
    end
  end)
end

local function act(action, event, settle)
  if type(action) == "function" then
    return call(action, event, settle)
  end
  return MEANS[action](event, settle)
end

local LEVELS = { done = log.warn, failed = log.error, held = log.info }

local function told(event)
  event.at = task.now()
  COUNTER:with(event.action, event.outcome, event.rule):add(1)
  LEVELS[event.outcome]("action " .. event.outcome, {
    rule = event.rule, action = event.action, when = event.condition, value = event.value,
    result = event.result, reason = event.reason,
  })
end

local function unjudged(rule, reason, is_new)
  UNJUDGED:with(rule.name):add(1)
  if is_new then
    log.error("action cannot be judged", { rule = rule.name, reason = reason, where = rule.where })
  end
end

-- A life ---------------------------------------------------------------------------------

local engine = engines.engine({
  read = read, act = act, told = told, try = try, unjudged = unjudged,
})

local function add_default(name, key, when, action)
  local limit = core.config(key)
  if limit and limit > 0 then
    assert(engine:add(assert(engines.rule(name, {
      when = when:format(limit), for_ = FIGURES[name] and 10 or 3, cooldown = 60,
    }, action, "perilune"))))
  end
end

if core.config("actions.on") ~= 0 then
  add_default("p99", "actions.p99", "p99 > %gs", "add_worker")
  add_default("allocation", "actions.allocation", "allocation > %.0f", "heap_profile")
end

--- Adds the rules of an app.
---@param app perilune.App
function M.watch(app)
  for _, rule in ipairs(require("perilune.app").actions(app)) do
    local added, err = engine:add(rule)
    if not added then
      error(("%s: %s"):format(rule.where, err), 0)
    end
  end
end

local function look()
  local s = snapshot()
  if s.state == "serving" then
    engine:look(s, s.at)
  end
end

local function settle()
  engine:settle(task.monotonic())
end

local function attempt(fn)
  local ok, failure = pcall(fn)
  if not ok then
    log.error("actions failed", { reason = runner.message(failure) })
  end
end

--- Waits until it is time for the next look; goes on with rules once their functions are done.
local function rest()
  local until_s, pause = task.monotonic() + EVERY_S, POLL_LEAST
  while engine:is_trying() and task.monotonic() < until_s do
    task.sleep(pause)
    attempt(settle)
    pause = math.min(pause * 2, POLL_MOST)
  end
  task.sleep(math.max(0, until_s - task.monotonic()))
end

--- Looks once a second, for ever; the VM's app runs now.
function M.start()
  while core.config("actions.on") ~= 0 do
    ffi.C.pl_context_renew() -- each look is a trace
    attempt(look)
    rest()
  end
end

--- What the VM of the next generation gets ...
---@return string
function M.save()
  return json.encode(engine:save())
end

--- ... and takes over.
---@param text string
function M.adopt(text)
  engine:adopt(json.decode(text) or {})
end

local function answer(c)
  local report = engine:report(task.monotonic())
  report.on = core.config("actions.on") ~= 0
  report.rules, report.firings = json.array(report.rules), json.array(report.firings)
  for _, rule in ipairs(report.rules) do
    rule.actions = json.array(rule.actions)
  end
  c:set("Cache-Control", "no-store")
  return c:json(report)
end

---@param inner perilune.Scope
function M.routes(inner)
  inner:get("/debug/actions", answer)
end

return M
