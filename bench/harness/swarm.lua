-- bench/harness/swarm.lua - many keep-alive connections to one server on 127.0.0.1, from one
-- thread. Who sends what, and when, is the caller's.
--
-- Never waits but in `wait`, and there for as long as it is told. Understands responses with a
-- Content-Length, which is what the soak's server sends.

local ffi = require("ffi")
local bit = require("bit")
local process = require("process")
require("client") -- declares the sockets

local C = ffi.C

ffi.cdef([[
struct pl_bench_pollfd { int fd; short events, revents; };
int ppoll(struct pl_bench_pollfd *fds, unsigned long count, const struct pl_bench_timespec *timeout,
          const void *mask);
]])

local AF_INET, SOCK_STREAM, SOCK_CLOEXEC = 2, 1, 0x80000
local IPPROTO_TCP, TCP_NODELAY = 6, 1
local MSG_NOSIGNAL, MSG_DONTWAIT = 0x4000, 0x40
local EINTR, EAGAIN = 4, 11
local POLLIN = 1
local LOOPBACK = 0x0100007f -- 127.0.0.1 in network order, on a little-endian machine
local CHUNK_BYTES = 262144
local CONNECTIONS_MAX = 4096

local M = {}

---@class perilune.bench.SwarmReply
---@field status integer
---@field head string
---@field body string

---@class perilune.bench.SwarmConn
---@field fd integer -1 once it is closed
---@field tag any of the request under way; nil: none is
---@field sent_at number when it was sent, monotonic
---@field input string received and not yet understood

---@class perilune.bench.Swarm
---@field port integer
---@field conns perilune.bench.SwarmConn[] the open ones
---@field on_reply fun(conn: perilune.bench.SwarmConn, reply: perilune.bench.SwarmReply, tag: any)
---  the connection is free again
---@field on_lost fun(conn: perilune.bench.SwarmConn, tag: any, why: string) it is closed; tag nil:
---  no request was under way
local Swarm = {}
Swarm.__index = Swarm

local chunk = ffi.new("char[?]", CHUNK_BYTES)
local one = ffi.new("int[1]", 1)

---@param port integer
---@param on_reply fun(conn, reply, tag)
---@param on_lost fun(conn, tag, why)
---@return perilune.bench.Swarm
function M.new(port, on_reply, on_lost)
  return setmetatable({
    port = port, conns = {}, on_reply = on_reply, on_lost = on_lost,
    _fds = ffi.new("struct pl_bench_pollfd[?]", CONNECTIONS_MAX),
  }, Swarm)
end

---@return perilune.bench.SwarmConn? conn
---@return string? err
function Swarm:connect()
  if #self.conns == CONNECTIONS_MAX then
    return nil, "too many connections"
  end
  local fd = C.socket(AF_INET, SOCK_STREAM + SOCK_CLOEXEC, 0)
  local addr = ffi.new("struct pl_bench_sockaddr", {
    family = AF_INET,
    port = bit.rshift(bit.bswap(self.port), 16),
    addr = LOOPBACK,
  })
  if C.connect(fd, addr, ffi.sizeof(addr)) ~= 0 then
    local code = ffi.errno()
    C.close(fd)
    return nil, "cannot connect: errno " .. code
  end
  C.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, one, 4)
  local conn = { fd = fd, tag = nil, sent_at = 0, input = "" }
  table.insert(self.conns, conn)
  return conn
end

--- Closes a connection without a word to the caller.
---@param conn perilune.bench.SwarmConn
function Swarm:close(conn)
  if conn.fd < 0 then
    return
  end
  C.close(conn.fd)
  conn.fd, conn.tag = -1, nil
  for i, each in ipairs(self.conns) do
    if each == conn then
      table.remove(self.conns, i)
      return
    end
  end
end

function Swarm:close_all()
  while self.conns[1] do
    self:close(self.conns[1])
  end
end

local function lose(self, conn, why)
  local tag = conn.tag
  self:close(conn)
  self.on_lost(conn, tag, why)
end

--- Sends a request on a free connection. A connection that turns out to be broken goes to on_lost.
---@param conn perilune.bench.SwarmConn
---@param text string the whole request; small
---@param tag any what on_reply is to be told, not nil
function Swarm:send(conn, text, tag)
  conn.tag, conn.sent_at = tag, process.now()
  local at = 0
  while at < #text do
    local count = tonumber(C.send(conn.fd, ffi.cast("const char *", text) + at, #text - at,
      MSG_NOSIGNAL))
    if count < 0 and ffi.errno() ~= EINTR then
      return lose(self, conn, "errno " .. ffi.errno())
    end
    at = at + math.max(count, 0)
  end
end

-- A whole response at the beginning of the input; nil while it is not whole.
local function take_reply(conn)
  local head_end = conn.input:find("\r\n\r\n", 1, true)
  if not head_end then
    return nil
  end
  local head = conn.input:sub(1, head_end + 1)
  local status = tonumber(head:match("^HTTP/1%.1 (%d%d%d) "))
  local length = tonumber(head:lower():match("\r\ncontent%-length: *(%d+)\r\n") or 0)
  if not status then
    return nil, "no response: " .. head:sub(1, 100)
  end
  local last = head_end + 3 + length
  if #conn.input < last then
    return nil
  end
  local body = conn.input:sub(head_end + 4, last)
  conn.input = conn.input:sub(last + 1)
  return { status = status, head = head, body = body }
end

local function receive(self, conn)
  local count = tonumber(C.recv(conn.fd, chunk, CHUNK_BYTES, MSG_DONTWAIT))
  if count < 0 then
    local code = ffi.errno()
    if code ~= EAGAIN and code ~= EINTR then
      lose(self, conn, "errno " .. code)
    end
    return
  elseif count == 0 then
    return lose(self, conn, "closed")
  end
  conn.input = conn.input .. ffi.string(chunk, count)
  local reply, err = take_reply(conn)
  if err then
    return lose(self, conn, err)
  elseif reply then
    local tag = conn.tag
    conn.tag = nil
    self.on_reply(conn, reply, tag)
  end
end

--- Waits for news and hands them on; at most so long.
---@param seconds number
function Swarm:wait(seconds)
  local fds, conns = self._fds, {}
  for i, conn in ipairs(self.conns) do
    conns[i] = conn
    fds[i - 1].fd, fds[i - 1].events, fds[i - 1].revents = conn.fd, POLLIN, 0
  end
  local timeout = ffi.new("struct pl_bench_timespec")
  seconds = math.max(seconds, 0)
  timeout.sec, timeout.nsec = math.floor(seconds), seconds % 1 * 1e9
  if C.ppoll(fds, #conns, timeout, nil) <= 0 then
    return
  end
  for i, conn in ipairs(conns) do
    if fds[i - 1].revents ~= 0 and conn.fd == fds[i - 1].fd then
      receive(self, conn)
    end
  end
end

--- The bytes of a request.
---@param method string
---@param target string
---@param body? string
---@return string
function M.request(method, target, body)
  local length = body and ("Content-Length: %d\r\n"):format(#body) or ""
  return ("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n%s"):format(method, target, length,
    body or "")
end

return M
