---@meta _
--- The app: what `P.app` and `app:group` return.
-- luacheck: no unused

--- Calls `next(c)` once, or answers: by a value that is not nil, or by a
--- responder. Behind `next(c)` the answer is known and headers can be set.
---@alias perilune.Middleware fun(c: perilune.Context, next: fun(c: perilune.Context): any): any

--- Gets the context and the parameters of the pattern, in their order: <int>
--- as a number, all others as strings. Returns body, status, headers.
---@alias perilune.Handler fun(c: perilune.Context, ...): any, integer?, table<string, any>?

---@class perilune.RouteOptions
---@field timeout? number|string|false deadline of its requests, in place of timeouts.handler
---@field body_max? integer|string largest body in bytes, or "10M", in place of limits.body
---@field name? string unique; for `perilune routes --json`

--- What an app and its groups have in common. All return themselves, so that
--- calls can be chained. Wrong use raises at the line of the call; so does any
--- call once the app has been loaded.
---@class perilune.Scope
local Scope = {}

--- Registers the handler of GET, and of HEAD where that has none of its own.
---@param pattern string "/notes/:id<int>"; types int, uuid, slug; "/files/*path" takes the rest
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:get(pattern, ...) end

---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:post(pattern, ...) end

---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:put(pattern, ...) end

---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:patch(pattern, ...) end

---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:delete(pattern, ...) end

---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:head(pattern, ...) end

---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:options(pattern, ...) end

--- Registers a handler for all methods that have none of their own for the pattern.
---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:any(pattern, ...) end

--- Registers a handler for several methods.
---@param methods string[]|string { "GET", "POST" }
---@param pattern string as for `get`
---@param ... perilune.RouteOptions|perilune.Middleware|perilune.Handler the handler comes last
---@return self
function Scope:route(methods, pattern, ...) end

--- Registers middleware for all routes of the app or group, whether they come
--- before or after; with a prefix such as "/admin/*" for "/admin" and all below.
---@param ... string|perilune.Middleware
---@return self
function Scope:use(...) end

--- A group of routes under a prefix, with middleware of its own.
---@param prefix string "/api"
---@param ... perilune.Middleware
---@return perilune.Scope group
function Scope:group(prefix, ...) end

--- Puts another app under a prefix, with its middleware, on_error and not_found.
---@param prefix string "/v1"
---@param app perilune.App
---@return self
function Scope:mount(prefix, app) end

---@class perilune.App: perilune.Scope
---@field title string?
local App = {}

--- Answers for handlers that raised; what the server itself refuses (a
--- malformed body, a deadline) doesn't come here. The error is in the log already.
---@param fn fun(c: perilune.Context, err: any): any, integer?, table<string, any>?
---@return perilune.App
function App:on_error(fn) end

---@class perilune.HealthOptions
---@field every? number|string between two runs: seconds, or "5s"; 10 s
---@field timeout? number|string of a run; 1 s
---@field critical? boolean while it is unhealthy, the server is not ready; false
---@field failure_threshold? integer runs in a row that make it worse; 2
---@field success_threshold? integer runs in a row that make it better; 1

--- A health check, run beside the workers, not in them; also without an admin plane.
--- `fn` returns something true, or nothing at all, when all is well; nil or
--- false and a reason when it is not; "degraded" and a reason. What it raises
--- is a failure, and so is taking longer than its timeout.
---@param name string unique; up to 64 letters, digits, "-", "_" and "."
---@param opts perilune.HealthOptions
---@param fn fun(): any, string?
---@return perilune.App
---@overload fun(self: perilune.App, name: string, fn: fun(): any, string?): perilune.App
function App:health(name, opts, fn) end

---@class perilune.ActionOptions
---@field when string|fun(s: table): any, number? "p99 > 150ms": a figure, how it is compared, and
---   a limit; a function gets the server's status and says whether it is time, and why as a number
---@field for_? number|string how long the condition holds before anything is done; 10 s, up to 24 h
---@field cooldown? number|string from one doing to the next; 5 min, up to 7 days
---@field route? string of which p50, p99, requests, errors, error_share are meant; else all
---@field seconds? number|string of a CPU profile (1 s to 15 min), of a log level, of a higher share
---   of traces (1 s to 24 h)
---@field level? "debug"|"info"|"warn"|"error" for log_level
---@field share? number of traces, above 0, up to 1, for trace_boost
---@field workers_max? integer 1 to 256, for add_worker; else `actions.workers_max`

---@alias perilune.ActionName "add_worker"|"collect"|"cpu_profile"|"heap_profile"|"log_level"|
---| "record"|"trace_boost"

--- A rule, looked at once a second beside the workers, also without an admin plane: when a figure
--- is out of bounds for a time, do something. A function is called there with { rule, value,
--- condition, snapshot }, and may wait.
---@param name string unique; up to 64 letters, digits, "-", "_" and "."
---@param opts perilune.ActionOptions
---@param action perilune.ActionName|fun(event: table)|(perilune.ActionName|fun(event: table))[]
---@return perilune.App
function App:action(name, opts, action) end

--- Answers for paths that no route matches.
---@param fn fun(c: perilune.Context): any, integer?, table<string, any>?
---@return perilune.App
function App:not_found(fn) end
