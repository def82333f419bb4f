--- The context `c`: what a handler sees of one request, and how it answers.
---
--- A context is a table of constant shape, made by the route function itself
--- (compile.lua), so that LuaJIT need not allocate it where it does not leave
--- the trace. It holds no copy of the request: readers go to the core's struct,
--- and make a Lua string only when asked. Each checks that the request is still
--- the one the context was made for.
---
---   _req     struct pl_req *       _body, _type  the answer (respond.lua)
---   _serial  of the request        _stage        stages entered so far
---   _left    false, or the request's leavings: what the runner must end
---
--- Two rules keep this compiled (LuaJIT 2.1, measured): no `return builtin(...)`,
--- as a trace that starts here cannot end in a tail call of a built-in
--- function; and no loop in a function that many routes share: a root trace
--- that meets a loop is given up, in the end for good, and then every route
--- that calls the function stays interpreted.

local body = require("perilune.body")
local clock = require("perilune.clock")
local cookie = require("perilune.cookie")
local core = require("perilune.core")
local ffi = require("perilune.ffi")
local problem = require("perilune.problem")
local respond = require("perilune.respond")

local C = ffi.C
local band = require("bit").band
local insert = table.insert
local text_buffer = require("ffi").typeof("char[64]")
local text_of = require("ffi").string
local error, rawget, rawset, tostring, type = error, rawget, rawset, tostring, type

---@class perilune.Context
---@field method string "GET", "POST" ...
---@field path string decoded, begins with "/"
---@field target string as it was sent
---@field remote_addr string address of the client, without its port; "unix"
---@field scheme string "http"
---@field http_version string "1.1" or "1.0"
---@field id string the request id: of a trusted peer, else 16 hex digits
---@field request_id string the same
---@field trace_id string 32 hex digits
---@field span_id string 16 hex digits
---@field tenant string? can be set
---@field tier perilune.Tier can be set
---@field deadline number? in the seconds of P.monotonic; nil: none
---@field route string? the pattern; nil for what no route matched
---@field data table for middleware to leave things in; fresh for every request
local Methods = {}
local readers = {}
local writers = {}
local Context = {}

---@class perilune.context
local M = { Context = Context }
respond.Context = Context

--- What is known of a route, by its id; compile.lua fills it.
---@type table<integer, perilune.Route>
M.routes = {}

--- What requests leave behind for their runner, by slot: see `leavings`.
M.late = {}
local routes, late = M.routes, M.late

local STALE = "context used after its request ended"
local ABORTED = 16 -- PL_REQ_ABORTED

local METHOD = {}
for name, number in pairs(core.methods) do
  METHOD[number] = name
end
respond.HEAD = core.methods.HEAD

local FOREVER = 1e8 -- seconds
M.FOREVER = FOREVER

--- Names of tiers by PL_TIER_*.
local TIERS = { [0] = "normal", "high", "low" }
M.TIERS = TIERS
local TIER = {}
for number = 0, 2 do
  TIER[TIERS[number]] = number
end

local function live(c)
  local req = c._req
  if req.serial ~= c._serial then
    error(STALE, 3)
  end
  return req
end

--- The record of what outlives the handler: `data`, deferred calls, the body
--- that was read. Reachable from the slot too, as an error drops the context.
local function leavings(c)
  local record = c._left
  if record then
    return record
  end
  local req = c._req
  local fresh = { serial = c._serial, data = {}, defers = false, body = false }
  late[req.slot] = late[req.slot] or false -- makes room: below, nothing may raise
  C.pl_hold() -- tasks of the request may come here at the same time
  record = c._left or fresh
  c._left = record
  if req.serial == record.serial then
    late[req.slot] = record
  end
  C.pl_release()
  return record
end

--- A context for a request whose own one was lost to an error.
---@param req ffi.cdata*
---@param serial number
---@return perilune.Context
function M.fresh(req, serial)
  local record = late[req.slot]
  return setmetatable({
    _req = req, _serial = serial, _body = false, _type = false, _stage = 0,
    _left = record and record.serial == serial and record or false,
  }, Context)
end

Context.__index = function(c, key)
  local method = Methods[key]
  if method ~= nil then
    return method
  end
  local read = readers[key]
  if read ~= nil then
    local req = rawget(c, "_req")
    if req.serial ~= rawget(c, "_serial") then
      error(STALE, 2)
    end
    local value = read(req, c)
    return value
  end
end

