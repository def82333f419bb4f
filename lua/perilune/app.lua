--- What an app registers: routes, middleware, groups, mounts, error handlers.
---
--- Registration only collects; compile.lua makes route functions of it. Wrong
--- use raises at the caller's line. An app that has been loaded is closed:
--- registering more would have no effect, so it raises.

local actions = require("perilune.actions")
local pattern = require("perilune.pattern")
local units = require("perilune.units")

---@class perilune.app
local M = {}

---@class perilune.Scope
---@field _prefix string "" or "/x"
---@field _uses table[] { fn, parts?, where }
---@field _routes table[]
---@field _children table[] { scope, prefix, where, mount }
---@field _root perilune.App whose group it is, or itself
local Scope = {}
Scope.__index = Scope

---@class perilune.App: perilune.Scope
---@field title string?
local App = setmetatable({}, { __index = Scope })
App.__index = App
App.__tostring = function(app)
  return ("perilune app %s"):format(app.title or "without a title")
end

M.METHODS = { "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS" }

local METHODS = { ANY = true }
for _, name in ipairs(M.METHODS) do
  METHODS[name] = true
end

local APP_OPTIONS = { title = true, version = true, description = true }
local ROUTE_OPTIONS = { timeout = true, body_max = true, name = true }

---@param level integer as of error(), seen from the caller
---@return string "file:line"
local function where(level)
  local info = debug.getinfo(level + 1, "Sl")
  if not info then
    return "?"
  end
  return ("%s:%d"):format((info.source:gsub("^[@=]", "")), info.currentline)
end

