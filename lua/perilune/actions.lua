--- Rules that do something when a figure of the server is out of bounds for a time.
---
---   quiet      the figure is within bounds, or was not for less than a moment
---   over       it is out of bounds, but not for as long as `for_` says
---   acting     it is being done
---   cooling    it was done, or has failed; not again before `cooldown` is over, which begins with
---              the doing
---   held       it should be done, and cannot: the reason says why
---   unknown    there is no such figure now, or its function failed or took too long
---
--- Each action of a rule has one outcome each time: done; failed, when it was begun; or held, when
--- it was not. Every one is told, but one that is held again for the same reason, with nothing done
--- in between, is not told twice.
---
--- What is here knows no server: figures are read, and actions are done, by those who run an
--- engine (admin/actions.lua). Time is what they say it is, in seconds.

local json = require("perilune.json")
local series = require("perilune.series")
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

local DAY_S = 86400

--- What can be done by name. Costly: not two of them within COSTLY_S, whoever asks. Options that an
--- action takes, beside those of all rules, with what they may be: `seconds` from 1 to so many.
M.NAMES = {
  add_worker = { takes = { workers_max = true } },
  collect = { takes = {} },
  cpu_profile = { costly = true, takes = { seconds = 900 } }, -- so far back samples reach
  heap_profile = { costly = true, takes = {} },
  log_level = { takes = { level = true, seconds = DAY_S } },
  record = { costly = true, takes = {} },
  trace_boost = { takes = { share = true, seconds = DAY_S } },
}
M.COSTLY_S = 60
M.LATE_S = 30 -- a function that took too long is not run again before

local LEVELS = { debug = true, info = true, warn = true, error = true }
local WORKERS_MAX = 256 -- PL_LIMIT_WORKER_COUNT
local FOR_S_MAX, COOLDOWN_S_MAX = DAY_S, 7 * DAY_S
local FIRINGS_MAX = 50 -- that are remembered
local RULES_MAX = 100
local REASON_BYTES = 300
local NO_VALUE = "it has no value yet"

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

--- Reads `p99 > 150ms`, `rate(notes_saved_total{kind="x"}) >= 10`.
---@param text string
---@return perilune.actions.Condition? condition
---@return string? err
function M.condition(text)
  local left, op, right = text:match("^%s*(.*[^%s<>])%s*([<>]=?)%s*([^%s<>=]+)%s*$")
  local limit = right and limit_of(right)
  if not limit then
    return nil, ("%q is no condition: write \"p99 > 150ms\""):format(text)
  end
  local inner = left:match("^rate%((.*)%)$")
  local name, braces = (inner or left):match("^([%a_:][%w_:]*)(.*)$")
  local labels
  if name and braces ~= "" then
    labels = series.labels(braces:match("^{(.*)}$") or "?")
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

local FOR_S, COOLDOWN_S = 10, 300

--- Options of all rules; what else there is, actions take.
local COMMON = { when = true, for_ = true, cooldown = true, route = true }

--- Figures that a route has, too.
local OF_ROUTES = { p50 = true, p99 = true, requests = true, errors = true, error_share = true }

