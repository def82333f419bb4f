--- Waiting and tasks: sleep, spawn, detach, all, every.
---
--- A task is a coroutine of the core that runs `fn(...)` beside its parent. One
--- that was spawned belongs to the request: at its end it is cancelled and
--- waited for. A detached one belongs to the worker. What a task raises is
--- logged, and is what `task:wait()` gives as `nil, err`.
---
--- While the app loads nothing can run: P.detach and P.every then only
--- register, and boot.lua starts what was registered when the worker serves.

local clock = require("perilune.clock")
local core = require("perilune.core")
local ffi = require("perilune.ffi")
local log = require("perilune.log")
local problem = require("perilune.problem")
local runner = require("perilune.runner")
local units = require("perilune.units")
local wait = require("perilune.wait")

local C = ffi.C
local core_clock = C.pl_clock()
local pause = wait.pause
local error, pcall, select, type = error, pcall, select, type
local unpack, xpcall = unpack, xpcall

---@class perilune.task
local M = {}

---@class perilune.Task
---@field name string?
---@field _id number|false of its coroutine; false before it has started
---@field _done boolean
---@field _ok boolean?
---@field _results table? { n, ... } or { n, nil, err }
---@field _watch table|false of those that wait for it; see wait.lua
---@field _co thread|false its coroutine while it runs: who has the task can cancel it
---@field _file string? where it was registered while the app loaded
---@field _line integer?
local Task = {}
Task.__index = Task

local TOO_MANY = "too many tasks"
local EVENT_TASK = 5 -- PL_EVENT_TASK

--- What was registered while the app loaded: { kind, ... } in order.
local registered = {}
local loading = false

--- Waits. Ends with an error at the deadline of the request.
---@param seconds number|string seconds, or "250ms", "2s"
function M.sleep(seconds)
  local time = type(seconds) == "number" and seconds or units.seconds(seconds)
  if not time or time < 0 or time ~= time then
    error("P.sleep takes a number of seconds or a text such as \"250ms\"", 2)
  end
  wait.check(2)
  if time > 0 then -- from now on, not from the tick's beginning, where the core counts
    time = time + clock.since_tick()
  end
  C.pl_wait_timer(time)
  pause()
end

--- Seconds since the epoch, read once per tick of the loop.
---@return number
function M.now()
  return core_clock.now
end

--- Seconds of a clock that is never set; only differences mean something.
---@type fun(): number
M.monotonic = clock.monotonic

local function release(ok, ...)
  C.pl_release()
  if not ok then
    error(runner.rethrown(...), 0)
  end
  return ...
end

--- Runs `fn(...)`. It is not interrupted by other handlers of the worker until
--- it returns or waits; the deadline still holds.
function M.atomic(fn, ...)
  C.pl_hold()
  return release(xpcall(fn, runner.describe, ...))
end

local function end_task(task, ok, ...)
  local named, failure
  if not ok then
    named, failure = pcall(runner.named, (...))
  end
  local code = core.over()
  C.pl_settle()
  if ok then
    task._results = { n = select("#", ...), ... }
  else
    failure = named and failure or runner.unnamed((...))
    if code ~= 0 and not problem.is(failure) then -- what it has made of the error that ended it
      failure = problem.by_code[code]
    end
    if not problem.is(failure) then
      runner.report(("a task failed%s"):format(task.name and " (" .. task.name .. ")" or ""),
        failure, task._site)
    end
    task._error = failure
    task._results = { n = 2, nil, failure.kind == "cancelled" and "cancelled" or failure.message }
  end
  C.pl_hold()
  task._ok, task._done = ok, true
  if not ok and task._group then
    for _, other in ipairs(task._group) do
      other:cancel()
    end
  end
  task._co = false
  local watch = task._watch
  if watch then
    for co, id in pairs(watch) do
      if type(co) == "thread" then
        C.pl_wake(id)
      end
    end
  end
  C.pl_release()
end

