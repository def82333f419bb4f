--- Finds metrics in the text that `/metrics` answers with.

local find, match, sub = string.find, string.match, string.sub

---@class perilune.series
local M = {}

local ESCAPES = { n = "\n", ["\\"] = "\\", ['"'] = '"' }

--- Reads `name="value",name="value"`, as the text format writes it: `\n`, `\\` and `\"` are
--- escapes.
---@param text string
---@return table<string, string>? labels nil when it is something else
function M.labels(text)
  local labels, at = {}, find(text, "%S") or #text + 1
  while at <= #text do
    local name, from = match(text, "^([%a_][%w_]*)%s*=%s*\"()", at)
    local to = from
    while to and sub(text, to, to) ~= '"' do
      to = to < #text and to + (sub(text, to, to) == "\\" and 2 or 1) or nil
    end
    local after = to and match(text, "^%s*()", to + 1)
    local comma = after and match(text, "^,%s*()", after)
    if not after or not comma and after <= #text then
      return nil
    end
    labels[name] = sub(text, from, to - 1):gsub("\\(.)", ESCAPES)
    at = comma or after
  end
  return labels
end

--- Whether those labels are among the ones of a series, each with exactly that value.
local function has(braces, wanted)
  local labels = M.labels(sub(braces, 2, -2))
  for name, value in pairs(wanted) do
    if not labels or labels[name] ~= value then
      return false
    end
  end
  return true
end

--- The end of the braces that begin at `at`; one in a quoted value is none.
local function braces_end(line, at)
  local quoted = false
  while at <= #line do
    local c = sub(line, at, at)
    if c == "\\" then
      at = at + 1
    elseif c == '"' then
      quoted = not quoted
    elseif c == "}" and not quoted then
      return at
    end
    at = at + 1
  end
end

--- The sum of all series of a metric that have these labels.
---@param text string
---@param name string of the metric
---@param wanted? table<string, string> label -> value; a series may have others beside them
---@return number? total nil: there is no such series
function M.sum(text, name, wanted)
  local total
  for line in ("\n" .. text):gmatch("\n(" .. name:gsub("%p", "%%%0") .. "[{ ][^\n]*)") do
    local from = #name + 1
    local to = sub(line, from, from) == "{" and braces_end(line, from) or nil
    local value = tonumber(match(line, "^ (%S+)", (to or from - 1) + 1))
    if value and (not wanted or has(to and sub(line, from, to) or "{}", wanted)) then
      total = (total or 0) + value
    end
  end
  return total
end

return M
