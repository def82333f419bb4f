--- What all workers share, and what outlives them: dictionaries and counters.
---
--- They lie in the server's shared memory; the C half is core/fabric/dict.h. Each
--- method is one step there: nothing of it is seen half done, whatever is killed.
--- Tools (`perilune test`, `request`, `check`) have such memory of their own.
---
--- The struct that a value is read into is the VM's, and a handler may be
--- preempted before it has taken the value out: then `token` has changed, and it
--- looks again.

local band = require("bit").band
local buffer = require("string.buffer")
local ffi = require("perilune.ffi")
local log = require("perilune.log")
local raw_ffi = require("ffi")
local units = require("perilune.units")

local C = ffi.C
local encode, decode = buffer.encode, buffer.decode
local error, type = error, type
local new, string_of = raw_ffi.new, raw_ffi.string

---@class perilune.shared
local M = {}

-- enum pl_dict_kind, enum pl_dict_mode, enum pl_dict_outcome
local NONE, NUMBER, BOOLEAN, STRING, TABLE, LARGE = 0, 1, 2, 3, 4, 7
local SET, ADD = 0, 1
local DONE, EXISTS, DIFFERS, ABSENT = 0, 1, 2, 3

local FAILURES = {
  [EXISTS] = "exists",
  [ABSENT] = "not found",
  [4] = "not a number",
  [5] = "the key is too long",
  [6] = "the value is too large",
  [7] = "no memory",
  [8] = "busy",
}

local EFULL, EINVAL = -20001, -20002
local CAPACITY, CAPACITY_MIN = 8 * 2 ^ 20, 64 * 2 ^ 10
local NAME_BYTES_MAX = 63
local ROOM = 16384 -- of values that are read without a buffer of their own
local KEYS_ROOM = 65536

---@class perilune.Dict
---@field name string
---@field _ref ffi.cdata* struct pl_dict_ref
local Dict = {}
Dict.__index = Dict

---@class perilune.Counter
---@field name string
---@field _at ffi.cdata* struct pl_counter
local Counter = {}
Counter.__index = Counter

--- A result with room for its bytes behind it, in one piece: a pointer keeps nothing alive.
local holder = raw_ffi.typeof("struct { struct pl_dict_result result; char bytes[?]; }")

---@param room integer a multiple of 8
local function new_holder(room)
  local own = holder(room)
  own.result.at, own.result.room = own.bytes, room
  return own
end

local held = new_holder(ROOM)
local result = held.result
M._held = held -- `result` lies in it

local function bad_key(what)
  error(("dict:%s: the key is a string"):format(what), 3)
end

local function seconds_of(ttl, what)
  local seconds = units.seconds(ttl)
  if not seconds then
    error(("dict:%s: the ttl is a number of seconds or a text such as \"5m\""):format(what), 3)
  end
  return seconds
end

--- The value in the form that it is stored in.
---@return integer kind
---@return string text
---@return number number
local function packed(value, what)
  local kind = type(value)
  if kind == "string" then
    return STRING, value, 0
  elseif kind == "number" then
    return NUMBER, "", value
  elseif kind == "boolean" then
    return BOOLEAN, "", value and 1 or 0
  elseif kind == "table" then
    return TABLE, encode(value), 0
  end
  error(("dict:%s: a %s cannot be stored: strings, numbers, booleans and tables can")
    :format(what, kind), 3)
end

local function unpacked(kind, own)
  if kind == STRING then
    return string_of(own.bytes, own.result.bytes)
  elseif kind == NUMBER then
    return own.result.number
  elseif kind == BOOLEAN then
    return own.result.number ~= 0
  elseif kind == TABLE then
    return decode(string_of(own.bytes, own.result.bytes))
  end
  return nil
end

