--- From what a handler answered to bytes: what the stages of a route leave on
--- the context is encoded here, once, after the whole chain has unwound.
---
--- `c._body` is the answer: false while there is none, a string, a table (JSON)
--- or whatever the sender in `c._type` takes. `c._type` is false (by the kind
--- of the body), a media type ("" for none), or a sender: a function (c, body,
--- status) that writes the response itself and may wait.
---
--- What is on the way of a plain answer runs inside the traces of routes: no
--- closures, no classic C functions, no loops.

local ffi = require("perilune.ffi")
local json = require("perilune.json")
local problem = require("perilune.problem")
local wait = require("perilune.wait")

local C = ffi.C
local encode = json.encode
local reply_json = require("perilune.core").reply_json
local pause, suspend = wait.pause, wait.suspend
local band = require("bit").band
local cast = require("ffi").cast
local error, getmetatable, next, pairs = error, getmetatable, next, pairs
local tostring, type = tostring, type

---@class perilune.respond
local M = {}

local TEXT = "text/plain; charset=utf-8"
local JSON = "application/json"
local PROBLEM = "application/problem+json"

local SENT = true -- stands for a body that has been encoded
local PIECE_BYTES_MAX = 65536 -- of one pl_res_write
local HEAD_SENT, OVERDUE = 32, 4096 -- PL_REQ_*
local EFULL, EINVAL, ECONFLICT, EGONE = -20001, -20002, -20004, -20010

--- What writing a finished answer may take: the handler's deadline no longer
--- counts, a client that does not read is timeouts.write's affair.
local WRITE_SECONDS_MAX = 1e6

M.TEXT, M.JSON, M.PROBLEM = TEXT, JSON, PROBLEM

---@param req ffi.cdata*
---@return boolean sent whether the head of the response has left the handler's hands
local function head_sent(req)
  return band(req.flags, HEAD_SENT) ~= 0
end
M.head_sent = head_sent

