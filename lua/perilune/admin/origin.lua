--- Who is behind a request to an admin plane that asks for no token.
---
--- Such a plane is on loopback, where only processes of this machine come. A browser is one of
--- them, and runs what pages of others say: their scripts can send requests here, and, when a name
--- of theirs is made to lead to 127.0.0.1 (DNS rebinding), read the answers as those of their own
--- site. What the browser itself says of each request tells them apart: Host (RFC 9110 7.2),
--- Origin (RFC 6454 7), and the Fetch metadata (W3C), which no script can set.
---
--- Pure. Knows neither routes nor tokens.

local M = {}

local OTHER_NAME = "without a token the admin plane answers to loopback addresses and localhost: "
  .. "use http://127.0.0.1, or set admin.token"
local OTHER_SITE = "without a token the admin plane does not answer pages of other sites"

--- Whether a Host is this machine's own, whatever its port is.
---@param host string as in the field, in any case
---@return boolean
function M.is_loopback(host)
  local name = host:lower():gsub(":%d*$", "")
  local a, b, c = name:match("^127%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$")
  if a then
    return tonumber(a) < 256 and tonumber(b) < 256 and tonumber(c) < 256
  end
  return name == "localhost" or name == "[::1]"
end

--- A link that is followed, into a window of its own.
local function is_visit(field, method)
  return method == "GET" and field("sec-fetch-mode") == "navigate"
    and field("sec-fetch-dest") == "document"
end

--- Whether a browser says that somebody else's page asks. The same host on another port is one:
--- "same-site" is not enough.
local function is_foreign(field, method)
  local origin, site = field("origin"), field("sec-fetch-site")
  if origin and origin:lower() ~= "http://" .. (field("host") or ""):lower() then
    return true
  end
  return site ~= nil and site ~= "same-origin" and site ~= "none" and not is_visit(field, method)
end

--- What is wrong with a request, if anything is. One without a Host is no browser's.
---@param field fun(name: string): string? the value of a header field
---@param method string
---@return integer? status 421 (another name) or 403 (another site); nil: nothing is
---@return string? why
function M.fault(field, method)
  local host = field("host")
  if host and not M.is_loopback(host) then
    return 421, OTHER_NAME
  end
  if is_foreign(field, method) then
    return 403, OTHER_SITE
  end
end

return M