--- One that needs a buffer of its own; by then it may be another value.
local function get_large(self, key, bytes)
  while true do
    local own = new_holder(bytes + 8 - bytes % 8)
    local kind = band(C.pl_dict_get(self._ref, key, #key, own.result), 7)
    if kind ~= LARGE then
      return unpacked(kind, own)
    end
    bytes = own.result.wanted
  end
end

local function get(self, key)
  if type(key) ~= "string" then
    bad_key("get")
  end
  local token = C.pl_dict_get(self._ref, key, #key, result)
  local kind = band(token, 7)
  local value
  if kind == NONE then
    return nil
  elseif kind == STRING then
    value = string_of(result.at, result.bytes)
  elseif kind == NUMBER then
    value = result.number
  elseif kind == LARGE then
    return get_large(self, key, result.wanted)
  elseif kind == BOOLEAN then
    value = result.number ~= 0
  else
    value = string_of(result.at, result.bytes)
  end
  if result.token ~= token then -- preempted: it may be another one's
    return get(self, key)
  end
  if kind == TABLE then
    return decode(value)
  end
  return value
end

--- The value of the key.
---@param key string
---@return any value nil: there is none
function Dict:get(key)
  return get(self, key)
end

local function set(self, mode, what, key, value, ttl)
  if type(key) ~= "string" then
    bad_key(what)
  end
  local seconds = ttl == nil and 0 or seconds_of(ttl, what)
  local kind, text, number = packed(value, what)
  return C.pl_dict_set(self._ref, key, #key, mode, kind, text, #text, number, seconds)
end

--- Sets the key. nil deletes it.
---@param key string
---@param value string|number|boolean|table|nil
---@param ttl? number|string seconds, or "5m"; 0 or nil: it does not expire
---@return true? ok
---@return string? err "the key is too long", "the value is too large", "no memory", "busy"
function Dict:set(key, value, ttl)
  if value == nil then
    local _, err = self:delete(key)
    if err then
      return nil, err
    end
    return true
  end
  local outcome = set(self, SET, "set", key, value, ttl)
  if outcome == DONE then
    return true
  end
  return nil, FAILURES[outcome]
end

--- Sets the key if it is not there.
---@param key string
---@param value string|number|boolean|table
---@param ttl? number|string
---@return boolean? ok
---@return string? err "exists" (false); nil with one of those of `set`
function Dict:add(key, value, ttl)
  local outcome = set(self, ADD, "add", key, value, ttl)
  if outcome == DONE then
    return true
  elseif outcome == EXISTS then
    return false, "exists"
  end
  return nil, FAILURES[outcome]
end

--- Sets the key if its value is `expected`; nil: if it is not there.
---@param key string
---@param expected string|number|boolean|nil
---@param value string|number|boolean|table
---@param ttl? number|string
---@return boolean? ok false: it has another value
---@return string? err "differs" (false); nil with one of those of `set`
function Dict:cas(key, expected, value, ttl)
  if type(key) ~= "string" then
    bad_key("cas")
  end
  if type(expected) == "table" then
    error("dict:cas cannot compare tables", 2)
  end
  local seconds = ttl == nil and 0 or seconds_of(ttl, "cas")
  local old_kind, old_text, old_number = NONE, "", 0
  if expected ~= nil then
    old_kind, old_text, old_number = packed(expected, "cas")
  end
  local kind, text, number = packed(value, "cas")
  local outcome = C.pl_dict_cas(self._ref, key, #key, old_kind, old_text, #old_text, old_number,
    kind, text, #text, number, seconds)
  if outcome == DONE then
    return true
  elseif outcome == DIFFERS then
    return false, "differs"
  end
  return nil, FAILURES[outcome]
end

--- Adds to a number; its time to live stays. Without `init` the key must be there.
---@param key string
---@param by? number default 1
---@param init? number what a key that is not there begins with
---@param ttl? number|string of a key that was not there
---@return number? sum
---@return string? err "not found", "not a number", or one of those of `set`
function Dict:incr(key, by, init, ttl)
  if type(key) ~= "string" then
    bad_key("incr")
  end
  local seconds = ttl == nil and 0 or seconds_of(ttl, "incr")
  local more = by == nil and 1 or by
  local first = init == nil and 0 / 0 or init
  if type(more) ~= "number" or type(first) ~= "number" then
    error("dict:incr adds numbers", 2)
  end
  local sum = C.pl_dict_incr(self._ref, key, #key, more, first, seconds, result)
  if sum == sum or result.outcome == DONE then
    return sum
  end
  return nil, FAILURES[result.outcome]
end

--- Deletes the key.
---@param key string
---@return boolean? was_there
---@return string? err "busy", "the key is too long"
function Dict:delete(key)
  if type(key) ~= "string" then
    bad_key("delete")
  end
  local outcome = C.pl_dict_delete(self._ref, key, #key)
  if outcome == DONE then
    return true
  elseif outcome == ABSENT then
    return false
  end
  return nil, FAILURES[outcome]
end

--- Its keys, in no order. What comes or goes meanwhile is among them or not.
---@param limit? integer at most so many; default: all
---@return string[]
function Dict:keys(limit)
  if limit ~= nil and type(limit) ~= "number" then
    error("dict:keys takes a number", 2)
  end
  local most, list, count = limit or math.huge, {}, 0
  local cursor, out = new("uint32_t[1]"), new("uint8_t[?]", KEYS_ROOM)
  repeat
    local bytes = C.pl_dict_keys(self._ref, cursor, raw_ffi.cast("char *", out), KEYS_ROOM)
    local at = 0
    while at < bytes and count < most do
      local length = out[at] + out[at + 1] * 256
      count = count + 1
      list[count] = string_of(out + at + 2, length)
      at = at + 2 + length
    end
  until cursor[0] == 0 or count >= most
  return list
end

--- Deletes all that is in it, piece by piece: what others set meanwhile may stay.
---@return true? ok
---@return string? err "busy"
function Dict:clear()
  local cursor = new("uint32_t[1]")
  repeat
    local outcome = C.pl_dict_clear(self._ref, cursor)
    if outcome ~= DONE then
      return nil, FAILURES[outcome]
    end
  until cursor[0] == 0
  return true
end

--- Its share of shared memory.
---@return integer bytes
function Dict:capacity()
  local figures = new("struct pl_dict_figures")
  C.pl_dict_stats(self._ref, figures)
  return figures.capacity
end

---@class perilune.DictStats
---@field capacity integer bytes, with its tables
---@field bytes integer of the entries, in blocks of 128
---@field entries integer also expired ones that are still there
---@field hits integer of all workers
---@field misses integer likewise
---@field evictions integer entries that had to make room
---@field expired integer entries that were taken away when their time was over

--- Figures since the server's start.
---@return perilune.DictStats
function Dict:stats()
  local figures = new("struct pl_dict_figures")
  C.pl_dict_stats(self._ref, figures)
  return {
    capacity = figures.capacity, bytes = figures.bytes, entries = figures.entries,
    hits = figures.hits, misses = figures.misses, evictions = figures.evictions,
    expired = figures.expired,
  }
end

--- Adds to the counter, in one step for all workers.
---@param n? integer default 1
---@return integer value after that
function Counter:add(n)
  local value = C.pl_counter_add(self._at, n == nil and 1 or n)
  if value ~= value then
    error("counter:add takes a whole number", 2)
  end
  return value
end

---@return integer value
function Counter:get()
  return C.pl_counter_get(self._at)
end

--- Sets the counter.
---@param n integer
function Counter:set(n)
  local value = C.pl_counter_set(self._at, n)
  if value ~= value then
    error("counter:set takes a whole number", 2)
  end
end

-- Opening ------------------------------------------------------------------------------

local function check_name(name, what)
  if type(name) ~= "string" or #name == 0 or #name > NAME_BYTES_MAX then
    error(("P.shared.%s takes a name of 1 to %d bytes"):format(what, NAME_BYTES_MAX), 3)
  end
end

local function size_text(bytes)
  if bytes >= 2 ^ 20 then
    return ("%.4gM"):format(bytes / 2 ^ 20)
  end
  return ("%.4gK"):format(bytes / 2 ^ 10)
end

local function refuse(name, code, capacity)
  if code == EFULL then
    local left = new("double[1]")
    local all = C.pl_dict_memory(left)
    error(("P.shared.dict(%q): no room for %s: %s of shared.memory (%s) are left"):format(name,
      size_text(capacity), size_text(left[0]), size_text(all)), 3)
  elseif code == EINVAL then
    error(("P.shared.dict(%q): the capacity is at least %s"):format(name,
      size_text(CAPACITY_MIN)), 3)
  end
  error(("P.shared.dict(%q): shared memory cannot be had (%d)"):format(name, code), 3)
end

local dicts, counters = {}, {}

--- The dictionary of that name, the same one in all workers. Made when it is
--- opened first; later on its capacity stays as it is until the server restarts.
---@param name string
---@param opts? { capacity?: number|string } bytes, or "64M"; default 8M
---@return perilune.Dict
function M.dict(name, opts)
  check_name(name, "dict")
  local wanted = opts and opts.capacity
  local capacity = wanted == nil and CAPACITY or units.bytes(wanted)
  if not capacity then
    error("the capacity of a dictionary is a number of bytes or a text such as \"64M\"", 2)
  end
  local dict = dicts[name]
  if not dict then
    local ref = new("struct pl_dict_ref")
    local code = C.pl_dict_open(ref, name, #name, capacity)
    if code ~= 0 then
      refuse(name, code, capacity)
    end
    dict = setmetatable({ name = name, _ref = ref }, Dict)
    dicts[name] = dict
  end
  if wanted and math.ceil(capacity / 4096) * 4096 ~= dict:capacity() then
    log.warn("a dictionary keeps its capacity until the server restarts",
      { dict = name, capacity = dict:capacity(), wanted = capacity })
  end
  return dict
end

--- The counter of that name, the same one in all workers; 0 at first.
---@param name string
---@return perilune.Counter
function M.counter(name)
  check_name(name, "counter")
  local counter = counters[name]
  if not counter then
    local code = new("int[1]")
    local at = C.pl_counter_open(name, #name, code)
    if at == nil then
      error(("P.shared.counter(%q): %s"):format(name, code[0] == EFULL and "too many counters"
        or ("shared memory cannot be had (%d)"):format(code[0])), 2)
    end
    counter = setmetatable({ name = name, _at = at }, Counter)
    counters[name] = counter
  end
  return counter
end

return M