--- Sets one response field. Raises when it cannot be.
---@param req ffi.cdata*
---@param name string
---@param value string|number
---@param append integer 1: beside those of that name; 0: in their place
---@param level integer? of the error, as of error(); nil: without a place
function M.field(req, name, value, append, level)
  level = level and level + 1 or 0
  if type(value) == "number" then
    value = tostring(value)
  end
  if type(name) ~= "string" or type(value) ~= "string" then
    error("the name of a response header is a string, its value a string or a number", level)
  end
  if head_sent(req) then
    error("the head of the response has been sent: too late for a header", level)
  end
  local code = C.pl_res_field(req, name, #name, value, #value, append)
  if code == 0 then
    return
  elseif code == EINVAL then
    error(("the response header %q has a name or value with characters that are not allowed")
      :format(name), level)
  elseif code == ECONFLICT then
    error(("the response header %q is the server's to set"):format(name), level)
  elseif code == EFULL then
    error("too many bytes of response headers", level)
  end
  error(("the response header %q cannot be set (%d)"):format(name, code), level)
end
local field = M.field

--- Checks and sets the status of the answer.
---@param req ffi.cdata*
---@param status any
---@param level integer? of the error, as of error(); nil: without a place
function M.status(req, status, level)
  level = level and level + 1 or 0
  if type(status) ~= "number" or not (status >= 200 and status <= 599) or status % 1 ~= 0 then
    error(("a status is a whole number from 200 to 599, not %s"):format(tostring(status)),
      level)
  end
  if head_sent(req) then
    error("the head of the response has been sent: too late for a status", level)
  end
  req.status = status
end

local function set_many(req, headers)
  for name, value in pairs(headers) do
    if type(value) == "table" then
      for i = 1, #value do
        field(req, name, value[i], i == 1 and 0 or 1)
      end
    else
      field(req, name, value, 0)
    end
  end
end

--- Sets the headers a handler returned. One or two, the usual case, without a
--- loop: see the rules in context.lua.
---@param c perilune.Context
---@param headers any
function M.headers(c, headers)
  if type(headers) ~= "table" then
    error(("the third value a handler returns is a table of headers, not a %s")
      :format(type(headers)), 0)
  end
  local req = c._req
  local name1, value1 = next(headers)
  if name1 == nil then
    return
  end
  local name2, value2 = next(headers, name1)
  if type(value1) == "table" or type(value2) == "table"
    or name2 ~= nil and next(headers, name2) ~= nil then
    return set_many(req, headers)
  end
  field(req, name1, value1, 0)
  if name2 ~= nil then
    field(req, name2, value2, 0)
  end
end

--- Keeps what a stage returned as the answer of its request.
---@param c perilune.Context
---@param body any
---@param status any
function M.keep(c, body, status)
  if body ~= c then
    local kind = type(body)
    if kind == "string" then
      c._body, c._type = body, false
    elseif kind == "table" then
      if getmetatable(body) == M.Context then
        error("a handler returned the context of another request", 0)
      end
      c._body, c._type = body, false
    elseif kind == "nil" then
      c._body, c._type = "", ""
    else
      error(("a handler returned a %s: return a string, a table or nil"):format(kind), 0)
    end
  end
  if status ~= nil then
    M.status(c._req, status)
  end
end

--- Waits until the last of a finished answer has been taken by the socket.
--- `pinned` is what the core reads from meanwhile: it stays on this stack.
local function wait_written(req, pinned)
  C.pl_req_set_timeout(req, WRITE_SECONDS_MAX)
  C.pl_wait_write(req)
  local code = suspend()
  if code ~= 0 then
    C.pl_res_abort(req)
  end
  return pinned
end

--- The rare ends of pl_res_send. A client that is gone is no error: there is
--- nobody left to tell.
local function sent_badly(c, code, body)
  if code == 1 then
    wait_written(c._req, body)
  elseif code ~= EGONE then
    error(("the response could not be sent (%d)"):format(code), 0)
  end
end

--- Sends a whole body; compiled on its own.
---@param c perilune.Context
---@param kind string media type
---@param body string
---@return perilune.Context? c when there is something left to do for the runner
function M.send(c, kind, body)
  local req = c._req
  local status = req.status
  if status == 0 then
    status = 200
  end
  local code = C.pl_res_send(req, status, kind, #kind, body, #body)
  if code ~= 0 then
    sent_badly(c, code, body)
  end
  if c._left or req.task_count ~= 0 then
    return c
  end
end
local send = M.send

--- Ends a route function: encodes what is plain text or nothing. The rest (JSON,
--- files, streams) is the runner's, see `finish`: an encoder's loop inside the
--- trace of a route would make LuaJIT give that trace up.
---@param c perilune.Context
---@return perilune.Context? c when there is something left to do for the runner
function M.reply(c)
  local body, kind = c._body, c._type
  if band(c._req.flags, OVERDUE) ~= 0 then -- the error of its deadline was caught
    error(problem.DEADLINE, 0)
  end
  if type(body) == "string" then
    if kind == false then
      kind = TEXT
    end
  elseif body == false then
    local req = c._req
    if req.status == 0 then
      req.status = 204
    end
    body, kind = "", ""
  else
    return c
  end
  c._body = SENT
  return send(c, kind, body)
end

-- Called as `entry[key]`, see compile.handlers.
local encoding = setmetatable({}, { __index = function(_, value)
  local text = encode(value)
  return text
end })
local sending = setmetatable({}, { __index = function(_, c)
  local left = send(c, c._type, c._body)
  return left
end })

--- Encodes what `reply` has left. Called from interpreted code.
---@param c perilune.Context
---@return perilune.Context? c when the request has left something behind
function M.finish(c)
  local body, kind = c._body, c._type
  if body == SENT then
    return c
  elseif type(kind) == "function" then
    local status = c._req.status
    kind(c, body, status == 0 and 200 or status)
    return c
  end
  local req = c._req
  local status = req.status
  if reply_json(body, status == 0 and 200 or status, kind or JSON) then -- plain and small
    c._body = SENT
    return (c._left or req.task_count ~= 0) and c or nil
  end
  c._body, c._type = encoding[body], kind or JSON
  return sending[c]
end
jit.off(M.finish)

--- Fields that tell of a body, or how long to keep it.
local OF_BODY = {
  "accept-ranges", "cache-control", "content-disposition", "content-encoding",
  "content-language", "content-location", "content-range", "content-type", "etag", "expires",
  "last-modified",
}

--- Removes a response field that has been set, if it has.
---@param req ffi.cdata*
---@param name string
function M.remove(req, name)
  if req.extra ~= nil then
    C.pl_res_field(req, name, #name, "", 0, -1)
  end
end

--- Removes what a handler has said of a body that is not sent, as it failed: what is sent in
--- its place is no gzip, and nothing to be cached. Cookies and the like stay.
---@param req ffi.cdata*
function M.remove_of_body(req)
  for i = 1, #OF_BODY do
    M.remove(req, OF_BODY[i])
  end
end

--- Answers with a problem document, whatever was said of another body before.
---@param req ffi.cdata*
---@param status integer
---@param detail? string
function M.problem(req, status, detail)
  M.remove_of_body(req)
  detail = detail or ""
  return C.pl_res_problem(req, status, detail, #detail)
end

-- Answers in pieces ---------------------------------------------------------

---@class perilune.Out
---@field _req ffi.cdata*
---@field _serial number
---@field _status integer|false of a head that waits for the first piece; false: it is out
---@field _type string its media type
local Out = {}
Out.__index = Out

local function out_request(out)
  local req = out._req
  if req.serial ~= out._serial then
    error("context used after its request ended", 3)
  end
  return req
end

local function begin(req, status, kind)
  local code = C.pl_res_begin(req, status, kind, #kind)
  if code == EGONE then
    error(problem.GONE, 0)
  elseif code ~= 0 then
    error(("the response could not be begun (%d)"):format(code), 0)
  end
end

--- Begins the response, if that has not been done: until there is a piece, an
--- error can still be answered with a problem.
local function begin_once(out, req)
  local status = out._status
  if status then
    out._status = false
    begin(req, status, out._type)
  end
end

local function write_piece(req, at, count)
  local code = C.pl_res_write(req, at, count)
  if code == 1 then
    C.pl_wait_write(req)
    pause()
  elseif code == EGONE then
    error(problem.GONE, 0)
  elseif code ~= 0 then
    error(("the response could not be written (%d)"):format(code), 0)
  end
end

local function write(req, bytes)
  if #bytes <= PIECE_BYTES_MAX then
    return write_piece(req, bytes, #bytes)
  end
  local at, left = cast("const char *", bytes), #bytes
  while left > 0 do
    local count = left < PIECE_BYTES_MAX and left or PIECE_BYTES_MAX
    write_piece(req, at, count)
    at, left = at + count, left - count
  end
  return bytes -- reachable until here: `at` points into it
end

--- Sends a piece of the body. Waits while the client is slow: past
--- `limits.output` bytes that it has not taken. A client that is gone ends the
--- handler here. Pieces leave at the end of the tick, or with `flush`.
---@param bytes string may be empty
---@return perilune.Out out for chains
function Out:write(bytes)
  local req = out_request(self)
  if type(bytes) ~= "string" then
    error(("out:write takes a string, not a %s"):format(type(bytes)), 2)
  end
  if bytes ~= "" then
    begin_once(self, req)
    write(req, bytes)
  end
  return self
end

--- Hands what was written to the socket now; if that is nothing, the head alone.
function Out:flush()
  local req = out_request(self)
  begin_once(self, req)
  if C.pl_res_flush(req) == EGONE then
    error(problem.GONE, 0)
  end
  return self
end

local function finish(req)
  local code = C.pl_res_end(req)
  if code == 1 then
    wait_written(req)
  end
end

--- The sender of c:stream.
---@param c perilune.Context
---@param job table { fn, count, type, ... }
---@param status integer
function M.send_stream(c, job, status)
  local req = c._req
  local out = setmetatable({
    _req = req, _serial = c._serial, _status = status, _type = job.type,
  }, Out)
  if req.method ~= M.HEAD then
    job.fn(out, unpack(job, 1, job.count))
  end
  begin_once(out, req)
  finish(req)
end

---@class perilune.Events: perilune.Out
local Events = setmetatable({}, { __index = Out })
Events.__index = Events

local function one_line(what, value)
  value = tostring(value)
  if value:find("[\r\n%z]") then
    error(("the %s of an event holds a line break or NUL"):format(what), 3)
  end
  return value
end

--- Sends an event (WHATWG HTML, 9.2). Raises where event or id hold a line
--- break; data is split into lines, as the format wants.
---@param event? string its type; nil: "message"
---@param data string|table|number a table becomes JSON
---@param id? string|integer
function Events:send(event, data, id)
  local req = out_request(self)
  local text = ""
  if id ~= nil then
    text = "id: " .. one_line("id", id) .. "\n"
  end
  if event ~= nil then
    text = text .. "event: " .. one_line("type", event) .. "\n"
  end
  if type(data) == "table" then
    data = encode(data)
  elseif data == nil then
    data = ""
  end
  data = tostring(data):gsub("\r\n?", "\n"):gsub("\n", "\ndata: ")
  write(req, text .. "data: " .. data .. "\n\n")
  return self
end

--- Sends a comment, which keeps middle boxes from closing an idle connection.
---@param text? string
function Events:comment(text)
  write(out_request(self), ": " .. one_line("comment", text or "") .. "\n\n")
  return self
end

--- The sender of c:sse.
---@param c perilune.Context
---@param job table { fn, count, ... }
function M.send_events(c, job, status)
  field(c._req, "cache-control", "no-cache", 0)
  local req = c._req
  begin(req, status, "text/event-stream")
  if req.method ~= M.HEAD then
    local out = setmetatable({ _req = req, _serial = c._serial, _status = false }, Events)
    C.pl_res_flush(req)
    job.fn(out, unpack(job, 1, job.count))
  end
  finish(req)
end

-- Files -----------------------------------------------------------------------

local NOT_FOUND = { [-2] = true, [-20] = true, [-21] = true, [-36] = true, [-40] = true }
local FORBIDDEN = { [-1] = true, [-13] = true }

--- The sender of c:file. What cannot be opened answers 404 (ENOENT, ENOTDIR,
--- EISDIR, ENAMETOOLONG, ELOOP, and what leaves the root) or 403 (EACCES, EPERM).
---@param c perilune.Context
---@param file table { path, root, type, download }
function M.send_file(c, file, status)
  local req, path, root = c._req, file.path, file.root
  local kind, download = file.type, file.download
  local code = C.pl_res_file(req, status, root, #root, path, #path, kind, #kind,
    download, #download)
  if code == 0 or code == EGONE then
    return
  elseif code == 1 then
    wait_written(req)
  elseif NOT_FOUND[code] or code == EINVAL then
    M.problem(req, 404)
  elseif FORBIDDEN[code] then
    M.problem(req, 403)
  else
    error(("the file %q could not be sent (%d)"):format(path, code), 0)
  end
end

return M