Context.__newindex = function(c, key, value)
  local write = writers[key]
  if write then
    local req = rawget(c, "_req")
    if req.serial ~= rawget(c, "_serial") then
      error(STALE, 2)
    end
    write(req.context, value, 2)
    return
  end
  error(("the context has no field %q to set: leave things in c.data"):format(tostring(key)), 2)
end

Context.__tostring = function()
  return "perilune context"
end

-- Readers ---------------------------------------------------------------------

function readers.method(req)
  return METHOD[req.method]
end

function readers.path(req)
  local s = text_of(req.path.at, req.path.bytes)
  return s
end

function readers.target(req)
  local s = text_of(req.target.at, req.target.bytes)
  return s
end

function readers.remote_addr(req)
  local out = text_buffer()
  local s = text_of(out, C.pl_req_remote(req, out))
  return s
end

function readers.id(req)
  local out = text_buffer()
  local s = text_of(out, C.pl_context_request_id(req.context, out))
  return s
end
readers.request_id = readers.id

function readers.trace_id(req)
  local out = text_buffer()
  local s = text_of(out, C.pl_context_trace_id(req.context, out))
  return s
end

function readers.span_id(req)
  local out = text_buffer()
  local s = text_of(out, C.pl_context_span_id(req.context, out))
  return s
end

function readers.scheme()
  return "http"
end

function readers.http_version(req)
  return req.http_minor == 0 and "1.0" or "1.1"
end

function readers.tenant(req)
  if req.context.tenant_bytes == 0 then
    return nil
  end
  local s = text_of(req.context.tenant, req.context.tenant_bytes)
  return s
end

function readers.tier(req)
  return TIERS[req.context.tier]
end

--- A route with `timeout = false` has one, of decades.
function readers.deadline(req)
  local deadline = req.deadline
  if deadline - clock.monotonic() > FOREVER then
    return nil
  end
  return deadline
end

