--- From what an app has registered to functions: the list of its routes, each
--- with its chain of middleware, and one generated function per route.
---
--- A route function makes the context, runs the stages and encodes the answer.
--- Each stage is a prototype of its own: LuaJIT counts frames by prototype for
--- its unroll limit, so one wrapper shared by all stages would cost aborts. The
--- `next` functions are made here, once; a request makes no closure.
---
---   /notes/:id<int> with two middlewares, generated:
---     n3(c)  handler(c, number)     stage 3
---     n2(c)  middleware 2(c, n3)    stage 2
---     n1(c)  middleware 1(c, n2)    stage 1
---     function(_, req)  c = {...}; n1(c); return reply(c) end

local app_module = require("perilune.app")
local context = require("perilune.context")
local core = require("perilune.core")
local pattern = require("perilune.pattern")
local respond = require("perilune.respond")

---@class perilune.compile
local M = {}

---@class perilune.Route
---@field pattern string? nil for what no route matched
---@field methods string[]
---@field opts table { timeout?, body_max?, name? }
---@field handler function
---@field chain table[] { fn, where, parts? }: parts where the path decides
---@field parts perilune.pattern.Part[]
---@field param_index table<string, integer> from 0
---@field param_types table<integer, string> from 1: "int", "text"
---@field on_error function|false
---@field folder string? of the app
---@field where string file:line of the registration
---@field site integer

--- Entries by route id; the ids are the VM's, all its apps share them.
---
--- `handlers[route][req]` calls the route function: it is the `__index` of an
--- empty table. The frame of a metamethod is one that every trace can return
--- through. With a plain call from the interpreted loop only the first path
--- through a handler would be compiled: the traces of its other branches would
--- have to return into a function that must not be compiled, and are given up
--- (LuaJIT 2.1; measured 115 against 45 ns for a handler with four branches).
---@type table<integer, table>
M.handlers = {}

--- Makes `fn(_, key)` callable as `entry[key]`, see `handlers`.
---@param fn function
---@return table entry
function M.entry(fn)
  return setmetatable({}, { __index = fn })
end

local CONSTRUCTOR = [[
  local serial = req.serial
  local c = setmetatable({
    _req = req, _serial = serial, _body = false, _type = false, _stage = 0, _left = false,
  }, Context)
]]

local KEEP = [[
  if body ~= nil or status ~= nil then keep(c, body, status) end
  if headers ~= nil then set_headers(c, headers) end]]

local function arguments(param_types)
  local list = {}
  for i, kind in ipairs(param_types) do
    list[i] = kind == "int" and (", req.params[%d].number"):format(i - 1)
      or (", text(req.params[%d].text.at, req.params[%d].text.bytes)"):format(i - 1, i - 1)
  end
  return table.concat(list)
end

