--- Reads responses strictly, as the wire specs want it: what RFC 9112 does not
--- allow a server to send is an error here, with the bytes that are wrong.
---
--- Deliberately not perilune.inject's reader: two programs have to agree.

---@class spec.Response
---@field status integer
---@field reason string
---@field version string "1.1"
---@field headers table<string, string> lower-case names; repeated ones joined by ", "
---@field names string[] as they were sent, in order
---@field body string
---@field framing "length"|"chunked"|"close"|"none"
---@field chunks string[]? the pieces of a chunked body
---@field informational integer[] the 1xx statuses that came first
---@field raw string

---@class spec.response
local M = {}

local TOKEN = "^[%w!#%$%%&'%*%+%-%.%^_`|~]+$"

local function wrong(what, bytes)
  error(("%s: %q"):format(what, (bytes or ""):sub(1, 200)), 0)
end

local function read_fields(section)
  local headers, names = {}, {}
  for line in section:gmatch("(.-)\r\n") do
    local name, value = line:match("^([^:]*):[ \t]*(.-)[ \t]*$")
    if not name or not name:find(TOKEN) then
      wrong("a field line is malformed", line)
    end
    if value:find("[%z\1-\8\10-\31\127]") then
      wrong("a control character in a field", line)
    end
    names[#names + 1] = name
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return headers, names
end

--- One head; nil while it is not whole.
local function read_head(raw, at)
  local stop = raw:find("\r\n\r\n", at, true)
  if not stop then
    if #raw >= at + 8 and raw:sub(at, at + 6) ~= "HTTP/1." then
      wrong("no response", raw:sub(at))
    end
    return nil
  end
  local head = raw:sub(at, stop + 1)
  if head:gsub("\r\n", ""):find("[\r\n]") then
    wrong("a bare CR or LF in a head", head)
  end
  local version, status, reason, rest = head:match("^HTTP/(1%.[01]) (%d%d%d) ([^\r]*)\r\n(.*)$")
  if not version then
    wrong("no status line", head)
  end
  local headers, names = read_fields(rest)
  return {
    version = version, status = tonumber(status), reason = reason,
    headers = headers, names = names,
  }, stop + 4
end

local function read_chunks(raw, at)
  local chunks = {}
  while true do
    local stop = raw:find("\r\n", at, true)
    if not stop then
      return nil
    end
    local line = raw:sub(at, stop - 1)
    if not line:find("^%x+$") then
      wrong("no chunk size", line)
    end
    local size = tonumber(line, 16)
    at = stop + 2
    if #raw < at + size + 1 then
      return nil
    end
    if raw:sub(at + size, at + size + 1) ~= "\r\n" then
      wrong("a chunk does not end in CRLF", raw:sub(at + size))
    end
    if size == 0 then
      return chunks, at + 2
    end
    chunks[#chunks + 1] = raw:sub(at, at + size - 1)
    at = at + size + 2
  end
end

local function check_framing(r, method)
  local length, coding = r.headers["content-length"], r.headers["transfer-encoding"]
  if length and not length:find("^%d+$") then
    wrong("a Content-Length that is no number", length)
  end
  if length and coding then
    wrong("Content-Length beside Transfer-Encoding", r.raw)
  end
  if coding and coding ~= "chunked" then
    wrong("a transfer coding that nobody asked for", coding)
  end
  if (r.status < 200 or r.status == 204) and (length or coding) then
    wrong(("a %d with framing"):format(r.status), length or coding)
  end
  if method == "HEAD" or r.status == 204 or r.status == 304 then
    return "none"
  elseif coding then
    return "chunked"
  end
  return length and "length" or "close"
end

--- Reads the first response in `raw` from `at` on.
---@param raw string
---@param at integer
---@param method string of its request
---@param closed boolean whether no more bytes will come
---@return spec.Response? response nil while it is not whole
---@return integer? next where the bytes behind it begin
function M.read(raw, at, method, closed)
  local informational, from = {}, at
  local r, body_at = read_head(raw, at)
  while r and r.status < 200 do
    check_framing(r, method)
    informational[#informational + 1] = r.status
    r, body_at = read_head(raw, body_at)
  end
  if not r then
    return nil
  end
  r.informational = informational
  r.framing = check_framing(r, method)
  local next_at
  if r.framing == "none" then
    r.body, next_at = "", body_at
  elseif r.framing == "chunked" then
    r.chunks, next_at = read_chunks(raw, body_at)
    r.body = r.chunks and table.concat(r.chunks)
  elseif r.framing == "length" then
    next_at = body_at + tonumber(r.headers["content-length"])
    r.body = #raw >= next_at - 1 and raw:sub(body_at, next_at - 1) or nil
  elseif closed then
    r.body, next_at = raw:sub(body_at), #raw + 1
  end
  if not r.body then
    return nil
  end
  r.raw = raw:sub(from, next_at - 1)
  return r, next_at
end

return M
