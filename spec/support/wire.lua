--- Raw sockets for specs: bytes out, bytes in, with deadlines; half-closing and
--- resetting included.
---
--- No HTTP but `response`, which reads one response as a strict client does.

local ffi = require("ffi")
local posix = require("spec.support.posix")

local C = posix.C

local M = {}

local PATIENCE_S = 10
local CHUNK_BYTES = 65536
local AF_UNIX, AF_INET, SOCK_STREAM, SOCK_DGRAM, SOCK_CLOEXEC = 1, 2, 1, 2, 0x80000
local SOL_SOCKET, SO_LINGER, SO_RCVBUF, SO_SNDBUF = 1, 13, 8, 7
local IPPROTO_TCP, TCP_NODELAY = 6, 1
local MSG_NOSIGNAL, MSG_DONTWAIT = 0x4000, 0x40
local SHUT_WR = 1

local buffer = ffi.new("char[?]", CHUNK_BYTES)

---@class spec.Wire
---@field fd integer -1 when closed
---@field input string received and not yet taken
---@field _parts string[] received within a call; joined once, as joining each time is quadratic
---@field _pending integer bytes in them
local Wire = {}
Wire.__index = Wire

local function int(value)
  return ffi.new("int[1]", value), 4
end

local function in_address(port)
  local a = ffi.new("pl_spec_in")
  a.family, a.port, a.addr = AF_INET, C.htons(port), C.htonl(0x7f000001)
  return a, ffi.sizeof(a)
end

local function un_address(path)
  local a = ffi.new("pl_spec_un")
  a.family, a.path = AF_UNIX, path
  return a, ffi.sizeof(a)
end

--- Connects to a port of this machine, or to a unix socket.
---@param to integer|string port or path
---@param opts? { receive_bytes?: integer } size of the receive buffer, for slow readers
---@return spec.Wire? wire
---@return string? err "refused", or the system's reason
function M.connect(to, opts)
  local is_path = type(to) == "string"
  local fd = C.socket(is_path and AF_UNIX or AF_INET, SOCK_STREAM + SOCK_CLOEXEC, 0)
  assert(fd >= 0, "socket")
  if opts and opts.receive_bytes then
    C.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, int(opts.receive_bytes))
  end
  local address, bytes
  if is_path then
    address, bytes = un_address(to)
  else
    address, bytes = in_address(to)
  end
  if C.connect(fd, address, bytes) ~= 0 then
    local code, reason = ffi.errno(), posix.reason()
    C.close(fd)
    return nil, code == posix.ECONNREFUSED and "refused" or reason
  end
  if not is_path then
    C.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, int(1))
  end
  return setmetatable({ fd = fd, input = "", _parts = {}, _pending = 0 }, Wire)
end

--- A port that nobody listens on now.
---@return integer
function M.free_port()
  local fd = C.socket(AF_INET, SOCK_STREAM + SOCK_CLOEXEC, 0)
  local address, bytes = in_address(0)
  local size = ffi.new("unsigned int[1]", bytes)
  assert(C.bind(fd, address, bytes) == 0, "bind")
  assert(C.getsockname(fd, address, size) == 0, "getsockname")
  C.close(fd)
  return C.htons(address.port)
end

--- A listening socket on a port that is free.
---@return integer fd
---@return integer port
function M.listener()
  local fd = C.socket(AF_INET, SOCK_STREAM + SOCK_CLOEXEC, 0)
  local address, bytes = in_address(0)
  local size = ffi.new("unsigned int[1]", bytes)
  assert(C.bind(fd, address, bytes) == 0, "bind")
  assert(C.listen(fd, 16) == 0, "listen")
  assert(C.getsockname(fd, address, size) == 0, "getsockname")
  return fd, C.htons(address.port)
end

---@class spec.Inbox
---@field fd integer
---@field kept string[] messages that were received and not taken
local Inbox = {}
Inbox.__index = Inbox

--- A unix socket that takes datagrams, as systemd's of $NOTIFY_SOCKET.
---@param path string
---@return spec.Inbox
function M.inbox(path)
  local fd = C.socket(AF_UNIX, SOCK_DGRAM + SOCK_CLOEXEC, 0)
  assert(C.bind(fd, un_address(path)) == 0, "bind " .. path)
  return setmetatable({ fd = fd, kept = {} }, Inbox)
end

