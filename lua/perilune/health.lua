--- How well the server is: the app's checks and our own rules, run in the VM of the admin plane.
---
---   a check's run    passed, degraded, failed
---   a check          pending until its first run, then what that says. Worse it is after
---                    failure_threshold runs in a row that say so, better after
---                    success_threshold
---   the server       unhealthy when something critical is; else degraded when anything is not
---                    healthy; else healthy
---
--- Each check is a task of its own, so that one that waits or computes without end keeps no
--- other from its time. One that blocks in C keeps all: it should have a time limit of its own.

local app_module = require("perilune.app")
local core = require("perilune.core")
local ffi = require("perilune.ffi")
local json = require("perilune.json")
local log = require("perilune.log")
local metric = require("perilune.metric")
local task = require("perilune.task")

---@class perilune.health
local M = {}

---@alias perilune.HealthState "pending"|"healthy"|"degraded"|"unhealthy"

---@class perilune.HealthCheck
---@field name string
---@field opts table every, timeout, critical, failure_threshold, success_threshold
---@field fn fun(): any, string?
---@field state perilune.HealthState
---@field reason string? why it is not healthy
---@field failures integer in a row
---@field worse integer runs in a row that said worse than its state
---@field passes integer runs in a row that said better
---@field runs integer
---@field ran_at number? seconds since the epoch
---@field took number? seconds
---@field since number? of the state, seconds since the epoch

local POLL_LEAST, POLL_MOST = 0.001, 0.02 -- while a check runs
local REASON_BYTES = 300
local LATE = "it takes longer than %gs"

local checks = {} ---@type perilune.HealthCheck[] in order
local by_name = {} ---@type table<string, perilune.HealthCheck>
local watches = false -- an app
local is_first = true -- no VM before this one has: later a check that is new holds nothing up

local GAUGE = metric.gauge("perilune_health",
  "What health checks say: 1 healthy, 0.5 degraded, 0 unhealthy or not known yet.", { "check" })
local GAUGE_VALUES = { healthy = 1, degraded = 0.5, unhealthy = 0, pending = 0 }

-- States --------------------------------------------------------------------------------

--- How the server is, all together.
---@return perilune.HealthState
function M.overall()
  local worst = "healthy"
  for _, check in ipairs(checks) do
    local state = check.state
    if check.opts.critical and (state == "unhealthy" or state == "pending" and is_first) then
      return "unhealthy"
    end
    if state == "unhealthy" or state == "degraded" then
      worst = "degraded"
    end
  end
  return worst
end

--- Whether requests should come here: it serves, and nothing critical is unhealthy.
---@return boolean
function M.is_ready()
  return core.report("state") == "serving" and M.overall() ~= "unhealthy"
end

--- Whether it has come so far as to serve.
---@return boolean
function M.has_started()
  return core.report("state") ~= "starting"
end

