--- Patterns of routes, as text: joins, parts, parameters, and which routes a
--- prefix of middleware covers.
---
--- The C router compiles and matches patterns; nothing here runs per request
--- but `under`, for the rare routes where only the path can tell. Types of
--- parameters in a prefix are not looked at: middleware that guards a prefix
--- must rather run once too often.

---@class perilune.pattern
local M = {}

local TYPES = { int = true, uuid = true, slug = true }

---@class perilune.pattern.Part
---@field text string? of a static segment
---@field name string? of a parameter
---@field type string? "int", "uuid", "slug"
---@field rest boolean? takes the rest of the path

---@param segment string
---@return perilune.pattern.Part? part
---@return string? err
local function part_of(segment)
  local first = segment:sub(1, 1)
  if first == "*" then
    local name = segment:match("^%*([%a_][%w_]*)$")
    if not name and segment ~= "*" then
      return nil, ("the wildcard %q is none: write *path"):format(segment)
    end
    return { name = name, rest = true }
  end
  if first ~= ":" then
    if segment:find("[<>%*%c ?#]") then
      return nil, ("the segment %q holds a character that needs %%-encoding in a path")
        :format(segment)
    end
    return { text = segment }
  end
  local name, type_name = segment:match("^:([%a_][%w_]*)<(%l+)>$")
  name = name or segment:match("^:([%a_][%w_]*)$")
  if not name then
    return nil, ("the parameter %q is none: write :name or :name<int>"):format(segment)
  end
  if type_name and not TYPES[type_name] then
    return nil, ("there is no parameter type <%s>: int, uuid and slug there are")
      :format(type_name)
  end
  return { name = name, type = type_name }
end

--- The parts of a pattern.
---@param pattern string begins with "/"
---@return perilune.pattern.Part[]? parts
---@return string? err
function M.parts(pattern)
  if type(pattern) ~= "string" or pattern:sub(1, 1) ~= "/" then
    return nil, "a pattern is a string that begins with \"/\""
  end
  local parts, seen = {}, {}
  for segment in pattern:gmatch("/([^/]*)") do
    local part, err = part_of(segment)
    if not part then
      return nil, err
    end
    local last = parts[#parts]
    if last and last.rest then
      return nil, "a wildcard takes the rest: nothing can follow it"
    end
    if part.name then
      if seen[part.name] then
        return nil, ("the parameter %q is there twice"):format(part.name)
      end
      seen[part.name] = true
    end
    parts[#parts + 1] = part
  end
  return parts
end

--- Puts a prefix before a pattern. "/" of a group is its prefix itself.
---@param prefix string "" or "/x", no trailing slash
---@param pattern string
function M.join(prefix, pattern)
  if prefix ~= "" and pattern == "/" then
    return prefix
  end
  return prefix .. pattern
end

--- Whether all paths of `parts` lie under the prefix (or are it).
---@param prefix perilune.pattern.Part[]
---@param parts perilune.pattern.Part[]
---@return boolean? covered nil: some do and some don't, the path decides
function M.covers(prefix, parts)
  local sure = true
  for i = 1, #prefix do
    local p, part = prefix[i], parts[i]
    if not part then
      return false
    elseif part.rest then
      return nil
    elseif p.text then
      if not part.text then
        sure = nil -- a parameter that may have just this value
      elseif p.text ~= part.text then
        return false
      end
    elseif part.text == "" then
      return false -- a parameter is never empty
    end
  end
  return sure
end

--- Whether a decoded path lies under the prefix (or is it).
---@param prefix perilune.pattern.Part[]
---@param path string
function M.under(prefix, path)
  local at = 1
  for i = 1, #prefix do
    local first, last, segment = path:find("^/([^/]*)", at)
    if not first then
      return false
    end
    local p = prefix[i]
    if p.text and p.text ~= segment then
      return false
    elseif not p.text and segment == "" then
      return false
    end
    at = last + 1
  end
  return true
end

return M
