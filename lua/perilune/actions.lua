--- Rules that do something when a figure of the server is out of bounds for a time.
---
---   quiet      the figure is within bounds, or was not for less than a moment
---   over       it is out of bounds, but not for as long as `for_` says
---   cooling    it has been done; not again before `cooldown` is over
---   held       it should be done, and cannot: the reason says why
---   unknown    there is no such figure now
---
--- What is here knows no server: figures are read, and actions are done, by those who run an
--- engine (admin/actions.lua). Time is what they say it is, in seconds.

local units = require("perilune.units")

---@class perilune.actions
local M = {}

---@class perilune.actions.Condition
---@field text string as it was written
---@field name string of the figure
---@field labels table<string, string>? that a metric has
---@field is_rate boolean of a counter, per second
---@field op ">"|">="|"<"|"<="
---@field limit number

---@class perilune.actions.Rule
---@field name string
---@field when perilune.actions.Condition|fun(s: table): any, any
---@field for_ number seconds
---@field cooldown number seconds
---@field actions (string|function)[]
---@field opts table what the actions were given: seconds, level, share, workers_max, route
---@field where string file:line, or "perilune"

--- What can be done by name. Costly: not two of them within COSTLY_S, whoever asks.
M.NAMES = {
  add_worker = {}, collect = {}, cpu_profile = { costly = true }, heap_profile = { costly = true },
  log_level = {}, record = { costly = true }, trace_boost = {},
}
M.COSTLY_S = 60

local LEVELS = { debug = true, info = true, warn = true, error = true }
local FIRINGS_MAX = 50 -- that are remembered
local RULES_MAX = 100
local REASON_BYTES = 300

-- Conditions -----------------------------------------------------------------------------

--- A limit as people write it: 3, "150ms", "10M", "5%".
local function limit_of(text)
  local share = text:match("^(%d+%.?%d*)%%$")
  if share then
    return tonumber(share) / 100
  end
  text = text:gsub("/s$", "")
  return tonumber(text) or units.seconds(text) or units.bytes(text)
end

local function labels_of(text)
  local labels = {}
  local rest = text:gsub("%s*([%a_][%w_]*)%s*=%s*\"([^\"]*)\"%s*,?", function(name, value)
    labels[name] = value
    return ""
  end)
  return rest == "" and labels or nil
end

--- Reads `p99 > 150ms`, `rate(notes_saved_total{kind="x"}) >= 10`.
---@param text string
---@return perilune.actions.Condition? condition
---@return string? err
function M.condition(text)
  local left, op, right = text:match("^%s*(.-)%s*([<>]=?)%s*(%S+)%s*$")
  local limit = right and limit_of(right)
  if not limit then
    return nil, ("%q is no condition: write \"p99 > 150ms\""):format(text)
  end
  local inner = left:match("^rate%((.*)%)$")
  local name, braces = (inner or left):match("^([%a_:][%w_:]*)(.*)$")
  local labels
  if name and braces ~= "" then
    labels = labels_of(braces:match("^{(.*)}$") or "?")
    name = labels and name
  end
  if not name then
    return nil, ("%q is no figure: it has a name, and labels in {}"):format(left)
  end
  return {
    text = text, name = name, labels = labels, is_rate = inner ~= nil, op = op, limit = limit,
  }
end

local COMPARE = {
  [">"] = function(a, b) return a > b end,
  [">="] = function(a, b) return a >= b end,
  ["<"] = function(a, b) return a < b end,
  ["<="] = function(a, b) return a <= b end,
}

-- Rules ----------------------------------------------------------------------------------

local OPTIONS = {
  when = true, for_ = true, cooldown = true, seconds = true, level = true, share = true,
  workers_max = true, route = true,
}
local FOR_S, COOLDOWN_S = 10, 300

local function seconds_of(opts, key, fallback)
  if opts[key] == nil then
    return fallback
  end
  local seconds = units.seconds(opts[key])
  if not seconds then
    return nil, ("%s is a number of seconds or a text such as \"10s\""):format(key)
  end
  return seconds
end

local function when_of(when)
  if type(when) == "function" then
    return when
  elseif type(when) == "string" then
    return M.condition(when)
  end
  return nil, "when is a condition such as \"p99 > 150ms\", or a function"
end