local function shown(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function fault_of(key, value, expected)
  return ("%s is %s; expected is %s"):format(key, shown(value), expected)
end

--- A time; nil and what is wrong with it.
local function seconds_of(opts, key, least, most, expected, fallback)
  if opts[key] == nil then
    return fallback
  end
  local seconds = units.seconds(opts[key])
  if not seconds or seconds < least or seconds > most then
    return nil, fault_of(key, opts[key], expected)
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

local function sorted(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function actions_of(action)
  local list = type(action) == "table" and action or { action }
  for _, one in ipairs(list) do
    if type(one) ~= "function" and not M.NAMES[one] then
      return nil, ("there is no action %s: a function, or one of %s"):format(shown(one),
        table.concat(sorted(M.NAMES), ", "))
    end
  end
  if #list == 0 then
    return nil, "what is to be done? an action, a function, or a list of them"
  end
  return list
end

--- Actions of the list that take an option.
local function takers(list, key)
  local names = {}
  for _, one in ipairs(list) do
    if type(one) == "string" and M.NAMES[one].takes[key] then
      names[#names + 1] = one
    end
  end
  return names
end

--- What is wrong with an option that nothing here takes.
local function stray_fault(key)
  local who = {}
  for _, name in ipairs(sorted(M.NAMES)) do
    if M.NAMES[name].takes[key] then
      who[#who + 1] = name
    end
  end
  if #who > 0 then
    return ("the option %s is for %s, which it does not do"):format(key, table.concat(who, " and "))
  end
  return ("there is no option %s: when, for_, cooldown, route, seconds, level, share and "
    .. "workers_max there are"):format(shown(key))
end

local CHECKS = {}

function CHECKS.seconds(value, names)
  local fault
  for _, name in ipairs(names) do
    local most = M.NAMES[name].takes.seconds
    local _, wrong = seconds_of({ seconds = value }, "seconds", 1, most,
      ("1s to %s, for %s"):format(most == DAY_S and "24h" or most .. "s", name))
    fault = fault or wrong
  end
  return fault
end

function CHECKS.level(value)
  return not LEVELS[value] and fault_of("level", value, "debug, info, warn or error")
end

function CHECKS.share(value)
  local good = type(value) == "number" and value > 0 and value <= 1
  return not good and fault_of("share", value, "a number above 0, up to 1")
end

function CHECKS.workers_max(value)
  local good = type(value) == "number" and value >= 1 and value <= WORKERS_MAX and value % 1 == 0
  return not good and fault_of("workers_max", value,
    ("a whole number from 1 to %d"):format(WORKERS_MAX))
end

local function route_fault(route, when)
  if route == nil then
    return nil
  elseif type(route) ~= "string" or not route:find("^%u* ?/") then
    return fault_of("route", route, "a route such as \"GET /notes\" or \"/notes\"")
  elseif type(when) ~= "table" or not OF_ROUTES[when.name] then
    return ("the option route is for conditions of %s"):format(
      table.concat(sorted(OF_ROUTES), ", "))
  end
end

local function options_fault(opts, list)
  for _, key in ipairs(sorted(opts)) do
    local names = not COMMON[key] and takers(list, key)
    if names then
      local fault = #names == 0 and stray_fault(key) or CHECKS[key](opts[key], names)
      if fault then
        return fault
      end
    end
  end
  if #takers(list, "level") > 0 and opts.level == nil then
    return "the action log_level needs a level: debug, info, warn or error"
  end
end

--- The rule; nil and what is wrong with it.
local function rule_of(name, opts, action, where)
  local list, err = actions_of(action)
  local fault = list and options_fault(opts, list)
  if not list or fault then
    return nil, err or fault
  end
  local when, wrong = when_of(opts.when)
  local for_, wrong_for = seconds_of(opts, "for_", 0, FOR_S_MAX, "0s to 24h", FOR_S)
  local cooldown, wrong_cooldown = seconds_of(opts, "cooldown", 0, COOLDOWN_S_MAX, "0s to 7d",
    COOLDOWN_S)
  wrong = wrong or wrong_for or wrong_cooldown or route_fault(opts.route, when)
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

--- Makes a rule of what an app registers.
---@param name string letters, digits, "-", "_" and "."
---@param opts table when, for_, cooldown, and what the actions need
---@param action string|function|table
---@param where string
---@return perilune.actions.Rule? rule
---@return string? err with the name
function M.rule(name, opts, action, where)
  if type(name) ~= "string" or not name:find("^[%w_.-]+$") or #name > 64 then
    return nil, ("the name of an action is %s; expected are up to 64 letters, digits, \"-\", \"_\" "
      .. "and \".\""):format(shown(name))
  end
  if type(opts) ~= "table" then
    return nil, "app:action takes a name, options and what is to be done"
  end
  for key in pairs(opts) do
    if type(key) ~= "string" then
      return nil, ("action %q: options have names, and one is %s"):format(name, shown(key))
    end
  end
  local rule, err = rule_of(name, opts, action, where)
  if not rule then
    return nil, ("action %q: %s"):format(name, err)
  end
  return rule
end

-- Engines --------------------------------------------------------------------------------

---@class perilune.actions.Means what an engine gets from those who run it
---@field read fun(c: table, s: table, r: perilune.actions.Rule): number?, boolean?
---   the figure; nil, and whether there is one that has no value yet
---@field act fun(action: string|function, event: table, settle: perilune.actions.Settle) does it;
---   settle is called once it is over, at once or later. What it raises is a failure
---@field told fun(event: table) an action has come to an end: event.outcome, and event.result or
---   event.reason
---@field try? fun(when: function, s: table, r: perilune.actions.Rule): perilune.actions.Trial
---   begins to run a rule's function; nil: it is called, and the other rules wait for it
---@field unjudged? fun(r: perilune.actions.Rule, reason: string, is_new: boolean) a function did
---   not say whether its rule is met; is_new: for another reason than the time before

---@alias perilune.actions.Settle fun(outcome: "done"|"failed"|"held", text: any)
---   text: what came of it, or why not; only the first call counts

---@alias perilune.actions.Trial fun(): boolean?, any, any
---   nil: it is still being run; true and what it has returned; or false, why, and whether it was
---   for the time that it took

---@class perilune.actions.Engine
---@field rules table[]
local Engine = {}
Engine.__index = Engine

---@param means perilune.actions.Means
---@return perilune.actions.Engine
function M.engine(means)
  return setmetatable({
    rules = {}, by_name = {}, firings = {}, means = means, costly_count = 0,
  }, Engine)
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
  entry.rule, entry.state, entry.fired, entry.told, entry.unjudged = rule, "quiet", 0, {}, 0
  if not before then
    self.rules[#self.rules + 1], self.by_name[rule.name] = entry, entry
  end
  return true
end

--- A text that is not long, and that JSON can have.
local function cut(reason)
  local text = tostring(reason)
  if #text > REASON_BYTES then
    text = text:sub(1, REASON_BYTES):gsub("[\192-\255][\128-\191]*$", "") .. "..."
  end
  return pcall(json.encode, text) and text or (text:gsub("[\128-\255]", "?"))
end

--- A figure that JSON can have; nil: it is none.
local function number(value)
  local n = tonumber(value)
  return n and n - n == 0 and n or nil
end

--- Whether the rule's condition is met, with the figure, and what else there is to say; nil and
--- why: it cannot be told.
local function judge(self, rule, s)
  local when = rule.when
  local value, is_known = self.means.read(when, s, rule)
  if not value and is_known then
    return false, nil, NO_VALUE
  elseif not value then
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

--- Why nothing costly can be done now; nil: it can.
local function costly_reason(self, now)
  local since = self.costly_at and now - self.costly_at
  if self.costly_count > 0 then
    return "another costly action is being done"
  end
  return since and since < M.COSTLY_S
    and ("another costly action was done %.0f s ago"):format(since) or nil
end

local function end_round(entry, round)
  entry.round, entry.reason = nil, round.reason
  if round.any then
    entry.fired, entry.fired_at, entry.told = entry.fired + 1, round.at, {}
  else
    entry.cool_until = nil
  end
  if entry.state == "acting" then
    entry.state = round.any and "cooling" or "held"
  end
end

--- Tells what has come of an action, unless it is what was told of it before.
---@param slot integer|string whose reason it is
local function tell(self, entry, slot, event)
  local kind = event.outcome == "held" and event.reason:gsub("%d", "")
  if kind and entry.told[slot] == kind then
    return
  end
  entry.told[slot] = kind or nil
  event.snapshot, event.opts = nil, nil
  remember(self, event)
  self.means.told(event)
end

local function event_of(entry, action, s)
  return {
    rule = entry.rule.name, action = name_of(action), value = number(entry.value),
    opts = entry.rule.opts, snapshot = s,
    condition = type(entry.rule.when) == "table" and entry.rule.when.text or nil,
  }
end

--- One of a rule's actions, number `slot`.
local function act(self, entry, round, slot, s)
  local action = entry.rule.actions[slot]
  local costly = type(action) == "string" and M.NAMES[action].costly
  local event, over = event_of(entry, action, s), false
  local function settle(outcome, text)
    if over then
      return
    end
    over, round.left = true, round.left - 1
    event.outcome = outcome
    if costly and not round.busy then
      self.costly_count = self.costly_count - 1
      self.costly_at = outcome ~= "held" and round.at or self.costly_at
    end
    if outcome == "done" then
      event.result = text ~= nil and cut(text) or nil
    else
      event.reason = cut(text or "it says no reason")
      round.reason = round.reason or event.reason
    end
    round.any = round.any or outcome ~= "held"
    tell(self, entry, slot, event)
    if round.left == 0 then
      end_round(entry, round)
    end
  end
  if costly and round.busy then
    return settle("held", round.busy)
  end
  if costly then
    self.costly_count, self.costly_begun = self.costly_count + 1, round.at
  end
  local ok, err = pcall(self.means.act, action, event, settle)
  if not ok then
    settle("failed", err)
  end
end

--- Does all that the rule wants; what it did last may still be going on.
local function fire(self, entry, s, now)
  local before = entry.round
  if before then
    entry.state = "held"
    entry.reason = ("what it did %.0f s ago still goes on"):format(now - before.at)
    local event = event_of(entry, entry.rule.actions[1], s)
    event.outcome, event.reason = "held", entry.reason
    return tell(self, entry, "round", event)
  end
  local round = {
    at = now, left = #entry.rule.actions, any = false, busy = costly_reason(self, now),
  }
  entry.round, entry.state, entry.reason = round, "acting", nil
  entry.cool_until = now + entry.rule.cooldown
  for slot = 1, #entry.rule.actions do
    act(self, entry, round, slot, s)
  end
end

local function conclude(self, entry, s, now, is_met, value, remark)
  if is_met == nil then
    entry.state, entry.reason, entry.value, entry.over_since = "unknown", value, nil, nil
    entry.told = {}
    return
  end
  entry.value = value
  if not is_met then
    entry.state, entry.reason, entry.over_since, entry.told = "quiet", remark, nil, {}
    return
  end
  entry.over_since = entry.over_since or now
  if now - entry.over_since < entry.rule.for_ then
    entry.state = "over"
  elseif entry.cool_until and now < entry.cool_until then
    entry.state = entry.round and "acting" or "cooling"
  else
    fire(self, entry, s, now)
  end
end

--- A function has not said whether its rule is met.
local function fail_trial(self, entry, reason)
  local kind = reason:gsub("%d", "")
  local is_new = entry.unjudged_kind ~= kind
  entry.unjudged, entry.unjudged_kind = entry.unjudged + 1, kind
  if self.means.unjudged then
    self.means.unjudged(entry.rule, reason, is_new)
  end
end

--- Looks whether a rule's function is done, and goes on with what it says.
local function end_trial(self, entry, now)
  local ok, is_met, value = entry.trial()
  if ok == nil then
    return
  end
  local s = entry.trial_of
  entry.trial, entry.trial_of = nil, nil
  if ok then
    entry.late_at, entry.unjudged_kind = nil, nil
    return conclude(self, entry, s, now, is_met and true or false, value)
  end
  local reason = cut(is_met)
  entry.late_at = value and now or nil
  fail_trial(self, entry, reason)
  return conclude(self, entry, s, now, nil, reason)
end

local function at_once(when, s)
  local ok, is_met, value = pcall(when, s)
  return function()
    return ok, is_met, ok and value or nil
  end
end

local function look(self, entry, s, now)
  local when = entry.rule.when
  if type(when) == "table" then
    return conclude(self, entry, s, now, judge(self, entry.rule, s))
  elseif entry.trial or entry.late_at and now - entry.late_at < M.LATE_S then
    return
  end
  entry.trial, entry.trial_of = (self.means.try or at_once)(when, s, entry.rule), s
  end_trial(self, entry, now)
end

--- Judges all rules by one snapshot, and does what is due. Functions that take their time are
--- judged by `settle`, later.
---@param s table whatever means.read understands; the same for all rules
---@param now number
function Engine:look(s, now)
  for _, entry in ipairs(self.rules) do
    look(self, entry, s, now)
  end
end

--- Whether functions of rules are being run.
---@return boolean
function Engine:is_trying()
  for _, entry in ipairs(self.rules) do
    if entry.trial then
      return true
    end
  end
  return false
end

--- Goes on with the rules whose functions are done since.
---@param now number
function Engine:settle(now)
  for _, entry in ipairs(self.rules) do
    if entry.trial then
      end_trial(self, entry, now)
    end
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
    state = entry.state, value = number(entry.value), reason = entry.reason, fired = entry.fired,
    unjudged = entry.unjudged,
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

--- What is to outlive this engine: since when figures are out of bounds, and what cools. What is
--- still being done was begun, and counts: its end is told by this engine only.
---@return table
function Engine:save()
  local kept = { firings = self.firings, costly_at = self.costly_at, rules = {} }
  if self.costly_count > 0 then
    kept.costly_at = self.costly_begun
  end
  for _, entry in ipairs(self.rules) do
    local round = entry.round
    kept.rules[#kept.rules + 1] = {
      name = entry.rule.name, over_since = entry.over_since, cool_until = entry.cool_until,
      fired = entry.fired + (round and 1 or 0), fired_at = round and round.at or entry.fired_at,
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