--- For clients of gRPC: readiness as "" and "ready", that this answers as "live", and each
--- check by its name.
local function tell()
  local ready = M.is_ready() and "+" or "-"
  local lines = { "=" .. M.overall(), ready, ready .. "ready", "+live" }
  for _, check in ipairs(checks) do
    local serves = check.state == "healthy" or check.state == "degraded"
    lines[#lines + 1] = (serves and "+" or "-") .. check.name
    GAUGE:with(check.name):set(GAUGE_VALUES[check.state])
  end
  core.report("health", table.concat(lines, "\n"))
end

local function enter(check, state, reason)
  check.reason = state ~= "healthy" and reason or nil
  if check.state == state then
    return
  end
  local before = check.state
  check.state, check.since = state, task.now()
  check.worse, check.passes = 0, 0
  if before ~= "pending" or state ~= "healthy" then
    local write = state == "healthy" and log.info or log.warn
    write(("health: %s is %s"):format(check.name, state), { before = before, reason = reason })
  end
end

-- The state that a result speaks for, and how bad it is.
local SAYS = { passed = "healthy", degraded = "degraded", failed = "unhealthy" }
local RANKS = { healthy = 0, degraded = 1, unhealthy = 2 }

--- What is reached by a run that says `said`, with all streaks counted.
local function state_after(check, said)
  local opts, rank = check.opts, RANKS[check.state]
  if not rank or check.failures >= opts.failure_threshold then
    return said
  elseif RANKS[said] > rank and check.worse >= opts.failure_threshold then
    return "degraded" -- what has failed too seldom to be unhealthy, too
  elseif RANKS[said] < rank and check.passes >= opts.success_threshold then
    return said
  end
  return check.state
end

--- Takes in one result.
---@param check perilune.HealthCheck
---@param result "passed"|"degraded"|"failed"
---@param reason string?
local function note(check, result, reason)
  local said = SAYS[result]
  local rank, now = RANKS[said], RANKS[check.state] or 0
  check.failures = result == "failed" and check.failures + 1 or 0
  check.worse = rank > now and check.worse + 1 or 0
  check.passes = rank < now and check.passes + 1 or 0
  local state = state_after(check, said)
  if state == said or state ~= check.state then
    enter(check, state, reason)
  end
  tell()
end

-- Running -------------------------------------------------------------------------------

--- A reason as a text that JSON can have, as it goes into reports.
local function cut(reason)
  local text = tostring(reason or "it said no reason")
  if #text > REASON_BYTES then
    text = text:sub(1, REASON_BYTES):gsub("[\192-\255][\128-\191]*$", "") .. "..."
  end
  if not pcall(json.encode, text) then -- no UTF-8
    text = text:gsub("[\128-\255]", "?")
  end
  return text
end

--- What a check has returned, as a result and a reason.
local function judge(count, value, reason)
  if value == "degraded" then
    return "degraded", cut(reason)
  elseif count == 0 or value then
    return "passed"
  end
  return "failed", cut(reason)
end

local function judge_call(ok, ...)
  if not ok then
    local failure = require("perilune.runner").failure((...))
    return "failed", cut(failure.message or require("perilune.runner").message(failure.err))
  end
  return judge(select("#", ...), ...)
end

--- Runs it once, in a task, for at most its timeout.
---@param check perilune.HealthCheck
---@return "passed"|"degraded"|"failed" result
---@return string? reason
local function run(check)
  local result, reason, ended
  local started, pause = task.monotonic(), POLL_LEAST
  local running, err = task.detach("health " .. check.name, function()
    result, reason = judge_call(xpcall(check.fn, require("perilune.runner").describe))
    ended = task.monotonic()
  end)
  if not running then
    return "failed", err
  end
  while not running:done() do
    local left = check.opts.timeout - (task.monotonic() - started)
    if left <= 0 then
      running:cancel()
      return "failed", LATE:format(check.opts.timeout)
    end
    task.sleep(math.min(pause, left))
    pause = math.min(pause * 2, POLL_MOST)
  end
  if ended and ended - started > check.opts.timeout then -- it blocked in C
    return "failed", LATE:format(check.opts.timeout)
  end
  return result or "failed", reason
end

local function run_and_note(check)
  ffi.C.pl_context_renew() -- each run is a trace
  local started = task.monotonic()
  local result, reason = run(check)
  check.took = task.monotonic() - started
  check.ran_at = task.now()
  check.runs = check.runs + 1
  note(check, result, reason)
end

local function keep_running(check)
  while true do
    run_and_note(check)
    task.sleep(check.opts.every)
  end
end

local function add(name, opts, fn)
  local check = {
    name = name, opts = opts, fn = fn, state = "pending", failures = 0, worse = 0, passes = 0,
    runs = 0,
  }
  checks[#checks + 1], by_name[name] = check, check
end

-- Rules of our own -------------------------------------------------------------------------

local SILENT_MS = 2000 -- a worker beats ten times a second
local RULE = { every = 0.5, timeout = 1, failure_threshold = 2, success_threshold = 20 }

local function rule(critical)
  local opts = { critical = critical }
  for key, value in pairs(RULE) do
    opts[key] = value
  end
  return opts
end

local read = { at = -1 } -- the status that was read last

--- The server's status, not older than a rule's interval.
local function status_now()
  if task.monotonic() - read.at >= RULE.every / 2 then
    read = { at = task.monotonic(), status = assert(json.decode(core.report("status"))) }
  end
  return read.status
end

--- Workers that do not answer. The server still serves while one does.
local function workers_rule()
  local wanted, well, names = 0, 0, {}
  local status = status_now()
  for _, worker in ipairs(status.workers) do
    wanted = wanted + 1
    if worker.state == "serving" and worker.heartbeat_ms < SILENT_MS then
      well = well + 1
    elseif worker.state == "serving" then
      names[#names + 1] = ("%d is silent"):format(worker.index)
    else
      names[#names + 1] = ("%d is %s"):format(worker.index, worker.state)
    end
  end
  if well == wanted or status.state ~= "serving" then
    return true
  end
  local reason = ("worker %s"):format(table.concat(names, ", "))
  if well == 0 then
    return false, reason
  end
  return "degraded", reason
end

--- Degraded when `is_bad` says why for one worker or more.
local function each_worker(is_bad)
  return function()
    local reasons = {}
    for _, worker in ipairs(status_now().workers) do
      local reason = worker.state == "serving" and is_bad(worker)
      if reason then
        reasons[#reasons + 1] = ("worker %d: %s"):format(worker.index, reason)
      end
    end
    if #reasons > 0 then
      return "degraded", table.concat(reasons, ", ")
    end
    return true
  end
end

local LAG_MS = 200 -- P99 of the loop's turns
local MEMORY_SHARE = 0.9 -- of vm.memory_soft, past which handlers are failed
local ERROR_SHARE = 0.05
local ERRORS_PER_S = 1 -- fewer are not a trend

local function lag_of(worker)
  return worker.lag_ms and worker.lag_ms > LAG_MS
    and ("turns of the loop take %.0f ms (P99)"):format(worker.lag_ms)
end

local function memory_of(worker)
  local limit = core.config("vm.memory_soft") or 0
  local bytes = worker.memory_bytes or 0
  return limit > 0 and bytes > MEMORY_SHARE * limit
    and ("Lua holds %.0f MiB, the limit is %.0f"):format(bytes / 2 ^ 20, limit / 2 ^ 20)
end

local function errors_rule()
  local status = status_now()
  local rate, errors = status.requests_per_s or 0, status.errors_per_s or 0
  if errors >= ERRORS_PER_S and errors > ERROR_SHARE * rate then
    return "degraded", ("%.0f %% of %.0f requests a second fail"):format(100 * errors / rate, rate)
  end
  return true
end

add("workers", rule(true), workers_rule)
add("loop", rule(false), each_worker(lag_of))
add("memory", rule(false), each_worker(memory_of))
add("errors", rule(false), errors_rule)

-- A life -----------------------------------------------------------------------------------

--- Adds the checks of an app.
---@param app perilune.App
function M.watch(app)
  watches = true
  for _, check in ipairs(app_module.checks(app)) do
    if by_name[check.name] or check.name == "ready" or check.name == "live" then
      error(("%s: there is a health check %q already"):format(check.where, check.name), 0)
    end
    add(check.name, check.opts, check.fn)
  end
end

--- Begins to run everything; the admin plane serves now.
function M.start()
  for _, check in ipairs(checks) do
    task.detach("health of " .. check.name, keep_running, check)
  end
  tell()
end

local KEPT = {
  "state", "reason", "failures", "worse", "passes", "runs", "ran_at", "took", "since",
}

--- All that is known, as a text.
---@return string
function M.save()
  local saved = {}
  for _, check in ipairs(checks) do
    local one = {}
    for _, key in ipairs(KEPT) do
      one[key] = check[key]
    end
    saved[check.name] = one
  end
  return json.encode({ watches = watches, checks = saved })
end

--- Goes on from what M.save has given, for the checks that are still there.
---@param text string
function M.adopt(text)
  local saved = assert(json.decode(text))
  is_first = not saved.watches
  for name, one in pairs(saved.checks) do
    local check = by_name[name]
    for _, key in ipairs(check and KEPT or {}) do
      if one[key] ~= json.null then
        check[key] = one[key]
      end
    end
  end
end

--- Everything, for /healthz?verbose.
---@return table
function M.report()
  local list = {}
  for i, check in ipairs(checks) do
    list[i] = {
      name = check.name, state = check.state, reason = check.reason,
      critical = check.opts.critical, runs = check.runs, failures = check.failures,
      ran_at = check.ran_at, since = check.since,
      took_ms = check.took and math.floor(check.took * 1e5 + 0.5) / 100,
    }
  end
  local watching = core.report("watching")
  return {
    state = M.overall(), ready = M.is_ready(), server = core.report("state"),
    checks = json.array(list),
    not_watched = watching ~= "" and watching or nil,
  }
end

return M