local function names_text()
  local names = {}
  for name in pairs(M.NAMES) do
    names[#names + 1] = name
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function actions_of(action)
  local list = type(action) == "table" and action or { action }
  for _, one in ipairs(list) do
    if type(one) ~= "function" and not M.NAMES[one] then
      return nil, ("there is no action %q: a function, or one of %s"):format(tostring(one),
        names_text())
    end
  end
  if #list == 0 then
    return nil, "what is to be done? an action, a function, or a list of them"
  end
  return list
end

local function needs(list, name)
  for _, one in ipairs(list) do
    if one == name then
      return true
    end
  end
  return false
end

local function options_fault(opts, list)
  for key in pairs(opts) do
    if not OPTIONS[key] then
      return ("an action has no option %q: when, for_, cooldown, seconds, level, share, route and "
        .. "workers_max there are"):format(tostring(key))
    end
  end
  if needs(list, "log_level") and not LEVELS[opts.level] then
    return "the action log_level needs a level: debug, info, warn or error"
  end
  local most, share = opts.workers_max, opts.share
  if most ~= nil and (type(most) ~= "number" or most < 1 or most % 1 ~= 0) then
    return "workers_max is a whole number, 1 or more"
  end
  if share ~= nil and (type(share) ~= "number" or share < 0 or share > 1) then
    return "share is a number from 0 to 1"
  end
end

--- Makes a rule of what an app registers.
---@param name string letters, digits, "-", "_" and "."
---@param opts table when, for_, cooldown, and what the actions need
---@param action string|function|table
---@param where string
---@return perilune.actions.Rule? rule
---@return string? err
function M.rule(name, opts, action, where)
  if type(name) ~= "string" or not name:find("^[%w_.-]+$") or #name > 64 then
    return nil, "the name of an action has up to 64 letters, digits, \"-\", \"_\" and \".\""
  end
  if type(opts) ~= "table" then
    return nil, "app:action takes a name, options and what is to be done"
  end
  local list, err = actions_of(action)
  local fault = list and options_fault(opts, list)
  if not list or fault then
    return nil, err or fault
  end
  local when, wrong = when_of(opts.when)
  local for_, wrong_for = seconds_of(opts, "for_", FOR_S)
  local cooldown, wrong_cooldown = seconds_of(opts, "cooldown", COOLDOWN_S)
  local _, wrong_seconds = seconds_of(opts, "seconds", 0)
  wrong = wrong or wrong_for or wrong_cooldown or wrong_seconds
  if wrong then
    return nil, wrong
  end
  return {
    name = name, when = when, for_ = for_, cooldown = cooldown, actions = list, where = where,
    opts = {
      seconds = opts.seconds and units.seconds(opts.seconds), level = opts.level,
      share = opts.share, workers_max = opts.workers_max, route = opts.route,
    },
  }
end

-- Engines --------------------------------------------------------------------------------

---@class perilune.actions.Means what an engine gets from those who run it
---@field read fun(c: perilune.actions.Condition, s: table, r: perilune.actions.Rule): number?
---@field act fun(action: string|function, event: table): boolean|string|nil, string? true or a
---   text when it is done, nil and why not
---@field told fun(event: table) it was done
---@field held fun(rule: perilune.actions.Rule, reason: string) it should be, and cannot

---@class perilune.actions.Engine
---@field rules table[]
local Engine = {}
Engine.__index = Engine

---@param means perilune.actions.Means
---@return perilune.actions.Engine
function M.engine(means)
  return setmetatable({ rules = {}, by_name = {}, firings = {}, means = means }, Engine)
end

--- Adds a rule; an app may have one of the name of a default, in its place.
---@param rule perilune.actions.Rule
---@return boolean? added
---@return string? err
function Engine:add(rule)
  local before = self.by_name[rule.name]
  if before and before.rule.where ~= "perilune" then
    return nil, ("there is an action %q already"):format(rule.name)
  elseif #self.rules >= RULES_MAX then
    return nil, ("there are %d actions already"):format(RULES_MAX)
  end
  local entry = before or {}
  entry.rule, entry.state, entry.fired = rule, "quiet", 0
  if not before then
    self.rules[#self.rules + 1], self.by_name[rule.name] = entry, entry
  end
  return true
end

local function cut(reason)
  local text = tostring(reason)
  return #text > REASON_BYTES and text:sub(1, REASON_BYTES) .. "..." or text
end

--- Whether the rule's condition is met, with the figure; nil and why: it cannot be told.
local function judge(self, rule, s)
  local when = rule.when
  if type(when) == "function" then
    local ok, is_met, value = pcall(when, s)
    if not ok then
      return nil, cut(is_met)
    end
    return is_met and true or false, value
  end
  local value = self.means.read(when, s, rule)
  if not value then
    return nil, ("there is no figure %s"):format(when.name)
  end
  return COMPARE[when.op](value, when.limit), value
end

local function name_of(action)
  return type(action) == "function" and "function" or action
end

local function remember(self, event)
  table.insert(self.firings, 1, event)
  self.firings[FIRINGS_MAX + 1] = nil
end

--- How long it is that something costly was done; nil: long enough.
local function since_costly(self, now)
  local since = self.costly_at and now - self.costly_at
  return since and since < M.COSTLY_S and since or nil
end

--- One of a rule's actions. True when it was done.
local function act(self, entry, action, s, now, since)
  local costly = type(action) == "string" and M.NAMES[action].costly
  if costly and since then
    return false, ("another costly action was done %.0f s ago"):format(since)
  end
  local event = {
    rule = entry.rule.name, action = name_of(action), value = tonumber(entry.value),
    opts = entry.rule.opts, snapshot = s,
    condition = type(entry.rule.when) == "table" and entry.rule.when.text or nil,
  }
  local ok, done, result = pcall(self.means.act, action, event)
  if not ok or not done then
    return false, cut(not ok and done or result or "it says no reason")
  end
  if costly then
    self.costly_at = now
  end
  event.result = done ~= true and tostring(done) or nil
  event.snapshot, event.opts = nil, nil
  remember(self, event)
  self.means.told(event)
  return true
end

local function fire(self, entry, s, now)
  local any, reason, since = false, nil, since_costly(self, now)
  for _, action in ipairs(entry.rule.actions) do
    local done, why = act(self, entry, action, s, now, since)
    any, reason = any or done, reason or why
  end
  if any then
    entry.state, entry.fired, entry.fired_at = "cooling", entry.fired + 1, now
    entry.cool_until = now + entry.rule.cooldown
  else
    entry.state = "held"
  end
  if reason and reason:gsub("%d", "") ~= (entry.reason or ""):gsub("%d", "") then
    self.means.held(entry.rule, reason)
  end
  entry.reason = reason
end

local function look(self, entry, s, now)
  local is_met, value = judge(self, entry.rule, s)
  if is_met == nil then
    entry.state, entry.reason, entry.value, entry.over_since = "unknown", value, nil, nil
    return
  end
  entry.value = value
  if not is_met then
    entry.state, entry.reason, entry.over_since = "quiet", nil, nil
    return
  end
  entry.over_since = entry.over_since or now
  if now - entry.over_since < entry.rule.for_ then
    entry.state = "over"
  elseif entry.cool_until and now < entry.cool_until then
    entry.state = "cooling"
  else
    fire(self, entry, s, now)
  end
end

--- Judges all rules by one snapshot, and does what is due.
---@param s table whatever means.read understands; the same for all rules
---@param now number
function Engine:look(s, now)
  for _, entry in ipairs(self.rules) do
    look(self, entry, s, now)
  end
end

local function describe(entry, now)
  local rule, names = entry.rule, {}
  for i, action in ipairs(rule.actions) do
    names[i] = name_of(action)
  end
  return {
    name = rule.name, when = type(rule.when) == "table" and rule.when.text or "function",
    for_s = rule.for_, cooldown_s = rule.cooldown, actions = names, where = rule.where,
    state = entry.state, value = tonumber(entry.value), reason = entry.reason, fired = entry.fired,
    fired_s_ago = entry.fired_at and now - entry.fired_at or nil,
    over_s = entry.over_since and now - entry.over_since or nil,
  }
end

--- How the rules are, for those who look.
---@param now number
---@return table report { rules, firings }
function Engine:report(now)
  local rules = {}
  for i, entry in ipairs(self.rules) do
    rules[i] = describe(entry, now)
  end
  return { rules = rules, firings = self.firings }
end

--- What is to outlive this engine: since when figures are out of bounds, and what cools.
---@return table
function Engine:save()
  local kept = { firings = self.firings, costly_at = self.costly_at, rules = {} }
  for _, entry in ipairs(self.rules) do
    kept.rules[#kept.rules + 1] = {
      name = entry.rule.name, over_since = entry.over_since, cool_until = entry.cool_until,
      fired = entry.fired, fired_at = entry.fired_at,
    }
  end
  return kept
end

--- Takes that over, for rules of the same names.
---@param kept table
function Engine:adopt(kept)
  self.firings, self.costly_at = kept.firings or {}, kept.costly_at
  for _, one in ipairs(kept.rules or {}) do
    local entry = self.by_name[one.name]
    if entry then
      entry.over_since, entry.cool_until = one.over_since, one.cool_until
      entry.fired, entry.fired_at = one.fired or 0, one.fired_at
    end
  end
end

return M
