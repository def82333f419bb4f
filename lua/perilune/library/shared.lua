---@meta perilune.shared
--- What all workers share, and what outlives them: `P.shared`.
-- luacheck: no unused

---@class perilune.shared
local shared = {}

---@class perilune.DictOptions
---@field capacity? number|string bytes, or "64M"; default 8M, at least 64K

--- The dictionary of that name, the same one in all workers. It takes its share
--- of `shared.memory` when it is opened first, and raises when that is used up;
--- later on its capacity stays as it is until the server restarts. It survives
--- reloads and crashes of workers. Belongs to the app's top level.
---@param name string at most 63 bytes
---@param opts? perilune.DictOptions
---@return perilune.Dict
function shared.dict(name, opts) end

--- The counter of that name, the same one in all workers; 0 at first.
---@param name string at most 63 bytes
---@return perilune.Counter
function shared.counter(name) end

--- Strings, numbers, booleans and tables of them, by keys of at most 1 KiB. When
--- it is full, entries that were not read lately make room. Each method is one
--- step: others see all of it or nothing, whatever is killed. Reading never waits
--- for a writer.
---@class perilune.Dict
---@field name string
local Dict = {}

--- The value of the key. A table is a new one each time.
---@param key string
---@return any value nil: there is none
function Dict:get(key) end

--- Sets the key. nil deletes it.
---@param key string
---@param value string|number|boolean|table|nil at most 1 MiB, and a quarter of the dictionary
---@param ttl? number|string seconds, or "5m"; 0 or nil: it does not expire
---@return true? ok
---@return string? err "the key is too long", "the value is too large", "no memory", "busy"
function Dict:set(key, value, ttl) end

--- Sets the key if it is not there.
---@param key string
---@param value string|number|boolean|table
---@param ttl? number|string
---@return boolean? ok false: it is there; nil: as `set`
---@return string? err "exists", or as `set`
function Dict:add(key, value, ttl) end

--- Adds to a number and returns the sum. A key that is there keeps its time to
--- live; one that is not begins with `init`, if it is given, and `ttl`.
---@param key string
---@param by? number default 1
---@param init? number
---@param ttl? number|string
---@return number? sum
---@return string? err "not found", "not a number", or as `set`
function Dict:incr(key, by, init, ttl) end

--- Sets the key if it holds `expected`; with nil: if it is not there.
---@param key string
---@param expected string|number|boolean|nil tables cannot be compared: that raises
---@param value string|number|boolean|table
---@param ttl? number|string
---@return boolean? ok false: it holds something else; nil: as `set`
---@return string? err "differs", or as `set`
function Dict:cas(key, expected, value, ttl) end

--- Deletes the key.
---@param key string
---@return boolean? was_there
---@return string? err "busy", "the key is too long"
function Dict:delete(key) end

--- Its keys, in no order; what comes or goes meanwhile is among them or not.
---@param limit? integer at most so many; default: all
---@return string[]
function Dict:keys(limit) end

--- Deletes everything, piece by piece: what others set meanwhile may stay.
---@return true? ok
---@return string? err "busy"
function Dict:clear() end

--- Its share of `shared.memory`.
---@return integer bytes
function Dict:capacity() end

---@class perilune.DictStats
---@field capacity integer bytes, with its tables
---@field bytes integer of the entries, in blocks of 128
---@field entries integer expired ones that are still there included
---@field hits integer of all workers
---@field misses integer likewise
---@field evictions integer entries that had to make room
---@field expired integer entries that were taken away when their time was over

--- Figures since the server's start.
---@return perilune.DictStats
function Dict:stats() end

--- A whole number, exact up to 2^53.
---@class perilune.Counter
---@field name string
local Counter = {}

--- Adds, in one step for all workers.
---@param n? integer default 1
---@return integer value after that
function Counter:add(n) end

--- What it is now.
---@return integer value
function Counter:get() end

--- Sets it.
---@param n integer
function Counter:set(n) end

return shared
