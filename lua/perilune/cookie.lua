--- The value of a Set-Cookie field (RFC 6265 4.1, and SameSite of its successor).

local units = require("perilune.units")

---@class perilune.cookie
local M = {}

local KNOWN = {
  path = true, domain = true, max_age = true, expires = true, secure = true,
  http_only = true, same_site = true,
}
local SAME_SITE = { lax = "Lax", strict = "Strict", none = "None" }

local TOKEN = "^[%w!#%$%%&'%*%+%-%.%^_`|~]+$"
local OCTETS = "^[%w!#%$%%&'%(%)%*%+%-%./:<=>%?@%[%]%^_`{|}~]*$"

local function check(name, value, opts)
  if type(name) ~= "string" or not name:find(TOKEN) then
    return "the name of a cookie is a token"
  end
  if type(value) ~= "string" or not value:find(OCTETS) then
    return "the value of a cookie holds no spaces, quotes, commas, semicolons, backslashes"
      .. " or bytes outside ASCII: encode it first"
  end
  for key in pairs(opts) do
    if not KNOWN[key] then
      return ("a cookie has no option %q"):format(tostring(key))
    end
  end
  for _, key in ipairs({ "path", "domain" }) do
    local text = opts[key]
    if text and (type(text) ~= "string" or text:find("[;%c]")) then
      return ("the %s of a cookie is a string without \";\""):format(key)
    end
  end
end

--- Options: path ("/"; false: none), domain, max_age (seconds or "1h"), expires
--- (seconds since the epoch), secure (false), http_only (true), same_site
--- ("Lax", "Strict", "None"; false: none).
---@param name string a token
---@param value string cookie-octets
---@param opts? table
---@return string? line
---@return string? err
function M.encode(name, value, opts)
  opts = opts or {}
  local err = check(name, value, opts)
  if err then
    return nil, err
  end
  local line = { name .. "=" .. value }
  local path = opts.path == nil and "/" or opts.path
  if path then
    line[#line + 1] = "Path=" .. path
  end
  if opts.domain then
    line[#line + 1] = "Domain=" .. opts.domain
  end
  if opts.max_age then
    local seconds = units.seconds(opts.max_age)
    if not seconds then
      return nil, "the max_age of a cookie is a number of seconds or a text such as \"1h\""
    end
    line[#line + 1] = ("Max-Age=%d"):format(seconds)
  end
  if opts.expires then
    if type(opts.expires) ~= "number" then
      return nil, "expires of a cookie is a number of seconds since the epoch"
    end
    line[#line + 1] = os.date("!Expires=%a, %d %b %Y %H:%M:%S GMT", opts.expires)
  end
  local same_site = opts.same_site == nil and "lax" or opts.same_site
  if same_site then
    same_site = SAME_SITE[tostring(same_site):lower()]
    if not same_site then
      return nil, "same_site of a cookie is \"Lax\", \"Strict\" or \"None\""
    end
    line[#line + 1] = "SameSite=" .. same_site
  end
  if (same_site == "None" or name:find("^__Secure%-") or name:find("^__Host%-"))
    and not opts.secure then
    return nil, "SameSite=None and the prefixes __Secure- and __Host- need secure = true"
  end
  if name:find("^__Host%-") and (opts.domain or path ~= "/") then
    return nil, "a cookie named __Host- has the path \"/\" and no domain"
  end
  if opts.secure then
    line[#line + 1] = "Secure"
  end
  if opts.http_only ~= false then
    line[#line + 1] = "HttpOnly"
  end
  return table.concat(line, "; ")
end

return M
