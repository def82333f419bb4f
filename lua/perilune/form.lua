--- Reads and writes `application/x-www-form-urlencoded` text: bodies of forms
--- and query strings (WHATWG URL, section 5).
---
--- Pure: strings and tables only. How long a body may be is `limits.body`'s
--- business, so only the number of fields is bounded here.

local byte, char, find, format, gsub, sub =
  string.byte, string.char, string.find, string.format, string.gsub, string.sub
local concat, sort = table.concat, table.sort
local error, pairs, tonumber, tostring, type = error, pairs, tonumber, tostring, type

---@class perilune.form
local M = {}

---@alias perilune.form.Code "too_many_fields"|"bad_escape"

---@class perilune.form.Opts
---@field fields_max? integer how many fields there may be; default 256

local FIELDS_MAX = 256 -- PL_LIMIT_QUERY_FIELDS

local function from_hex(digits)
  return char(tonumber(digits, 16))
end

--- Decodes what lies between two separators.
---@param s string
---@return string? text nil when two hex digits do not follow on a `%`
local function decode(s)
  if find(s, "+", 1, true) then
    s = gsub(s, "+", " ")
  end
  if not find(s, "%", 1, true) then
    return s
  end
  local text, escapes = gsub(s, "%%(%x%x)", from_hex)
  local _, percents = gsub(s, "%%", "")
  return escapes == percents and text or nil
end

--- Parses `text` by the rules of WHATWG URL 5.1, with one difference: a broken
--- `%` escape is an error, where the standard takes it as it is. When a name
--- comes more than once its first value counts, as with `c:query`.
---@param text string raw bytes, no `?` in front
---@param opts? perilune.form.Opts
---@return table<string, string>? fields name to value, decoded; whether they are
---  UTF-8 is not checked. A new table; nil on failure
---@return string? err what is wrong, for people
---@return perilune.form.Code? code the same for programs
function M.parse(text, opts)
  local fields_max = opts and opts.fields_max or FIELDS_MAX
  local fields, count, from = {}, 0, 1

  while from <= #text do
    local to = (find(text, "&", from, true) or #text + 1) - 1
    if to >= from then -- nothing between two `&` is no field
      count = count + 1
      if count > fields_max then
        return nil, format("more than %d form fields", fields_max), "too_many_fields"
      end
      local field = sub(text, from, to)
      local equals = find(field, "=", 1, true) or #field + 1
      local name, value = decode(sub(field, 1, equals - 1)), decode(sub(field, equals + 1))
      if not name or not value then
        return nil, format("broken %%-escape in form field %d", count), "bad_escape"
      end
      if fields[name] == nil then
        fields[name] = value
      end
    end
    from = to + 2
  end
  return fields
end

local function to_hex(c)
  return c == " " and "+" or format("%%%02X", byte(c))
end

---@param value any
---@return string
local function encode(value, name)
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(format("form field %q cannot be a %s", tostring(name), kind), 3)
  end
  return (gsub(tostring(value), "[^%w*%-._]", to_hex))
end

--- Writes fields as a form (WHATWG URL 5.2), sorted by name.
---@param fields table<string, string|number|boolean|(string|number|boolean)[]> an array
---  makes one field of each of its elements. Raises for other values
---@return string text
function M.encode(fields)
  local names, out = {}, {}
  for name in pairs(fields) do
    if type(name) ~= "string" then
      error("names of form fields are strings, not a " .. type(name), 2)
    end
    names[#names + 1] = name
  end
  sort(names)

  for i = 1, #names do
    local name, value = names[i], fields[names[i]]
    if type(value) == "table" then
      for j = 1, #value do
        out[#out + 1] = encode(name, name) .. "=" .. encode(value[j], name)
      end
    else
      out[#out + 1] = encode(name, name) .. "=" .. encode(value, name)
    end
  end
  return concat(out, "&")
end

return M
