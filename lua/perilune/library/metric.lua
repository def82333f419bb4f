---@meta perilune.metric
--- What the app counts, for those who scrape it: `P.metric`.
-- luacheck: no unused

---@class perilune.metric
local metric = {}

--- A counter: it only grows. It goes on over reloads and crashes of workers.
--- What is shown is the sum of all workers. Asking again for the same name gives
--- the same counter. Belongs to the app's top level; raises for a name or labels
--- that cannot be, and for a name that is of another type since the server was
--- started.
---@param name string ends in _total; the unit before that: bytes_read_total
---@param help string a sentence
---@param labels? string[] names, at most 8; the values are given by `with`
---@return perilune.metric.Counter
function metric.counter(name, help, labels) end

--- A gauge: it goes up and down. It is each worker's own, ends with it, and is
--- shown as the sum of those that live, or as `merge` says.
---@param name string ends in its unit: queue_bytes
---@param help string
---@param labels? string[]
---@param merge? "sum"|"max"|"each" "each": a series for each, with the label worker
---@return perilune.metric.Gauge
function metric.gauge(name, help, labels, merge) end

--- A histogram: which numbers came how often. It keeps them with an error of at
--- most 3.1 %, and is shown at powers of two: from 61 us to 32 s if its name ends
--- in _seconds, from 64 bytes to 256 MiB if in _bytes, else from 0.001 to 2^20.
--- Goes on as a counter does.
---@param name string
---@param help string
---@param labels? string[]
---@return perilune.metric.Histogram
function metric.histogram(name, help, labels) end

---@class perilune.metric.Counter
---@field name string
local Counter = {}

--- Adds to it.
---@param n? number from 0 on, may have a fraction; default 1
function Counter:add(n) end

--- What this worker has counted: for specs.
---@return number
function Counter:get() end

--- The series of these label values, one for each label. Past
--- `metrics.series_max` of them it is the one that has `other` for each.
---@param ... string|number|boolean cut past 128 bytes
---@return perilune.metric.Counter
function Counter:with(...) end

---@class perilune.metric.Gauge
---@field name string
local Gauge = {}

--- Adds to it.
---@param n? number may be negative; default 1
function Gauge:add(n) end

--- Sets it.
---@param n number
function Gauge:set(n) end

--- What this worker has set: for specs.
---@return number
function Gauge:get() end

--- The series of these label values, one for each label.
---@param ... string|number|boolean
---@return perilune.metric.Gauge
function Gauge:with(...) end

---@class perilune.metric.Histogram
---@field name string
local Histogram = {}

--- Counts a number. In a handler it also notes the request, as an example.
---@param n number from 0 on
function Histogram:record(n) end

--- The series of these label values, one for each label.
---@param ... string|number|boolean
---@return perilune.metric.Histogram
function Histogram:with(...) end

return metric
