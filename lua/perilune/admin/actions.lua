--- The rules of perilune/actions.lua at work: figures from the server's own status and metrics,
--- once a second, and what there is to be done about them. In the VM of the admin plane, so that
--- it works while every worker hangs.

local core = require("perilune.core")
local engines = require("perilune.actions")
local ffi = require("perilune.ffi")
local json = require("perilune.json")
local log = require("perilune.log")
local metric = require("perilune.metric")
local runner = require("perilune.runner")
local task = require("perilune.task")

---@class perilune.admin.actions
local M = {}

M.index = [[
GET /debug/actions    rules, how they are, and what was done last, as JSON
]]

local EVERY_S = 1
local FUNCTION_S = 30 -- that a function of the app's may take
local PROFILE_S = 10
local BOOST_S, BOOST_SHARE = 60, 1
local LEVEL_S = 300
local SILENT_MS = 2000 -- as the health rule has it

local COUNTER = metric.counter("perilune_actions_total", "Actions that rules have done.",
  { "action", "rule" })

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

--- Figures that are metrics under another name.
local ALIASES = {
  allocation = { name = "perilune_vm_allocated_bytes_total", is_rate = true },
}

local before = {} -- values of counters: by the figure, { at, value, rate }

local function has_labels(text, labels)
  for name, value in pairs(labels or {}) do
    if not text:find(("%s=\"%s\""):format(name, value), 1, true) then
      return false
    end
  end
  return true
end

--- The sum of all series of a metric that have these labels; nil: there is none.
local function series_sum(text, name, labels)
  local total
  for line in ("\n" .. text):gmatch("\n(" .. name:gsub("%p", "%%%0") .. "[{ ][^\n]*)") do
    local braces, value = line:match("^[^{ ]+(%b{}) (%S+)")
    value = tonumber(value or line:match("^%S+ (%S+)"))
    if value and has_labels(braces or "", labels) then
      total = (total or 0) + value
    end
  end
  return total
end

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

local function read_metric(condition, s)
  local alias = ALIASES[condition.name]
  local name = alias and alias.name or condition.name
  s.metrics = s.metrics or core.report("metrics") or ""
  local value = series_sum(s.metrics, name, condition.labels)
  if value and (condition.is_rate or alias and alias.is_rate) then
    return rate_of(condition.text, value, s.at)
  end
  return value
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

--- Asks the master for something; it answers in the log.
local function wish(what)
  if core.report("wish", what) then
    return true
  end
  return nil, "the server does not listen to its admin plane"
end

local function save(event, kind, suffix, bytes)
  local path = core.report("save", ("%s-%s%s\n"):format(kind, event.rule, suffix) .. bytes)
  if not path then
    return nil, "the file could not be written: see recorder.folder, and the log"
  end
  return path
end

local MEANS = {}

function MEANS.add_worker(event)
  local most = event.opts.workers_max or core.config("actions.workers_max")
  if most == 0 then
    most = core.config("cpus")
  end
  local count = #event.snapshot.workers
  if count >= most then
    return nil, ("there are %d workers, and there may be %d"):format(count, most)
  end
  return wish(("worker %d"):format(most))
end

function MEANS.collect()
  return wish("collect")
end

function MEANS.log_level(event)
  return wish(("level %s %d"):format(event.opts.level, event.opts.seconds or LEVEL_S))
end

function MEANS.record(event)
  if core.config("recorder.on") == 0 then
    return nil, "nothing is recorded: recorder.on is false"
  end
  return wish("record " .. event.rule)
end

function MEANS.heap_profile(event)
  local bytes = core.report("heap", "heap")
  if not bytes then
    return nil, "this server has no heap profiles"
  end
  return save(event, "heap", ".pb.gz", bytes)
end

--- Of the seconds that have been: that is what was too much.
function MEANS.cpu_profile(event)
  local seconds = math.max(1, math.floor(event.opts.seconds or PROFILE_S))
  local bytes = core.report("profile", ("seconds=%d&ago=0&format=pprof"):format(seconds))
  if not bytes then
    return nil, "this server has no CPU profiles"
  end
  return save(event, "cpu", ".pb.gz", bytes)
end

function MEANS.trace_boost(event)
  local share, seconds = event.opts.share or BOOST_SHARE, event.opts.seconds or BOOST_S
  if not core.report("trace_boost", ("%g %g"):format(share, seconds)) then
    return nil, "this server samples no traces"
  end
  return true
end

--- A function of the app's, in a task: it may wait.
local function call(fn, event)
  local copy = {
    rule = event.rule, value = event.value, condition = event.condition, snapshot = event.snapshot,
  }
  local running, err = task.detach("action " .. event.rule, function()
    local ok, failure = xpcall(fn, runner.describe, copy)
    if not ok then
      log.error("action failed", {
        rule = event.rule, reason = runner.message(runner.failure(failure).err),
      })
    end
  end)
  if not running then
    return nil, err
  end
  task.detach("action's time", function()
    task.sleep(FUNCTION_S)
    if not running:done() then
      running:cancel()
      log.error("action failed", {
        rule = event.rule, reason = ("it takes longer than %d s"):format(FUNCTION_S),
      })
    end
  end)
  return true
end

local function act(action, event)
  if type(action) == "function" then
    return call(action, event)
  end
  return MEANS[action](event)
end

local function told(event)
  event.at = task.now()
  COUNTER:with(event.action, event.rule):add(1)
  log.warn("action done", {
    rule = event.rule, action = event.action, when = event.condition, value = event.value,
    result = event.result,
  })
end

local function held(rule, reason)
  log.info("action held", { rule = rule.name, reason = reason })
end

-- A life ---------------------------------------------------------------------------------

local engine = engines.engine({ read = read, act = act, told = told, held = held })

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

--- Looks once a second, for ever; the admin plane serves now.
function M.start()
  while core.config("actions.on") ~= 0 do
    ffi.C.pl_context_renew() -- each look is a trace
    local ok, failure = pcall(function()
      if core.report("state") == "serving" then
        engine:look(snapshot(), task.monotonic())
      end
    end)
    if not ok then
      log.error("actions failed", { reason = runner.message(failure) })
    end
    task.sleep(EVERY_S)
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