--- The next message with that text in it; those before it are dropped.
---@param text string
---@param seconds? number default 10
---@return string? message
function Inbox:take(text, seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  while posix.wait_fd(self.fd, posix.POLLIN, due) do
    local n = tonumber(C.recv(self.fd, buffer, CHUNK_BYTES, MSG_DONTWAIT))
    local message = n > 0 and ffi.string(buffer, n) or ""
    if message:find(text, 1, true) then
      return message
    end
  end
  return nil
end

function Inbox:close()
  C.close(self.fd)
end

--- Makes the send buffer small, so that the peer's reading shows soon.
---@param bytes integer
function Wire:set_send_bytes(bytes)
  C.setsockopt(self.fd, SOL_SOCKET, SO_SNDBUF, int(bytes))
end

--- Sends all of it.
---@param bytes string
---@param seconds? number default 10
---@return boolean? ok
---@return string? err "timeout", "reset", "broken pipe"; some may have been sent
function Wire:send(bytes, seconds)
  local due, at = posix.now() + (seconds or PATIENCE_S), 0
  local start = ffi.cast("const char *", bytes)
  while at < #bytes do
    local n = tonumber(C.send(self.fd, start + at, #bytes - at, MSG_NOSIGNAL + MSG_DONTWAIT))
    if n > 0 then
      at = at + n
    else
      local code = ffi.errno()
      if code == posix.ECONNRESET then
        return nil, "reset"
      elseif code == posix.EPIPE then
        return nil, "broken pipe"
      elseif code ~= posix.EAGAIN and code ~= posix.EINTR then
        return nil, posix.reason()
      elseif not posix.wait_fd(self.fd, posix.POLLOUT, due) then
        return nil, "timeout"
      end
    end
  end
  return true
end

--- Sends byte by byte.
---@param bytes string
---@param pause? number seconds between two bytes; default 0
---@return boolean? ok
---@return string? err
function Wire:send_bytewise(bytes, pause)
  for i = 1, #bytes do
    local ok, err = self:send(bytes:sub(i, i))
    if not ok then
      return nil, err
    end
    if pause then
      posix.sleep(pause)
    end
  end
  return true
end

-- Adds to _parts: the new bytes, or nil and "timeout", "closed", "reset".
function Wire:_fill(due)
  while true do
    local n = tonumber(C.recv(self.fd, buffer, CHUNK_BYTES, MSG_DONTWAIT))
    if n > 0 then
      local bytes = ffi.string(buffer, n)
      self._parts[#self._parts + 1] = bytes
      self._pending = self._pending + n
      return bytes
    elseif n == 0 then
      return nil, "closed"
    end
    local code = ffi.errno()
    if code == posix.ECONNRESET then
      return nil, "reset"
    elseif code ~= posix.EAGAIN and code ~= posix.EINTR then
      return nil, posix.reason()
    elseif not posix.wait_fd(self.fd, posix.POLLIN, due) then
      return nil, "timeout"
    end
  end
end

-- Moves _parts to input; every public function ends with it.
function Wire:_join()
  if self._pending > 0 then
    self.input = self.input .. table.concat(self._parts)
    self._parts, self._pending = {}, 0
  end
end

-- Takes bytes off input.
function Wire:_take(count)
  local bytes = self.input:sub(1, count)
  self.input = self.input:sub(count + 1)
  return bytes
end

--- What has come, at least one byte.
---@param seconds? number default 10
---@return string? bytes
---@return string? err "timeout", "closed", "reset"
function Wire:receive(seconds)
  if self.input == "" then
    local bytes, err = self:_fill(posix.now() + (seconds or PATIENCE_S))
    if not bytes then
      return nil, err
    end
    self:_join()
  end
  return self:_take(#self.input)
end

--- Exactly so many bytes.
---@param count integer
---@param seconds? number
---@return string? bytes nil: what came stays in `input`
---@return string? err
function Wire:receive_bytes(count, seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  local bytes, err = "", nil
  while bytes and #self.input + self._pending < count do
    bytes, err = self:_fill(due)
  end
  self:_join()
  if not bytes then
    return nil, err
  end
  return self:_take(count)
end

--- Everything up to and with a plain text.
---@param mark string
---@param seconds? number
---@return string? bytes nil: what came stays in `input`
---@return string? err
function Wire:receive_until(mark, seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  local tail, err = self.input, nil
  while tail and not tail:find(mark, 1, true) do
    local rest = tail:sub(-#mark) -- the mark may have come in two pieces
    tail, err = self:_fill(due)
    tail = tail and rest .. tail
  end
  self:_join()
  if not tail then
    return nil, err
  end
  local _, stop = self.input:find(mark, 1, true)
  return self:_take(stop)
end

--- Everything until the peer closes.
---@param seconds? number
---@return string bytes what came, also when it ended badly
---@return string how "closed", "reset" or "timeout"
function Wire:receive_all(seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  local bytes, how
  repeat
    bytes, how = self:_fill(due)
  until not bytes
  self:_join()
  return self:_take(#self.input), how
end

local function chunked_body(self, due)
  local parts = {}
  while true do
    local line, err = self:receive_until("\r\n", due - posix.now())
    if not line then
      return nil, err
    end
    local size = tonumber(line:match("^(%x+)\r\n$"), 16)
    if not size then
      return nil, "bad chunk size: " .. line
    end
    if size == 0 then
      break
    end
    parts[#parts + 1] = self:receive_bytes(size, due - posix.now())
    if self:receive_bytes(2, due - posix.now()) ~= "\r\n" then
      return nil, "bad chunk end"
    end
  end
  repeat -- trailers
    local line, err = self:receive_until("\r\n", due - posix.now())
    if not line then
      return nil, err
    end
  until line == "\r\n"
  return table.concat(parts)
end

---@class spec.WireResponse
---@field status integer
---@field version string "1.1"
---@field headers table<string, string> lower case; repeated ones joined by ", "
---@field body string
---@field head string as it came

local function head_parse(head)
  local version, status = head:match("^HTTP/(%d%.%d) (%d%d%d) [^\r\n]*\r\n")
  if not version then
    return nil
  end
  local headers = {}
  for name, value in head:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]-)[ \t]*%f[\r]") do
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return { status = tonumber(status), version = version, headers = headers, head = head }
end

--- Reads one response, 1xx ones left out unless `opts.interim`.
---@param opts? { method?: string, seconds?: number, interim?: boolean }
---@return spec.WireResponse? response
---@return string? err "timeout", "closed", "reset", or what is malformed
function M.read_response(wire, opts)
  opts = opts or {}
  local due = posix.now() + (opts.seconds or PATIENCE_S)
  local response, head, err
  repeat
    head, err = wire:receive_until("\r\n\r\n", due - posix.now())
    if not head then
      return nil, err
    end
    response = head_parse(head)
    if not response then
      return nil, "no response head: " .. head
    end
  until response.status >= 200 or opts.interim
  local headers = response.headers
  if opts.method == "HEAD" or response.status < 200 or response.status == 204
    or response.status == 304 then
    response.body = ""
  elseif headers["transfer-encoding"] == "chunked" then
    response.body, err = chunked_body(wire, due)
  elseif headers["content-length"] then
    response.body, err = wire:receive_bytes(tonumber(headers["content-length"]), due - posix.now())
  else
    local how
    response.body, how = wire:receive_all(due - posix.now())
    err = how ~= "closed" and how or nil
  end
  if err then
    return nil, err
  end
  return response
end

Wire.response = M.read_response

--- Sends a simple request.
---@param method string
---@param target string
---@param headers? string lines, each with its CRLF
---@param body? string with a Content-Length made for it
---@return boolean? ok
---@return string? err
function Wire:request(method, target, headers, body)
  local length = body and ("Content-Length: %d\r\n"):format(#body) or ""
  return self:send(("%s %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n%s"):format(method, target,
    headers or "", length, body or ""))
end

--- One request and its response over a connection of its own.
---@param to integer|string port or path
---@param method string
---@param target string
---@param headers? string
---@param body? string
---@return spec.WireResponse? response
---@return string? err
function M.ask(to, method, target, headers, body)
  local wire, err = M.connect(to)
  if not wire then
    return nil, err
  end
  local response
  wire:request(method, target, headers, body)
  response, err = wire:response({ method = method })
  wire:close()
  return response, err
end

--- Says that nothing more will be sent; reading goes on.
function Wire:half_close()
  C.shutdown(self.fd, SHUT_WR)
end

--- Closes with a reset.
function Wire:reset()
  local linger = ffi.new("pl_spec_linger", 1, 0)
  C.setsockopt(self.fd, SOL_SOCKET, SO_LINGER, linger, ffi.sizeof(linger))
  self:close()
end

function Wire:close()
  if self.fd >= 0 then
    C.close(self.fd)
    self.fd = -1
  end
end

return M