local function main(task, fn, ...)
  task._co = wait.root()
  if task.name then
    C.pl_span_task(task.name, #task.name, 0)
  end
  if core.over() ~= 0 then -- cancelled before it has begun
    return end_task(task, false, problem.CANCELLED)
  end
  return end_task(task, xpcall(fn, runner.describe, ...))
end

--- Starts a coroutine for the task. Outside of a request there is none that
--- could own it: then the worker does. Held: it could be over before it has its id.
local function start(task, owned, fn, ...)
  C.pl_hold()
  local id, err = core.spawn(owned, main, task, fn, ...)
  task._id = id or false
  C.pl_release()
  if not id then
    return nil, err or TOO_MANY
  end
  return task
end

local function new_task(name)
  return setmetatable({
    name = name, _id = false, _done = false, _watch = false, _group = false, _co = false,
  }, Task)
end

--- A task that is registered while the app loads, at a line of the app's.
local function register(job, level)
  local at = debug.getinfo(level + 1, "Sl")
  if at and at.source:sub(1, 1) == "@" then
    job.task._file, job.task._line = at.source:sub(2), at.currentline
  end
  registered[#registered + 1] = job
end

local function check_fn(fn, what)
  if type(fn) ~= "function" then
    error(("%s takes a function, not a %s"):format(what, type(fn)), 3)
  end
end

--- Starts a task that belongs to the request: cancelled and waited for at its end.
---@param fn function
---@return perilune.Task? task
---@return string? err "too many tasks"
function M.spawn(fn, ...)
  check_fn(fn, "P.spawn")
  if loading then
    error("no task can be spawned while the app loads: use P.detach or P.every", 2)
  end
  return start(new_task(), true, fn, ...)
end

--- Starts a task that belongs to the worker. While the app loads: registers it,
--- to start in every worker.
---@param name string for logs
---@param fn function
---@return perilune.Task? task
---@return string? err "too many tasks"
function M.detach(name, fn, ...)
  if type(name) ~= "string" then
    error("P.detach takes a name and a function", 2)
  end
  check_fn(fn, "P.detach")
  local task = new_task(name)
  if loading then
    register({ task = task, fn = fn, n = select("#", ...), ... }, 2)
    return task
  end
  return start(task, false, fn, ...)
end

local function tick(name, fn)
  local ok, err = xpcall(fn, runner.describe)
  if not ok then
    if err == problem.CANCELLED then
      error(err, 0)
    end
    C.pl_settle()
    if problem.is(err) then -- ended by the core; the next time it may go well
      err = err.message
    end
    runner.report(("the timer %q failed"):format(name), runner.failure(err))
    C.pl_begin()
  end
end

-- When timers are due, by name; and what those of the generation before had left.
local clocks, inherited = {}, {}

local function repeat_every(seconds, name, fn)
  local before = inherited[name]
  local left = before and before.seconds == seconds and before.left or seconds
  while true do
    clocks[name] = { seconds = seconds, due = clock.monotonic() + left }
    C.pl_wait_timer(left)
    pause()
    clocks[name].due = clock.monotonic() + seconds
    C.pl_context_renew()
    C.pl_span_task(name, #name, 1)
    tick(name, fn)
    C.pl_span_task_end()
    left = seconds
  end
end

--- Calls `fn()` again and again, `interval` after it has returned; in the app's
--- top level. Once per server; `{ per = "worker" }`: in every worker.
---@param interval number|string seconds, or "10s"
---@param name string for logs
---@param opts? table|function
---@param fn? function
function M.every(interval, name, opts, fn)
  local seconds = units.seconds(interval)
  if not seconds or seconds <= 0 then
    error("P.every begins with an interval: a number of seconds or a text such as \"10s\"", 2)
  end
  if type(name) ~= "string" then
    error("P.every takes an interval, a name and a function", 2)
  end
  if type(opts) == "function" then
    opts, fn = fn, opts -- the options may also stand last
  end
  check_fn(fn, "P.every")
  local per = opts and opts.per or "server"
  if per ~= "server" and per ~= "worker" then
    error("per is \"server\" or \"worker\"", 2)
  end
  if not loading then
    error("P.every belongs to the app's top level", 2)
  end
  register({
    task = new_task(name), leader = per == "server", fn = repeat_every,
    n = 3, seconds, name, fn,
  }, 2)
end

-- Task objects ----------------------------------------------------------------------

--- Registers the wait for its end; nothing when it has ended. Held: in between the
--- task could end, and wake nobody.
local function enter(task)
  local watch, root
  C.pl_hold()
  if not task._done then
    watch, root = wait.enter(task, EVENT_TASK, task._id or 0)
  end
  C.pl_release()
  return watch, root
end

local function await(task)
  wait.check(3)
  local watch, root = enter(task)
  while watch do
    local code = wait.suspend()
    watch[root] = nil
    if code ~= 0 then
      wait.raise(code)
    end
    watch, root = enter(task)
  end
end

--- Waits for the task's end.
---@return any ... what its function returned; nil and a text when it raised or was cancelled
function Task:wait()
  if not self._done then
    await(self)
  end
  return unpack(self._results, 1, self._results.n)
end

--- Cancels the task: its present or next wait ends with an error, and every one after it.
function Task:cancel()
  if self._id and not self._done then
    C.pl_cancel(self._id)
  end
end

--- Whether the task has ended.
---@return boolean
function Task:done()
  return self._done
end

--- Runs several functions side by side and waits for all:
--- `local user, orders = P.all { { load_user, id }, { load_orders, id } }`.
--- Gives the first result of each, in order. If one raises, the others are
--- cancelled and its error is raised here.
---@param calls table[] { fn, ... }
---@return any ...
function M.all(calls)
  if type(calls) ~= "table" then
    error("P.all takes a list of { fn, ... }", 2)
  end
  for i = 1, #calls do
    if type(calls[i]) ~= "table" or type(calls[i][1]) ~= "function" then
      error(("P.all takes a list of { fn, ... }; number %d is none"):format(i), 2)
    end
  end
  local tasks, results, count = {}, {}, #calls
  local failed
  C.pl_hold() -- one that fails early must know all the others
  for i = 1, count do
    local call = calls[i]
    local task, err = start(new_task(), true, unpack(call, 1, table.maxn(call)))
    if not task then
      failed = err
      break
    end
    task._group = tasks
    tasks[i] = task
  end
  C.pl_release()
  for i = 1, #tasks do
    local task = tasks[i]
    if failed then
      task:cancel()
    end
    task:wait()
    if not task._ok and (not failed or failed == problem.CANCELLED) then
      failed = task._error
      failed = problem.is(failed) and failed or runner.failure(failed).err
    end
    results[i] = task._results[1]
  end
  if failed then
    error(failed, 0)
  end
  return unpack(results, 1, count)
end

-- For boot.lua -----------------------------------------------------------------------

--- From here on P.detach and P.every register instead of starting.
function M.begin_loading()
  loading = true
  registered = {}
end

--- The app is loaded: what it registered.
---@return table[]
function M.end_loading()
  loading = false
  local list = registered
  registered = {}
  return list
end

--- What the timers have left, for the generation that comes next: a timer of the same name and
--- interval goes on there.
---@return table<string, { seconds: number, left: number }>
function M.clocks()
  local list, now = {}, clock.monotonic()
  for name, each in pairs(clocks) do
    list[name] = { seconds = each.seconds, left = math.max(0, each.due - now) }
  end
  return list
end

--- Takes that over, before `start`.
---@param list table
function M.inherit(list)
  inherited = list
end

--- Starts what was registered.
---@param list table[] of end_loading
---@param leader boolean whether this worker runs what runs once per server
function M.start(list, leader)
  for _, job in ipairs(list) do
    if leader or not job.leader then
      local ok, err = start(job.task, false, job.fn, unpack(job, 1, job.n))
      if not ok then
        log.error(("the task %q could not start: %s"):format(job.task.name, err))
      end
    end
  end
end

return M