--- Where a function is defined.
---@param fn function
---@return string "file:line"
function M.place(fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then
    return "[C]"
  end
  return ("%s:%d"):format((info.source:gsub("^[@=]", "")), info.linedefined)
end

local function is_scope(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta == Scope or meta == App
end

--- Whether a value is an app.
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and getmetatable(value) == App
end

local function new_scope(prefix, root, class)
  local scope = setmetatable({
    _prefix = prefix, _uses = {}, _routes = {}, _children = {}, _closed = false,
  }, class)
  scope._root = root or scope
  return scope
end

local function open(scope, level)
  if not is_scope(scope) then
    error("call it with a colon: app:get(...), app:use(...)", level + 1)
  end
  if scope._root._closed then
    error("the app has been loaded: routes are registered while it loads", level + 1)
  end
end

local function check_functions(list, first, what, level)
  for i = first, list.n do
    if type(list[i]) ~= "function" then
      error(("%s is a function, not a %s"):format(what, type(list[i])), level + 1)
    end
  end
end

local function parts_of(text, level)
  local parts, err = pattern.parts(text)
  if not parts then
    error(("%s: %s"):format(tostring(text), err), level + 1)
  end
  return parts
end

--- Route options as the core takes them; nil when there are none.
local function options_of(opts, level)
  for key in pairs(opts) do
    if not ROUTE_OPTIONS[key] then
      error(("a route has no option %q: timeout, body_max and name there are")
        :format(tostring(key)), level + 1)
    end
  end
  local timeout, body_max = opts.timeout, opts.body_max
  if timeout == false then
    timeout = 1e9 -- none: some thirty years
  elseif timeout ~= nil then
    timeout = units.seconds(timeout)
    if not timeout or timeout == 0 then
      error("timeout is a number of seconds or a text such as \"2s\"; false: none", level + 1)
    end
  end
  if body_max ~= nil then
    body_max = units.bytes(body_max)
    if not body_max then
      error("body_max is a number of bytes or a text such as \"10M\"", level + 1)
    end
  end
  if opts.name ~= nil and type(opts.name) ~= "string" then
    error("the name of a route is a string", level + 1)
  end
  return { timeout = timeout, body_max = body_max, name = opts.name }
end

local function add_route(scope, methods, text, list, level)
  open(scope, level + 1)
  if type(text) ~= "string" then
    error("a route begins with its pattern, a string", level + 1)
  end
  local parts, first, opts = parts_of(text, level + 1), 1, {}
  if type(list[1]) == "table" then
    opts, first = options_of(list[1], level + 1), 2
  end
  if list.n < first then
    error(("the route %s has no handler"):format(text), level + 1)
  end
  check_functions(list, first, list.n == first and "the handler of a route"
    or "each of a route's middleware and its handler", level + 1)
  local route = {
    methods = methods, pattern = text, parts = parts, opts = opts, handler = list[list.n],
    uses = {}, where = where(level + 1),
  }
  for i = first, list.n - 1 do
    route.uses[#route.uses + 1] = { fn = list[i], where = M.place(list[i]) }
  end
  scope._routes[#scope._routes + 1] = route
  return scope
end

local function pack(...)
  return { n = select("#", ...), ... }
end

for _, method in ipairs({ "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "ANY" }) do
  Scope[method:lower()] = function(scope, text, ...)
    add_route(scope, { method }, text, pack(...), 2)
    return scope
  end
end

--- Registers a handler for several methods: `app:route({ "GET", "POST" }, pattern, opts?,
--- middleware..., handler)`.
---@param methods string[]|string
---@param text string the pattern
---@return perilune.Scope
function Scope:route(methods, text, ...)
  open(self, 2)
  if type(methods) == "string" then
    methods = { methods }
  end
  if type(methods) ~= "table" or #methods == 0 then
    error("app:route begins with a list of methods", 2)
  end
  local names = {}
  for i, method in ipairs(methods) do
    names[i] = tostring(method):upper()
    if not METHODS[names[i]] then
      error(("there is no method %q to route"):format(tostring(method)), 2)
    end
  end
  add_route(self, names, text, pack(...), 2)
  return self
end

--- Registers middleware: `app:use(fn, ...)` for all routes of this app or group, whether
--- registered before or after; `app:use("/admin/*", fn, ...)` for the paths "/admin" and below.
--- An app's own middleware also runs around 404, 405 and automatic OPTIONS answers.
---@return perilune.Scope
function Scope:use(...)
  open(self, 2)
  local list, first, parts = pack(...), 1, nil
  if type(list[1]) == "string" then
    local prefix = list[1]:match("^(.*)/%*$") or list[1] == "*" and ""
    if not prefix then
      error(("middleware is registered for a prefix: write %q"):format(
        (list[1]:gsub("/$", "")) .. "/*"), 2)
    end
    first = 2
    if prefix ~= "" then
      parts = parts_of(prefix, 2)
      if parts[#parts].rest then
        error(("%s: a prefix ends in one \"/*\""):format(list[1]), 2)
      end
    end
  end
  if list.n < first then
    error("app:use takes a middleware function", 2)
  end
  check_functions(list, first, "middleware", 2)
  for i = first, list.n do
    self._uses[#self._uses + 1] = { fn = list[i], parts = parts, where = M.place(list[i]) }
  end
  return self
end

local function check_prefix(prefix, level)
  if type(prefix) ~= "string" then
    error("a prefix is a string such as \"/api\"", level + 1)
  end
  prefix = prefix:gsub("/$", "")
  if prefix ~= "" then
    local parts = parts_of(prefix, level + 1)
    if parts[#parts].rest then
      error(("%s: a prefix has no wildcard"):format(prefix), level + 1)
    end
  end
  return prefix
end

--- A group of routes under a prefix, with middleware of its own.
---@param prefix string
---@param ... fun(c: perilune.Context, next: function)
---@return perilune.Scope group
function Scope:group(prefix, ...)
  open(self, 2)
  prefix = check_prefix(prefix, 2)
  local list = pack(...)
  check_functions(list, 1, "middleware", 2)
  local group = new_scope(prefix, self._root, Scope)
  for i = 1, list.n do
    group._uses[i] = { fn = list[i], where = M.place(list[i]) }
  end
  self._children[#self._children + 1] = { scope = group, prefix = prefix }
  return group
end

--- Puts another app under a prefix: its routes, middleware, on_error and not_found.
---@param prefix string
---@param app perilune.App
---@return perilune.Scope
function Scope:mount(prefix, app)
  open(self, 2)
  prefix = check_prefix(prefix, 2)
  if not M.is(app) then
    error(("app:mount takes an app, not a %s"):format(type(app)), 2)
  end
  self._children[#self._children + 1] = {
    scope = app, prefix = prefix, mount = true, where = where(2),
  }
  return self
end

--- Answers errors of handlers: `fn(c, err)` returns what a handler returns. Problems that the
--- server itself raises (a malformed body, a deadline) don't come here.
---@param fn fun(c: perilune.Context, err: any): any
---@return perilune.App
function App:on_error(fn)
  open(self, 2)
  check_functions({ n = 1, fn }, 1, "the handler of errors", 2)
  self._on_error = fn
  return self
end

--- Answers requests that no route matches. A mounted app's one holds below its prefix.
---@param fn fun(c: perilune.Context): any
---@return perilune.App
function App:not_found(fn)
  open(self, 2)
  check_functions({ n = 1, fn }, 1, "the handler of not_found", 2)
  self._not_found = fn
  return self
end

local HEALTH_OPTIONS = {
  every = 10, timeout = 1, critical = false, failure_threshold = 2, success_threshold = 1,
}

local function seconds_of(opts, name, level)
  local value = opts[name]
  if value == nil then
    return HEALTH_OPTIONS[name]
  end
  local seconds = units.seconds(value)
  if not seconds or seconds <= 0 then
    error(("%s is a number of seconds or a text such as \"5s\""):format(name), level + 1)
  end
  return seconds
end

local function threshold_of(opts, name, level)
  local value = opts[name]
  if value == nil then
    return HEALTH_OPTIONS[name]
  end
  if type(value) ~= "number" or value < 1 or value % 1 ~= 0 then
    error(("%s is a whole number, 1 or more"):format(name), level + 1)
  end
  return value
end

local function check_options(opts, level)
  if type(opts) ~= "table" then
    error("app:health takes a name, options and a function", level + 1)
  end
  for key in pairs(opts) do
    if HEALTH_OPTIONS[key] == nil then
      error(("a health check has no option %q: every, timeout, critical, failure_threshold and "
        .. "success_threshold there are"):format(tostring(key)), level + 1)
    end
  end
  if opts.critical ~= nil and type(opts.critical) ~= "boolean" then
    error("critical is true or false", level + 1)
  end
  return {
    every = seconds_of(opts, "every", level + 1),
    timeout = seconds_of(opts, "timeout", level + 1),
    critical = opts.critical or false,
    failure_threshold = threshold_of(opts, "failure_threshold", level + 1),
    success_threshold = threshold_of(opts, "success_threshold", level + 1),
  }
end

-- Checks of perilune/health.lua, and what gRPC knows by name beside them.
local OWN_CHECKS = {
  workers = true, loop = true, memory = true, errors = true, ready = true, live = true,
}

--- Registers a health check, which control runs: `app:health("db", { every = "5s",
--- timeout = "500ms", critical = true }, function() return db:ping() end)`. Options: every (10 s),
--- timeout (1 s), critical (false), failure_threshold (2), success_threshold (1). The function
--- returns something true or nothing at all when it is well, nil or false and a reason when it is
--- not, or "degraded" and a reason.
---@param name string letters, digits, "-", "_" and "."
---@param opts table|function
---@param fn? fun(): any, string?
---@return perilune.App
function App:health(name, opts, fn)
  open(self, 2)
  if type(name) ~= "string" or not name:find("^[%w_.-]+$") or #name > 64 then
    error("the name of a health check has up to 64 letters, digits, \"-\", \"_\" and \".\"", 2)
  elseif OWN_CHECKS[name] then
    error(("%q is a health check of the server's own: give this one another name"):format(name), 2)
  end
  if type(opts) == "function" and fn == nil then
    opts, fn = {}, opts
  end
  local options = check_options(opts, 2)
  check_functions({ n = 1, fn }, 1, "a health check", 2)
  for _, check in ipairs(self._checks) do
    if check.name == name then
      error(("there is a health check %q already, at %s"):format(name, check.where), 2)
    end
  end
  self._checks[#self._checks + 1] = { name = name, opts = options, fn = fn, where = where(2) }
  return self
end

--- Registers a rule, which control keeps: `app:action("slow", { when = "p99 > 150ms",
--- for_ = "10s", cooldown = "5m" }, "add_worker")`. See perilune/actions.lua; what is done is the
--- name of an action, a function, or a list of these.
---@param name string letters, digits, "-", "_" and "."
---@param opts table
---@param action string|function|table
---@return perilune.App
function App:action(name, opts, action)
  open(self, 2)
  local rule, err = actions.rule(name, opts, action, where(2))
  if not rule then
    error(err, 2)
  end
  for _, other in ipairs(self._actions) do
    if other.name == name then
      error(("there is an action %q already, at %s"):format(name, other.where), 2)
    end
  end
  self._actions[#self._actions + 1] = rule
  return self
end

--- What an app and those that it mounts have registered under a key.
local function collect_all(app, key)
  local list, seen = {}, {}
  local function collect(from)
    if seen[from] then
      return
    end
    seen[from] = true
    for _, one in ipairs(from[key] or {}) do
      list[#list + 1] = one
    end
    for _, child in ipairs(from._children) do
      collect(child.scope)
    end
  end
  collect(app)
  return list
end

--- The health checks of an app and of those that it mounts.
---@param app perilune.App
---@return table[] checks { name, opts, fn, where }
function M.checks(app)
  return collect_all(app, "_checks")
end

--- The rules of an app and of those that it mounts.
---@param app perilune.App
---@return perilune.actions.Rule[]
function M.actions(app)
  return collect_all(app, "_actions")
end

--- What is wrong with the checks and rules of apps that are mounted into one another.
---@param app perilune.App
---@return string[] faults "file:line: what"
function M.twins(app)
  local faults = {}
  for key, what in pairs({ _checks = "a health check", _actions = "an action" }) do
    local places = {}
    for _, one in ipairs(collect_all(app, key)) do
      if places[one.name] then
        faults[#faults + 1] = ("%s: there is %s %q already, at %s")
          :format(one.where, what, one.name, places[one.name])
      end
      places[one.name] = places[one.name] or one.where
    end
  end
  return faults
end

--- A new app. Options: title, version, description.
---@param opts? table
---@return perilune.App
function M.new(opts)
  if opts ~= nil and type(opts) ~= "table" then
    error("P.app takes a table of options", 2)
  end
  for key in pairs(opts or {}) do
    if not APP_OPTIONS[key] then
      error(("an app has no option %q: title, version and description there are")
        :format(tostring(key)), 2)
    end
  end
  local app = new_scope("", nil, App)
  app.title = opts and opts.title
  app._on_error, app._not_found, app._checks, app._actions = false, false, {}, {}
  return app
end

--- Closes an app and what it mounts for registration.
---@param app perilune.App
function M.close(app)
  app._closed = true
  for _, child in ipairs(app._children) do
    if child.mount and not child.scope._closed then
      M.close(child.scope)
    end
  end
end

return M
