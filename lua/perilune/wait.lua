--- The trampoline of all waits, and coroutines that waits can pass through.
---
--- A wait is registered with the core by FFI; then the coroutine that the core
--- resumed (a runner or a task: a *root*) yields the mark WAIT, and is resumed
--- with a PL_WAKE_* code. Users make coroutines of their own on top of a root.
--- A wait inside one of them must suspend the root, not return to whoever
--- resumed it: so `coroutine.resume` and `wrap` look for the mark, pass it on
--- outwards, and resume the inner coroutine with the code. Other yields are
--- the user's and pass untouched.
---
--- A coroutine that is preempted yields as well, without a value, from wherever
--- it is: `core.passing` tells such a yield from the user's own. It is passed on
--- outwards in the same way; where it cannot be, because a C function is running
--- further out (the comparator of a table.sort that resumes a coroutine), the
--- inner one goes on at once.
---
--- While a user's coroutine waits, or is preempted, it looks as if it were running
--- ("normal"): nobody but its own root may resume it.
---
--- Who waits for another coroutine does it in the *watch* of what stands between
--- them (a task, a channel): `local watch, root = wait.enter(object, ...)`, then
--- `wait.suspend()`, then `watch[root] = nil`, whatever the code is. The watch holds
--- the coroutine meanwhile, and nothing else does: so the collector finds those that
--- nobody can wake (core/vm/waiting.h). Nothing else may take a coroutine out of it.

local core = require("perilune.core")
local ffi = require("perilune.ffi")
local problem = require("perilune.problem")

local raw_create, raw_resume = coroutine.create, coroutine.resume
local raw_running, raw_status, raw_yield = coroutine.running, coroutine.status, coroutine.yield
local is_yieldable = coroutine.isyieldable
local error, type = error, type
local C = ffi.C
local forget_wait, new_watch, core_root = core.forget_wait, core.watch, core.root
local has_stack, passed, passing = core.has_stack, core.passed, core.passing

---@class perilune.wait
local M = {}

local WAIT = setmetatable({}, { __tostring = function() return "perilune wait" end })

local WAKE = problem.by_code
local NOWHERE = -1 -- beside PL_WAKE_*: it was no wait
local CANNOT = "nothing can wait here: a C function (table.sort, string.gsub ...) is running"

local roots = setmetatable({}, { __mode = "k" }) -- coroutines that the core resumes
local waiting = setmetatable({}, { __mode = "k" }) -- users' coroutines inside a wait

--- Raises unless the running coroutine can wait; before a wait is registered.
---@param level integer as of error(), seen from the caller
function M.check(level)
  if not is_yieldable() then
    if raw_running() then
      error(CANNOT, level + 1)
    end
    error("nothing can wait while the app loads", level + 1)
  end
end

--- Suspends until the wait that was just registered is over; the code as it is.
---@return integer code PL_WAKE_*
function M.suspend()
  return raw_yield(WAIT)
end

--- Raises what a wake-up code stands for.
---@param code integer PL_WAKE_*, not 0
function M.raise(code)
  if code == NOWHERE then
    error(CANNOT, 3)
  end
  error(WAKE[code] or problem.CANCELLED, 0)
end
local raise = M.raise

--- Suspends until the wait that was just registered is over. Raises the tag of
--- problem.lua unless what was waited for has happened.
function M.pause()
  local code = raw_yield(WAIT)
  if code ~= 0 then
    raise(code)
  end
end

--- Nothing to do: gives the runner back to the core until there is.
function M.idle()
  return raw_yield()
end

--- Marks the running coroutine as one that the core resumes.
---@return thread co
function M.root()
  local co = raw_running()
  roots[co] = true
  return co
end

--- Registers that the running coroutine waits for a wake-up, in the watch of `object`.
--- Held by the caller (pl_hold) together with what it has looked at to know that it must.
---@param object { _watch: table|false }
---@param reason integer PL_EVENT_*
---@param number number of the object, for the list of coroutines
---@return table watch
---@return thread root the key in it
function M.enter(object, reason, number)
  local watch = object._watch
  if not watch or watch.spent then
    watch = new_watch()
    object._watch = watch
  end
  local co = raw_running()
  if not roots[co] then
    co = core_root()
  end
  watch[co] = C.pl_coro_id()
  C.pl_wait_event(reason, watch.serial, number, -1)
  return watch, co
end

local function settle(co, ok, mark, ...)
  if mark == WAIT and ok then
    if not is_yieldable() then -- a C function runs further out
      forget_wait()
      return settle(co, raw_resume(co, NOWHERE))
    end
    waiting[co] = true
    local code = raw_yield(WAIT)
    waiting[co] = nil
    return settle(co, raw_resume(co, code))
  end
  if mark == nil and passing() then
    if is_yieldable() then
      waiting[co] = true
      raw_yield()
      waiting[co] = nil
    else
      passed()
    end
    return settle(co, raw_resume(co))
  end
  return ok, mark, ...
end

core.passes(settle) -- so that the core finds where the inner one waits

local function resume(co, ...)
  if waiting[co] then
    return false, "cannot resume a coroutine that waits"
  end
  if not has_stack() then -- LuaJIT would overrun the C stack
    return false, "stack overflow (coroutines resumed inside each other)"
  end
  return settle(co, raw_resume(co, ...))
end

local function unwrap(ok, first, ...)
  if ok then
    return first, ...
  end
  if type(first) == "string" then
    error(first, 3) -- as the built-in one does: with the place of the call
  end
  error(first, 0)
end

local function wrap(fn)
  local co = raw_create(fn)
  return function(...)
    return unwrap(resume(co, ...))
  end
end

local function status(co)
  return waiting[co] and "normal" or raw_status(co)
end

local function yield(...)
  if roots[raw_running() or 0] then
    error("coroutine.yield outside a coroutine of your own; to wait, use perilune's functions", 2)
  end
  return raw_yield(...)
end

--- Puts the wrappers in the place of the built-in functions; once per VM,
--- before any code of the app is loaded.
function M.install()
  coroutine.resume, coroutine.wrap = resume, wrap
  coroutine.status, coroutine.yield = status, yield
end

return M