function writers.tenant(context, value, level)
  if value ~= nil and (type(value) ~= "string" or value == "")
    or C.pl_context_set_tenant(context, value or "", value and #value or 0) ~= 0 then
    error("a tenant is a string of 1 to 64 bytes without control characters, or nil", level + 1)
  end
end

function writers.tier(context, value, level)
  local number = TIER[value]
  if not number then
    error("a tier is \"high\", \"normal\" or \"low\"", level + 1)
  end
  context.tier = number
end

-- What can be longer than most texts is written to one buffer of the VM's: nobody else may come
-- in between.
local long_text = require("ffi").new("char[8192]")
M.long_text = long_text

function readers.route(req)
  return routes[req.route].pattern
end

function readers.data(_, c)
  local data = leavings(c).data
  return data
end

--- A path parameter by its name: a number for <int>, else a string; nil when
--- the route has none of that name.
---@param name string
---@return string|number|nil
function Methods:param(name)
  local req = live(self)
  local route = routes[req.route]
  local index = route.param_index[name]
  if index == nil then
    return nil
  end
  local param = req.params[index]
  if route.param_types[index + 1] == "int" then
    return param.number
  end
  local s = text_of(param.text.at, param.text.bytes)
  return s
end

local function too_many(what)
  problem.raise(400, "the request has too many " .. what)
end

local function check_name(name)
  if type(name) ~= "string" then
    error("a name is a string", 3)
  end
end

--- The first value of a query parameter, decoded.
---@param name string
---@return string?
function Methods:query(name)
  local req = live(self)
  check_name(name)
  local index = C.pl_req_query(req, name, #name, 0)
  if index >= 0 then
    local value = req.queries[index].value
    local s = text_of(value.at, value.bytes)
    return s
  elseif index == -2 then
    return too_many("query parameters")
  end
  return nil -- and not nothing: tostring(c:query("x")) is fine
end

--- All values of a query parameter, in their order.
---@param name string
---@return string[] values empty when there are none
function Methods:queries(name)
  local req = live(self)
  check_name(name)
  local values, count = {}, 0
  local index = C.pl_req_query(req, name, #name, 0)
  while index >= 0 do
    local value = req.queries[index].value
    count = count + 1
    values[count] = text_of(value.at, value.bytes)
    index = C.pl_req_query(req, name, #name, index + 1)
  end
  if index == -2 then
    return too_many("query parameters")
  end
  return values
end

local function header(req, name)
  local index = C.pl_req_header(req, name, #name, 0)
  if index < 0 then
    return nil
  end
  local value = req.headers[index].value
  local text = text_of(value.at, value.bytes)
  index = C.pl_req_header(req, name, #name, index + 1)
  while index >= 0 do
    value = req.headers[index].value
    text = text .. ", " .. text_of(value.at, value.bytes)
    index = C.pl_req_header(req, name, #name, index + 1)
  end
  return text
end

--- The value of a header field, its name in any case; repeated ones joined by ", ".
---@param name string
---@return string?
function Methods:header(name)
  local req = live(self)
  check_name(name)
  return header(req, name)
end

--- All header fields: a new table, names in lower case; repeated ones joined by
--- ", " (Cookie by "; ").
---@return table<string, string>
function Methods:headers()
  local req = live(self)
  local all = {}
  for i = 0, req.header_count - 1 do
    local field = req.headers[i]
    local name = text_of(field.name.at, field.name.bytes):lower()
    local value = text_of(field.value.at, field.value.bytes)
    local before = all[name]
    if before then
      value = before .. (name == "cookie" and "; " or ", ") .. value
    end
    all[name] = value
  end
  return all
end

--- The value of a cookie.
---@param name string
---@return string?
function Methods:cookie(name)
  local req = live(self)
  check_name(name)
  local index = C.pl_req_cookie(req, name, #name, 0)
  if index >= 0 then
    local value = req.cookies[index].value
    local s = text_of(value.at, value.bytes)
    return s
  elseif index == -2 then
    return too_many("cookies")
  end
  return nil
end

--- A value of the request's baggage (W3C Baggage), decoded.
---@param key string case counts
---@return string?
function Methods:baggage(key)
  local req = live(self)
  check_name(key)
  C.pl_hold()
  local bytes = C.pl_req_baggage(req, key, #key, long_text)
  local value = bytes >= 0 and text_of(long_text, bytes) or nil
  C.pl_release()
  return value
end

local function whole_body(c, req)
  local record = c._left
  if record and record.body then
    return record.body
  end
  return body.whole(req, leavings(c))
end

--- The whole body; waits for all of it. Asked again, the same string.
---@return string
function Methods:body()
  return whole_body(self, live(self))
end

local function next_chunk(c)
  return body.chunk(live(c))
end

--- Iterates over the body in pieces, as they come: `for bytes in c:chunks() do`.
--- For bodies of any size, in constant memory.
function Methods:chunks()
  live(self)
  return next_chunk, self
end

--- Without arguments: the decoded JSON body (malformed answers 400, another
--- media type 415, by an error that need not be caught). With a table: answers
--- with it as JSON.
---@overload fun(self: perilune.Context): any
---@param value table
---@param status? integer default 200
---@return perilune.Context c to return
function Methods:json(value, status)
  local req = live(self)
  if value == nil then
    body.expect_json(header(req, "content-type"))
    if not (self._left and self._left.body) then
      local here = body.json_in_place(req)
      if here ~= nil then
        return here
      end
    end
    return body.json(whole_body(self, req))
  end
  if type(value) ~= "table" then
    error(("c:json answers with a table, not a %s"):format(type(value)), 2)
  end
  self._body, self._type = value, respond.JSON
  if status ~= nil then
    respond.status(req, status, 2)
  end
  return self
end

--- The decoded form, urlencoded or multipart; answers 415 for another media
--- type, 400 for a malformed one.
---@return table<string, string> fields
---@return table files of multipart/form-data
function Methods:form()
  local req = live(self)
  return body.form(whole_body(self, req), header(req, "content-type"))
end

--- Seconds until the deadline of the request; 0 when it is over.
---@return number
function Methods:time_left()
  local left = live(self).deadline - clock.monotonic()
  return left > 0 and left or 0
end

--- Whether the client is gone.
---@return boolean
function Methods:aborted()
  return band(live(self).flags, ABORTED) ~= 0
end

-- Writes ------------------------------------------------------------------------

--- Sets the status of the answer.
---@param code integer 200 to 599
---@return perilune.Context
function Methods:status(code)
  respond.status(live(self), code, 2)
  return self
end

--- Sets a response header, in place of those of that name.
---@param name string
---@param value string|number
---@return perilune.Context
function Methods:set(name, value)
  respond.field(live(self), name, value, 0, 2)
  return self
end

--- Adds a response header beside those of that name.
---@param name string
---@param value string|number
---@return perilune.Context
function Methods:add(name, value)
  respond.field(live(self), name, value, 1, 2)
  return self
end

--- Sets a cookie. Options, with their defaults: path ("/"), domain, max_age
--- (seconds or "1h"), expires (seconds since the epoch), secure (false),
--- http_only (true), same_site ("Lax").
---@param name string
---@param value string
---@param opts? table
---@return perilune.Context
function Methods:set_cookie(name, value, opts)
  local req = live(self)
  local line, err = cookie.encode(name, value, opts)
  if not line then
    error(err, 2)
  end
  respond.field(req, "set-cookie", line, 1, 2)
  return self
end

local function answer(c, req, bytes, kind, status)
  if type(bytes) ~= "string" then
    error(("the body of an answer is a string, not a %s"):format(type(bytes)), 3)
  end
  c._body, c._type = bytes, kind
  if status ~= nil then
    respond.status(req, status, 3)
  end
  return c
end

---@param s string
---@param status? integer
---@return perilune.Context c to return
function Methods:text(s, status)
  return answer(self, live(self), s, respond.TEXT, status)
end

---@param s string
---@param status? integer
---@return perilune.Context c to return
function Methods:html(s, status)
  return answer(self, live(self), s, "text/html; charset=utf-8", status)
end

---@param s string
---@param media_type? string default application/octet-stream
---@param status? integer
---@return perilune.Context c to return
function Methods:bytes(s, media_type, status)
  return answer(self, live(self), s, media_type or "application/octet-stream", status)
end

--- Sends the client elsewhere.
---@param url string
---@param status? integer 300 to 399, default 302
---@return perilune.Context c to return
function Methods:redirect(url, status)
  local req = live(self)
  status = status or 302
  if type(status) ~= "number" or status < 300 or status > 399 then
    error("the status of a redirect is one from 300 to 399", 2)
  end
  respond.field(req, "location", url, 0, 2)
  return answer(self, req, "", "", status)
end

--- Answers with a problem document (RFC 9457).
---@param status integer 400 to 599, as a rule
---@param detail? string what happened, for the client
---@param extra? table members beside the standard ones
---@return perilune.Context c to return
function Methods:problem(status, detail, extra)
  local req = live(self)
  respond.status(req, status, 2)
  respond.remove(req, "content-type") -- of what would have been answered
  self._body, self._type = problem.document(status, detail, extra), respond.PROBLEM
  return self
end

--- Answers with a file: conditional and Range requests are answered too. What
--- is not there answers 404. Options: root (the folder that the path must stay
--- below; then the path comes from anywhere), type (default: by the extension),
--- download (true, or the file name that is offered), status. A path or root
--- that is not absolute is relative to the app's folder.
---@param path string
---@param opts? table
---@return perilune.Context c to return
function Methods:file(path, opts)
  local req = live(self)
  if type(path) ~= "string" then
    error("the path of a file is a string", 2)
  end
  local root, download = opts and opts.root or "", opts and opts.download or ""
  local folder = routes[req.route].folder
  if folder and root ~= "" and root:sub(1, 1) ~= "/" then
    root = folder .. "/" .. root
  elseif folder and root == "" and path:sub(1, 1) ~= "/" then
    path = folder .. "/" .. path
  end
  if download == true then
    download = path:match("[^/]*$")
  end
  self._body = { path = path, root = root, type = opts and opts.type or "", download = download }
  self._type = respond.send_file
  if opts and opts.status then
    respond.status(req, opts.status, 2)
  end
  return self
end

local function job(c, sender, kind, fn, ...)
  if type(fn) ~= "function" then
    error("a function that writes is missing", 3)
  end
  c._body = { fn = fn, type = kind, count = select("#", ...), ... }
  c._type = sender
  return c
end

--- Answers in pieces: calls `fn(out, ...)` once the middleware has returned.
---@param fn fun(out: perilune.Out, ...)
---@return perilune.Context c to return
function Methods:stream(fn, ...)
  live(self)
  return job(self, respond.send_stream, "application/octet-stream", fn, ...)
end

--- Answers with server-sent events: calls `fn(out, ...)`, see out:send. The
--- deadline of the request holds: such a route wants `{ timeout = false }`.
---@param fn fun(out: perilune.Events, ...)
---@return perilune.Context c to return
function Methods:sse(fn, ...)
  live(self)
  return job(self, respond.send_events, "text/event-stream", fn, ...)
end

--- Calls `fn(...)` after the reply has been sent, also after an error.
---@param fn function
function Methods:defer(fn, ...)
  live(self)
  if type(fn) ~= "function" then
    error("c:defer takes a function and its arguments", 2)
  end
  local record = leavings(self)
  local fresh = record.defers or {}
  C.pl_hold() -- as in leavings
  local defers = record.defers or fresh
  record.defers = defers
  C.pl_release()
  insert(defers, { fn = fn, count = select("#", ...), ... })
end

rawset(M, "STALE", STALE)

return M
