---@meta perilune.json
--- JSON (RFC 8259): `P.json`.
-- luacheck: no unused

---@class perilune.json
---@field null lightuserdata JSON's null, in both directions; truthy
local json = {}

--- Encodes a string, number, boolean, null, 64 bit integer, or a table of these.
--- A table is an array if t[1] is there, or `array` or `decode` made it one; else
--- an object, also when it is empty. Raises for what has no JSON form, naming the
--- way to it: functions, NaN, invalid UTF-8, gaps, more than 128 tables in each other.
---@param value any
---@return string text
function json.encode(value) end

--- Decodes one text. A decoded array stays one, also an empty one.
---@param text string
---@return any value nil when it is malformed
---@return string? err where and why: "byte 7: ..."
function json.decode(text) end

--- Makes `t` an array, also when it is empty.
---@generic T: table
---@param t T
---@return T t the same table
function json.array(t) end

return json
