--- A client without a socket: sends the bytes of a request into the server of
--- this VM, and reads its response. For perilune.test and `perilune request`.
---
--- The bytes go through the real parser, limits, router, handlers and encoder;
--- what the response says is read here, independently of the encoder.

local core = require("perilune.core")
local json = require("perilune.json")
local wait = require("perilune.wait")

---@class perilune.inject
local M = {}

---@class perilune.inject.Response
---@field status integer
---@field reason string
---@field headers table<string, string> lower-case names; repeated ones joined by ", "
---@field set_cookies string[] the values of Set-Cookie
---@field body string
---@field informational integer[] the 1xx statuses that came first
---@field raw string all bytes

local function parse_head(raw, at)
  local head_end = raw:find("\r\n\r\n", at, true)
  if not head_end then
    return nil
  end
  local head = raw:sub(at, head_end + 1)
  local status, reason = head:match("^HTTP/1%.%d (%d%d%d) ?([^\r\n]*)\r\n")
  if not status then
    error("no response: " .. head:sub(1, 80), 0)
  end
  local headers, set_cookies = {}, {}
  local first = head:find("\r\n", 1, true) + 2
  for name, value in head:sub(first):gmatch("([^:\r\n]+):[ \t]*([^\r\n]*)\r\n") do
    name = name:lower()
    if name == "set-cookie" then
      set_cookies[#set_cookies + 1] = value
    end
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return tonumber(status), reason, headers, set_cookies, head_end + 4
end

--- The decoded body of a chunked response; nil while it is not whole.
local function parse_chunks(raw, at)
  local parts = {}
  while true do
    local first, last, size = raw:find("^(%x+)[^\r\n]*\r\n", at)
    if not first then
      return nil
    end
    local count = tonumber(size, 16)
    at = last + 1
    if count == 0 then
      local stop = raw:find("\r\n", at, true)
      return stop and table.concat(parts) or nil, stop and stop + 2
    end
    if #raw < at + count + 1 then
      return nil
    end
    parts[#parts + 1] = raw:sub(at, at + count - 1)
    at = at + count + 2
  end
end

--- Reads the first response in `raw` from `at` on.
---@param raw string
---@param at integer
---@param method string of its request
---@param closed boolean whether no more bytes will come
---@return perilune.inject.Response? response nil while it is not whole
---@return integer? next where the bytes behind it begin
function M.parse(raw, at, method, closed)
  local informational = {}
  local status, reason, headers, set_cookies, body_at
  repeat
    status, reason, headers, set_cookies, body_at = parse_head(raw, at)
    if not status then
      return nil
    end
    if status < 200 then
      informational[#informational + 1] = status
      at = body_at
    end
  until status >= 200
  local body, next_at
  local length = tonumber(headers["content-length"])
  if method == "HEAD" or status == 204 or status == 304 then
    body, next_at = "", body_at
  elseif headers["transfer-encoding"] then
    body, next_at = parse_chunks(raw, body_at)
  elseif length then
    if #raw >= body_at + length - 1 then
      body, next_at = raw:sub(body_at, body_at + length - 1), body_at + length
    end
  elseif closed then
    body, next_at = raw:sub(body_at), #raw + 1
  end
  if not body then
    return nil
  end
  return {
    status = status, reason = reason, headers = headers, set_cookies = set_cookies,
    body = body, informational = informational, raw = raw,
  }, next_at
end

--- Percent-encodes all but the characters that stand for themselves.
---@param s string
---@return string
function M.escape(s)
  return (tostring(s):gsub("[^%w%-%._~]", function(char)
    return ("%%%02X"):format(char:byte())
  end))
end

--- The bytes of a request. Adds Host, and Content-Length when there is a body.
---@param method string
---@param target string
---@param headers table<string, string>? or a list of "Name: value"
---@param body string?
---@return string bytes
function M.request(method, target, headers, body)
  local lines, seen = { ("%s %s HTTP/1.1"):format(method, target) }, {}
  for name, value in pairs(headers or {}) do
    if type(name) == "number" then
      name, value = value:match("^([^:]+):%s*(.*)$")
      if not name then
        error("a header reads \"Name: value\"", 0)
      end
    end
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      lines[#lines + 1] = ("%s: %s"):format(name, tostring(one))
    end
    seen[name:lower()] = true
  end
  if not seen.host then
    table.insert(lines, 2, "Host: localhost")
  end
  if body and not seen["content-length"] and not seen["transfer-encoding"] then
    lines[#lines + 1] = ("Content-Length: %d"):format(#body)
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

local REQUEST_OPTIONS = {
  headers = true, query = true, body = true, json = true, form = true, cookies = true,
  allow_error = true, remote = true,
}

local function query_text(query)
  local pairs_of, names = {}, {}
  for name in pairs(query) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = query[name]
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      pairs_of[#pairs_of + 1] = M.escape(name) .. "=" .. M.escape(one)
    end
  end
  return table.concat(pairs_of, "&")
end

local function has(headers, name)
  for key in pairs(headers) do
    if type(key) == "string" and key:lower() == name then
      return true
    end
  end
  return false
end

--- The bytes of a request from its options. Raises for those that there are not.
---@param method string
---@param path string
---@param opts table headers, query, body, json, form, cookies; others are the caller's
---@param level integer of the error: 1 is the caller of this function
---@return string bytes
function M.encode(method, path, opts, level)
  for key in pairs(opts) do
    if not REQUEST_OPTIONS[key] then
      error(("a request has no option %q"):format(tostring(key)), level + 1)
    end
  end
  local headers, body = {}, opts.body
  for name, value in pairs(opts.headers or {}) do
    headers[name] = value
  end
  if opts.query then
    path = path .. (path:find("?", 1, true) and "&" or "?") .. query_text(opts.query)
  end
  local kind
  if opts.json ~= nil then
    body, kind = json.encode(opts.json), "application/json"
  elseif opts.form then
    body, kind = require("perilune.form").encode(opts.form), "application/x-www-form-urlencoded"
  end
  if kind and not has(headers, "content-type") then
    headers["Content-Type"] = kind
  end
  if opts.cookies then
    local list = {}
    for name, value in pairs(opts.cookies) do
      list[#list + 1] = name .. "=" .. value
    end
    table.sort(list)
    headers.Cookie = table.concat(list, "; ")
  end
  if not body and (method == "POST" or method == "PUT" or method == "PATCH") then
    body = ""
  end
  return M.request(method, path, headers, body)
end

--- A connection without a socket.
---@class perilune.inject.Connection
---@field _handle integer
---@field _raw string what has come and was not taken
---@field closed boolean by the server
local Connection = {}
Connection.__index = Connection

---@param site integer
---@param opts? table { remote = address }
---@return perilune.inject.Connection
function M.open(site, opts)
  local handle = core.inject_open(site, { remote = opts and opts.remote or "127.0.0.1" })
  return setmetatable({ _handle = handle, _raw = "", closed = false }, Connection)
end

---@param bytes string
function Connection:send(bytes)
  core.inject_feed(self._handle, bytes)
end

local function pull(self)
  local bytes, closed = core.inject_take(self._handle)
  self._raw = self._raw .. (bytes or "")
  self.closed = closed
  return bytes ~= nil and bytes ~= ""
end

--- Waits until more bytes have come, or none will.
function Connection:wait()
  if pull(self) or self.closed then
    return
  end
  core.inject_wait(self._handle)
  wait.pause()
  pull(self)
end

--- Waits for the next response.
---@param method string of its request
---@return perilune.inject.Response? response nil when the server closed without one
function Connection:response(method)
  while true do
    local response, next_at = M.parse(self._raw, 1, method, self.closed)
    if response then
      response.raw = self._raw:sub(1, next_at - 1)
      self._raw = self._raw:sub(next_at)
      return response
    end
    if self.closed then
      return nil
    end
    self:wait()
  end
end

--- Waits until the server has closed; all bytes that have come.
---@return string
function Connection:rest()
  while not self.closed do
    self:wait()
  end
  local raw = self._raw
  self._raw = ""
  return raw
end

--- Says that the client sends no more.
function Connection:half_close()
  core.inject_eof(self._handle)
end

--- Whether the client reads what comes.
---@param stalled boolean
function Connection:stall(stalled)
  core.inject_stall(self._handle, stalled)
end

--- The client goes away.
function Connection:close()
  if self._handle then
    core.inject_close(self._handle)
    self._handle = false
    self.closed = true
  end
end

return M