local function stage_text(route, k, last)
  local lines = {
    ("local function n%d(c)"):format(k),
    "  local req = c._req",
    "  if req.serial ~= c._serial then stale() end",
    ("  if c._stage ~= %d then twice(%d) end"):format(k - 1, k - 1),
    ("  c._stage = %d"):format(k),
  }
  if k == last then
    lines[#lines + 1] = ("  local body, status, headers = handler(c%s)")
      :format(arguments(route.param_types))
    lines[#lines + 1] = KEEP
  else
    if route.chain[k].parts then
      lines[#lines + 1] = ("  if not under(parts%d, c.path) then return n%d(c) end")
        :format(k, k + 1)
    end
    lines[#lines + 1] = ("  local body, status, headers = m%d(c, n%d)"):format(k, k + 1)
    lines[#lines + 1] = KEEP
    lines[#lines + 1] = ("  if c._stage == %d and c._body == false then silent(%d) end")
      :format(k, k)
  end
  lines[#lines + 1] = "  return body, status, headers\nend"
  return table.concat(lines, "\n")
end

--- The text of a route's chunk: a function of what it uses that returns the route function.
local function route_text(route)
  local names = { "setmetatable", "Context", "keep", "set_headers", "reply", "text", "stale",
    "twice", "silent", "under", "handler" }
  for k, use in ipairs(route.chain) do
    names[#names + 1] = "m" .. k
    if use.parts then
      names[#names + 1] = "parts" .. k
    end
  end
  local out = { "local " .. table.concat(names, ", ") .. " = ..." }
  local last = #route.chain + 1
  if last > 1 then
    for k = last, 1, -1 do
      out[#out + 1] = stage_text(route, k, last)
    end
  end
  out[#out + 1] = "return function(_, req)\n" .. CONSTRUCTOR
  if last > 1 then
    out[#out + 1] = "  n1(c)"
  else
    out[#out + 1] = ("  local body, status, headers = handler(c%s)")
      :format(arguments(route.param_types))
    out[#out + 1] = KEEP
  end
  out[#out + 1] = "  local left = reply(c)\n  return left\nend\n"
  return table.concat(out, "\n")
end

local function stale()
  error(context.STALE, 3)
end

--- The route function of a route.
---@param route perilune.Route
---@return fun(_: table, req: ffi.cdata*): perilune.Context?
function M.generate(route)
  local chain = route.chain
  local function twice(k)
    error(("next was called twice by the middleware at %s"):format(chain[k].where), 0)
  end
  local function silent(k)
    error(("the middleware at %s neither answered nor called next"):format(chain[k].where), 0)
  end
  local values = { setmetatable, context.Context, respond.keep, respond.headers,
    respond.reply, require("ffi").string, stale, twice, silent, pattern.under, route.handler }
  for _, use in ipairs(chain) do
    values[#values + 1] = use.fn
    if use.parts then
      values[#values + 1] = use.parts
    end
  end
  local name = ("=route %s %s"):format(table.concat(route.methods, "|"), route.pattern or "")
  return assert(loadstring(route_text(route), name))(unpack(values, 1, #values))
end

-- Collecting --------------------------------------------------------------------

local function describe_params(route)
  route.param_index, route.param_types = {}, {}
  for _, part in ipairs(route.parts) do
    if not part.text then
      local count = #route.param_types
      if part.name then
        route.param_index[part.name] = count
      end
      route.param_types[count + 1] = part.type == "int" and "int" or "text"
    end
  end
  return route
end

local function append(list, more)
  local all = {}
  for i = 1, #list do
    all[i] = list[i]
  end
  for i = 1, #more do
    all[#all + 1] = more[i]
  end
  return all
end

--- The middleware that runs for a route: of the scopes from the outermost in, each in the order
--- of registration, then the route's own.
local function chain_of(uses, route_parts, own)
  local chain = {}
  for _, use in ipairs(uses) do
    local covered = true
    if use.parts then
      covered = pattern.covers(use.parts, route_parts)
    end
    if covered ~= false then
      chain[#chain + 1] = {
        fn = use.fn, where = use.where, parts = covered == nil and use.parts or nil,
      }
    end
  end
  return append(chain, own)
end

local function full_parts(prefix, text, at)
  local parts, err = pattern.parts(pattern.join(prefix, text))
  if not parts then
    error(("%s: %s%s: %s"):format(at, prefix, text, err), 0)
  end
  return parts
end

local function collect(scope, state, into)
  local uses = {}
  for i, use in ipairs(scope._uses) do
    local parts = use.parts
    if parts and state.prefix ~= "" then
      parts = append(pattern.parts(state.prefix), parts)
    end
    uses[i] = { fn = use.fn, where = use.where, parts = parts }
  end
  uses = append(state.uses, uses)
  for _, route in ipairs(scope._routes) do
    local parts = full_parts(state.prefix, route.pattern, route.where)
    into[#into + 1] = describe_params({
      pattern = pattern.join(state.prefix, route.pattern), methods = route.methods,
      opts = route.opts, handler = route.handler, parts = parts, where = route.where,
      chain = chain_of(uses, parts, route.uses), on_error = state.on_error,
    })
  end
  for _, child in ipairs(scope._children) do
    if child.mount and state.open[child.scope] then
      error(("%s: the app is mounted inside itself"):format(child.where), 0)
    end
    local prefix = state.prefix .. child.prefix
    local inner = {
      prefix = prefix, uses = uses, open = state.open, not_found = state.not_found,
      on_error = child.mount and child.scope._on_error or state.on_error,
    }
    if child.mount then
      inner.open = setmetatable({ [child.scope] = true }, { __index = state.open })
      if child.scope._not_found and prefix ~= "" then
        table.insert(state.not_found, 1,
          { parts = pattern.parts(prefix), fn = child.scope._not_found })
      end
    end
    collect(child.scope, inner, into)
  end
end

--- All routes of an app, in the order of registration, groups and mounts behind their parents.
---@param app perilune.App
---@return perilune.Route[]
---@return table[] not_found { parts, fn } of mounted apps, the innermost first
function M.collect(app)
  local routes, not_found = {}, {}
  collect(app, {
    prefix = "", uses = {}, open = { [app] = true }, on_error = app._on_error,
    not_found = not_found,
  }, routes)
  return routes, not_found
end

-- What no route matches -----------------------------------------------------------

local bit = require("bit")

--- The value of Allow (RFC 9110 10.2.1) from the core's bit set.
local function allow_of(bits)
  local names = {}
  for name, number in pairs(core.methods) do
    if number < 31 and bit.band(bits, bit.lshift(1, number)) ~= 0 then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function default_not_found(c)
  return c:problem(404)
end

local function method_not_allowed(c)
  c:set("allow", allow_of(c._req.allow))
  return c:problem(405)
end

local function options(c)
  c:set("allow", allow_of(c._req.allow))
  return nil, 204
end

local function not_found_of(app, mounted)
  local fallback = app._not_found or default_not_found
  if #mounted == 0 then
    return fallback
  end
  return function(c)
    for _, one in ipairs(mounted) do
      if pattern.under(one.parts, c.path) then
        return one.fn(c)
      end
    end
    return fallback(c)
  end
end

local function special(app, name, handler)
  local chain = {}
  for i, use in ipairs(app._uses) do
    chain[i] = use
  end
  return describe_params({
    pattern = nil, methods = { name }, opts = {}, handler = handler, parts = {}, chain = chain,
    on_error = app._on_error, where = app_module.place(handler),
  })
end

-- Publishing ------------------------------------------------------------------------

local function admit(route, site, folder)
  local entry = M.entry(M.generate(route))
  table.insert(M.handlers, entry) -- one step: under `perilune test` others may publish as well
  local id = #M.handlers
  while M.handlers[id] ~= entry do
    id = id - 1
  end
  route.site, route.folder, route.id = site, folder, id
  context.routes[id] = route
  return id
end

local function sort_key(route)
  return route.pattern .. " " .. table.concat(route.methods, "|")
end

--- Gives ids to routes, in an order that doesn't depend on that of registration: `pairs` gives
--- another one in every process, and ids name routes to all workers (log, quarantine).
local function admit_all(routes, site, folder)
  local sorted = append(routes, {})
  table.sort(sorted, function(a, b) return sort_key(a) < sort_key(b) end)
  for _, route in ipairs(sorted) do
    admit(route, site, folder)
  end
end

local function conflict_text(route, method, other)
  return ("%s: %s %s is registered already, at %s"):format(route.where, method, route.pattern,
    other and other.where or "?")
end

--- Hands the routes of an app to the core and generates their functions.
---@param app perilune.App
---@param folder? string what the app's relative paths are relative to
---@return integer site
---@return string[] faults "file:line: what", empty when all is well; else the site is not ready
function M.publish(app, folder)
  local site = core.site_new()
  local routes, mounted = M.collect(app)
  local faults, named = app_module.twins(app), {}
  admit_all(routes, site, folder)
  for _, route in ipairs(routes) do
    local id = route.id
    for _, method in ipairs(route.methods) do
      local ok, why, other = core.site_add(site, method, route.pattern, id)
      if not ok and why == "conflict" then
        faults[#faults + 1] = conflict_text(route, method, context.routes[other])
      elseif not ok then
        faults[#faults + 1] = ("%s: %s: %s"):format(route.where, route.pattern, tostring(why))
      end
    end
    local name = route.opts.name
    if name then
      if named[name] then
        faults[#faults + 1] = ("%s: the name %q is taken already, at %s")
          :format(route.where, name, named[name])
      end
      named[name] = route.where
    end
    core.site_route(site, id, {
      timeout = route.opts.timeout, body_max = route.opts.body_max,
      pattern = route.pattern, method = table.concat(route.methods, "|"),
    })
  end
  app_module.close(app)
  if #faults == 0 then
    core.site_ready(site,
      admit(special(app, "not found", not_found_of(app, mounted)), site, folder),
      admit(special(app, "method not allowed", method_not_allowed), site, folder),
      admit(special(app, "options", options), site, folder))
  end
  return site, faults
end

return M
