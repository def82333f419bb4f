-- bench/harness/client.lua - a small blocking HTTP/1.1 client for 127.0.0.1: enough to ask a server
-- whether it is there and whether its answers are right. One connection per request.
--
-- Knows nothing of what is asked.

local ffi = require("ffi")
local bit = require("bit")

local C = ffi.C

ffi.cdef([[
struct pl_bench_sockaddr { uint16_t family; uint16_t port; uint32_t addr; char zero[8]; };
struct pl_bench_timeval { long sec; long usec; };
int socket(int domain, int type, int protocol);
int connect(int fd, const struct pl_bench_sockaddr *addr, unsigned bytes);
int setsockopt(int fd, int level, int name, const void *value, unsigned bytes);
long send(int fd, const void *bytes, size_t count, int flags);
long recv(int fd, void *bytes, size_t count, int flags);
int close(int fd);
]])

local AF_INET, SOCK_STREAM = 2, 1
local SOL_SOCKET, SO_RCVTIMEO, SO_SNDTIMEO = 1, 20, 21
local MSG_NOSIGNAL = 0x4000
local LOOPBACK = 0x0100007f -- 127.0.0.1 in network order, on a little-endian machine
local CHUNK_BYTES = 65536
local REPLY_BYTES_MAX = 16 * 1024 * 1024

local M = {}

---@class perilune.bench.Reply
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string

local function open(port, seconds_max)
  local fd = C.socket(AF_INET, SOCK_STREAM, 0)
  local addr = ffi.new("struct pl_bench_sockaddr", {
    family = AF_INET,
    port = bit.rshift(bit.bswap(port), 16),
    addr = LOOPBACK,
  })
  local limit = ffi.new("struct pl_bench_timeval", { sec = seconds_max })

  C.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, limit, ffi.sizeof(limit))
  C.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit, ffi.sizeof(limit))
  if C.connect(fd, addr, ffi.sizeof(addr)) ~= 0 then
    C.close(fd)
    return nil
  end
  return fd
end

local function request_text(method, path, headers, body)
  local lines = { ("%s %s HTTP/1.1"):format(method, path), "Host: 127.0.0.1", "Connection: close" }
  for name, value in pairs(headers or {}) do
    lines[#lines + 1] = name .. ": " .. value
  end
  if body then
    lines[#lines + 1] = "Content-Length: " .. #body
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

local function receive_all(fd)
  local buffer, parts, bytes = ffi.new("char[?]", CHUNK_BYTES), {}, 0
  while bytes < REPLY_BYTES_MAX do
    local count = tonumber(C.recv(fd, buffer, CHUNK_BYTES, 0))
    if count < 0 then
      return nil
    end
    if count == 0 then
      return table.concat(parts)
    end
    parts[#parts + 1] = ffi.string(buffer, count)
    bytes = bytes + count
  end
end

local function dechunk(text)
  local parts, at = {}, 1
  while true do
    local size, from = text:match("^(%x+)[^\r]*\r\n()", at)
    size = tonumber(size or "", 16)
    if not size then
      return nil
    end
    if size == 0 then
      return table.concat(parts)
    end
    parts[#parts + 1] = text:sub(from, from + size - 1)
    at = from + size + 2
  end
end

local function reply_of(text)
  local status, head, body = text:match("^HTTP/1%.1 (%d%d%d)[^\r]*(\r\n.-\r\n)\r\n(.*)$")
  if not status then
    return nil, "no HTTP/1.1 reply"
  end
  local headers = {}
  for name, value in head:gmatch("\r\n([^:\r]+):[ \t]*([^\r]*)") do
    headers[name:lower()] = value
  end
  if (headers["transfer-encoding"] or ""):lower() == "chunked" then
    body = dechunk(body)
  elseif headers["content-length"] and tonumber(headers["content-length"]) ~= #body then
    return nil, "Content-Length differs from the body"
  end
  if not body then
    return nil, "broken chunks"
  end
  return { status = tonumber(status), headers = headers, body = body }
end

---@class perilune.bench.Ask
---@field method? string default GET
---@field path string
---@field headers? table<string, string>
---@field body? string
---@field seconds_max? integer of each read and write; default 5

---@param port integer on 127.0.0.1
---@param ask perilune.bench.Ask
---@return perilune.bench.Reply? reply
---@return string? err
function M.request(port, ask)
  local fd = open(port, ask.seconds_max or 5)
  if not fd then
    return nil, "cannot connect"
  end
  local text = request_text(ask.method or "GET", ask.path, ask.headers, ask.body)
  local received
  if tonumber(C.send(fd, text, #text, MSG_NOSIGNAL)) == #text then
    received = receive_all(fd)
  end
  C.close(fd)
  if not received then
    return nil, "no complete reply in time"
  end
  return reply_of(received)
end

return M
