--- Durations and sizes as people write them: 2, "2s", "250ms", "1m", "10M".

---@class perilune.units
local M = {}

local SECONDS = { [""] = 1, ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }
local BYTES = { [""] = 1, B = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30 }

local function parse(value, units, pattern)
  if type(value) == "number" then
    return value >= 0 and value < math.huge and value or nil
  end
  if type(value) ~= "string" then
    return nil
  end
  local digits, unit = value:match(pattern)
  local number, factor = tonumber(digits), units[unit]
  return number and factor and number * factor or nil
end

---@param value any number of seconds, or a text such as "250ms", "5s", "1m", "2h"
---@return number? seconds zero or more; nil when it is none
function M.seconds(value)
  return parse(value, SECONDS, "^(%d+%.?%d*)(%a*)$")
end

---@param value any number of bytes, or a text such as "64K", "10M"
---@return integer? bytes zero or more, whole; nil when it is none
function M.bytes(value)
  local bytes = parse(value, BYTES, "^(%d+%.?%d*)(%a?)$")
  return bytes and math.floor(bytes) or nil
end

return M
