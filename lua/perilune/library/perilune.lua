---@meta perilune
--- For editors only, as all files of this folder: nothing loads them. What
--- apps get from `require "perilune"`. A spec compares them with the code.
-- luacheck: no unused

---@class perilune
---@field version string "0.1.0"
---@field settings table the app's own settings: `settings` of the configuration
---@field json perilune.json
---@field log perilune.log
---@field metric perilune.metric
---@field shared perilune.shared
---@field config perilune.config
---@field context perilune.current
local P = {}

---@class perilune.AppOptions
---@field title? string what the app is called
---@field version? string of the app
---@field description? string

--- A new app. The app's file ends with `return app`.
---@param opts? perilune.AppOptions
---@return perilune.App
function P.app(opts) end

--- Waits, while other requests go on. Raises at the deadline of the request,
--- and when its client goes away: handlers need not catch that.
---@param seconds number|string seconds, or "250ms", "2s"
function P.sleep(seconds) end

--- Seconds since the epoch, with a fraction; read once per tick of the worker.
---@return number
function P.now() end

--- Seconds of a clock that is never set: only differences mean something.
--- Read once per tick of the worker.
---@return number
function P.monotonic() end

--- Runs `fn(...)` and returns what it returns. No other handler of the worker
--- runs between its steps, unless `fn` itself waits; the deadline still holds.
--- For changes of shared Lua state that take more than one step.
---@generic T
---@param fn fun(...): T
---@param ... any
---@return T ...
function P.atomic(fn, ...) end

--- Starts a task that belongs to the request: at its end the task is cancelled
--- and waited for. Raises while the app loads.
---@param fn function
---@param ... any for fn
---@return perilune.Task? task
---@return string? err "too many tasks": past limits.tasks or limits.tasks_per_worker
function P.spawn(fn, ...) end

--- Starts a task that belongs to the worker and outlives the request. At the
--- app's top level it is registered, and starts in every worker.
---@param name string for the log
---@param fn function
---@param ... any for fn
---@return perilune.Task? task
---@return string? err "too many tasks": past limits.tasks_per_worker
function P.detach(name, fn, ...) end

---@class perilune.EveryOptions
---@field per? "server"|"worker" default "server": in one worker only

--- Calls `fn()` again and again, the first time after one interval, then
--- `interval` after it has returned. Belongs to the app's top level.
---@param interval number|string seconds, or "10s"
---@param name string for the log
---@param opts? perilune.EveryOptions may also stand last, or be left out
---@param fn? fun()
---@overload fun(interval: number|string, name: string, fn: fun(), opts?: perilune.EveryOptions)
function P.every(interval, name, opts, fn) end

--- A table that outlives reloads of the app, in each worker: the state of the
--- generation before goes over to the next one. Holds strings, numbers, booleans
--- and tables of them, 1 MiB in all. Belongs to the app's top level.
---@param name string
---@param version number of its form: raised when that changes
---@param init fun(): table makes the first one
---@param migrate? fun(old: table, version: number): table from another version;
---   without it a reload that changes the version is rejected
---@return table kept the same table as long as the generation lives
function P.keep(name, version, init, migrate) end

--- Makes a channel between coroutines of this worker: values come out in the order
--- in which they went in, each to one receiver.
---@param size? integer values that it has room for, at most 1048576; default 0: a sender waits for
---   its receiver
---@return perilune.Channel
function P.channel(size) end

--- Puts a text into what the flight recorder has: it stands in the trace of
--- `GET /debug/trace` at this moment, on the line of its worker. Costs some 20 ns.
---@param text string cut after 48 bytes
function P.mark(text) end

--- Runs several functions side by side and waits for all. If one raises, the
--- others are cancelled and its error is raised here.
---@param calls table[] { fn, ... } each
---@return any ... the first result of each, in their order
function P.all(calls) end

--- Runs `fn(...)` in a span of its own, which traces show by its name with what it waits for; logs,
--- `P.context` and inner spans have it as theirs. An error marks it as failed and is raised again.
--- At most 8 lie in one another; inside deeper ones `fn` just runs.
---@generic T
---@param name string at most 128 bytes are kept
---@param fn fun(...): T
---@param ... any for fn
---@return T ... what fn has returned
function P.span(name, fn, ...) end

--- Says something about the innermost span that runs, or about the request or detached task where
--- there is none. Said again, it replaces what was said.
---@param key string at most 64 bytes are kept
---@param value string|number|boolean of a text at most 512 bytes
function P.span_set(key, value) end

return P
