--- P.metric: counters, gauges and histograms of the app.
---
--- What they count lies in the server's shared memory, each worker's apart
--- (core/fabric/shard.h); whoever scrapes puts it together. Methods that count are
--- one call by FFI and allocate nothing. Objects for label values are kept, so
--- that `with` finds them again, up to KEPT_MAX of a metric.

local core = require("perilune.core")
local ffi = require("perilune.ffi")
local raw_ffi = require("ffi")

local C = ffi.C
local getinfo = debug.getinfo
local huge = math.huge
local new = raw_ffi.new
local error, select, type = error, select, type

---@class perilune.metric
local M = {}

local EFULL, EINVAL, ECONFLICT = -20001, -20002, -20004
local COUNTER, GAUGE, HISTOGRAM = 0, 1, 2 -- enum pl_metric_kind
local KINDS = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" }
local MERGES = { sum = 0, max = 1, each = 2 } -- enum pl_metric_merge
local LABELS_MAX = 8
local KEPT_LABELS_MAX = 4 -- `with` of more asks the core each time
local KEPT_MAX = 16384 -- objects of one metric
local KEPT_BYTES_MAX = 128 -- of their values; longer ones are cut in the core

local meter = C.pl_meter()
if meter == nil then
  error("perilune: no memory for metrics", 0)
end

---@class perilune.metric.Series
---@field name string
---@field _kind integer
---@field _cell integer? where it is counted; nil: it has labels, so `with` comes first
---@field _labels string[] their names
---@field _count integer how many
---@field _children table label value -> ... -> series
---@field _kept integer? how many are in _children
---@field _family integer
---@field _other perilune.metric.Series? what there was no room for

local OWN = getinfo(1, "S").source

--- Raises an error of whoever has called this module.
local function raise(text, ...)
  local level = 2
  repeat
    level = level + 1
    local info = getinfo(level, "S")
  until not info or info.source ~= OWN
  error(text:format(...), level)
end

-- Series ---------------------------------------------------------------------------------

local function call_name(self)
  return ("P.metric.%s(%q)"):format(KINDS[self._kind], self.name)
end

--- What a counting method was called wrongly with.
local function refuse(self, what, wanted, got)
  if not self._cell then
    raise("%s has labels (%s): %s goes behind :with(...)", call_name(self),
      table.concat(self._labels, ", "), what)
  end
  raise("%s:%s takes %s, got %s", call_name(self), what, wanted, tostring(got))
end

--- Slices of texts, which must live as long.
local function slices_of(texts)
  local slices = new("struct pl_slice[?]", #texts + 1)
  for i, text in ipairs(texts) do
    slices[i - 1].at, slices[i - 1].bytes = text, #text
  end
  return slices
end

local function value_of(self, i, value)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" and value == value or kind == "boolean" then
    return tostring(value)
  end
  raise("%s: the value of %s is a text, got %s", call_name(self), self._labels[i],
    kind == "number" and "NaN" or kind)
end

local function check_count(self, count)
  if self._cell then
    raise("%s has no labels", call_name(self))
  elseif count ~= self._count then
    raise("%s: with takes %d value%s (%s), got %d", call_name(self), self._count,
      self._count == 1 and "" or "s", table.concat(self._labels, ", "), count)
  end
end

--- Values that differ can be of one series (they are cut, and made UTF-8), so that there are no
--- bounds to how many of them come.
local function make_room(self)
  self._kept = (self._kept or 0) + 1
  if self._kept > KEPT_MAX then
    self._children, self._kept = {}, 1
  end
end

--- The series of these values is asked for first, or again as it could not be kept.
local function make(self, ...)
  local count = select("#", ...)
  check_count(self, count)
  local texts, longest = {}, 0
  for i = 1, count do
    texts[i] = value_of(self, i, (select(i, ...)))
    longest = math.max(longest, #texts[i])
  end
  local is_own = new("int[1]")
  local cell = C.pl_metric_series(meter, self._family, slices_of(self._labels),
    slices_of(texts), count, is_own)
  if is_own[0] == 0 and self._other and self._other._cell == cell then
    return self._other
  end
  local child = setmetatable({ name = self.name, _kind = self._kind, _cell = cell },
    getmetatable(self))
  if is_own[0] == 0 then
    self._other = child
  elseif count <= KEPT_LABELS_MAX and longest <= KEPT_BYTES_MAX then
    make_room(self)
    local at = self._children
    for i = 1, count - 1 do
      local value = select(i, ...)
      at[value] = at[value] or {}
      at = at[value]
    end
    at[select(count, ...)] = child
  end
  return child
end

--- The series of these label values, one for each label.
---@param ... string|number|boolean
---@return perilune.metric.Series
local function with(self, ...)
  local count, at = self._count, self._children
  if not at or select("#", ...) ~= count then
    return make(self, ...)
  end
  local a, b, c, d = ...
  at = at[a]
  if count > 1 and at then
    at = at[b]
    if count > 2 and at then
      at = at[c]
      if count > 3 and at then
        at = at[d]
      end
    end
  end
  if count > KEPT_LABELS_MAX then
    at = nil
  end
  return at or make(self, ...)
end

---@class perilune.metric.Counter: perilune.metric.Series
local Counter = { with = with }
Counter.__index = Counter

--- Adds to the counter.
---@param n? number from 0 on; default 1
function Counter:add(n)
  local cell = self._cell
  if n == nil then
    n = 1
  end
  if not cell or type(n) ~= "number" or not (n >= 0 and n < huge) then
    refuse(self, "add", "a number from 0 on", n)
  end
  C.pl_metric_add(meter, cell, n)
end

---@class perilune.metric.Gauge: perilune.metric.Series
local Gauge = { with = with }
Gauge.__index = Gauge

--- Sets the gauge.
---@param n number
function Gauge:set(n)
  local cell = self._cell
  if not cell or type(n) ~= "number" then
    refuse(self, "set", "a number", n)
  end
  C.pl_metric_set(meter, cell, n)
end

--- Adds to the gauge.
---@param n? number may be negative; default 1
function Gauge:add(n)
  local cell = self._cell
  if n == nil then
    n = 1
  end
  if not cell or type(n) ~= "number" then
    refuse(self, "add", "a number", n)
  end
  C.pl_metric_add(meter, cell, n)
end

--- What this worker has counted or set, without the others.
---@return number
local function get(self)
  local cell = self._cell
  if not cell then
    refuse(self, "get")
  end
  return C.pl_metric_get(meter, cell)
end

Counter.get, Gauge.get = get, get

---@class perilune.metric.Histogram: perilune.metric.Series
local Histogram = { with = with }
Histogram.__index = Histogram

--- Counts a number.
---@param n number from 0 on
function Histogram:record(n)
  local cell = self._cell
  if not cell or type(n) ~= "number" or not (n >= 0 and n < huge) then
    refuse(self, "record", "a number from 0 on", n)
  end
  C.pl_metric_record(meter, cell, n)
end

-- Making them -------------------------------------------------------------------------------

local CLASSES = { [COUNTER] = Counter, [GAUGE] = Gauge, [HISTOGRAM] = Histogram }

local NAMES = {
  [COUNTER] = "a name of up to 127 letters, digits and _ that ends in _total",
  [GAUGE] = "a name of up to 127 letters, digits and _ that does not end in _total, _bucket, _sum,"
    .. " _count or _created",
}
NAMES[HISTOGRAM] = NAMES[GAUGE]

local known = {} -- by name

local function fail(kind, name, what, ...)
  raise("P.metric.%s(%q): %s", KINDS[kind], tostring(name), what:format(...))
end

local function check_labels(kind, name, labels)
  if type(labels) ~= "table" then
    fail(kind, name, "the labels are a list of names, got a %s", type(labels))
  elseif #labels > LABELS_MAX then
    fail(kind, name, "at most %d labels", LABELS_MAX)
  end
  local seen = {}
  for i, label in ipairs(labels) do
    if type(label) ~= "string" or C.pl_metric_is_label(slices_of({ label })) == 0 then
      fail(kind, name, "label %d is no name of letters, digits and _, or it is le, or begins"
        .. " with __", i)
    elseif seen[label] then
      fail(kind, name, "label %s is there twice", label)
    end
    seen[label] = true
  end
  for key in pairs(labels) do
    if type(key) ~= "number" or key > #labels then
      fail(kind, name, "the labels are a list of names")
    end
  end
end

local function check(kind, name, help, labels, merge)
  if type(name) ~= "string" then
    fail(kind, name, "the name is a text")
  elseif name:find("^perilune_") and not core.report("state") then -- the admin plane has some
    fail(kind, name, "names that begin with perilune_ are the server's own")
  elseif type(help) ~= "string" or help == "" then
    fail(kind, name, "the second argument is a text that explains it")
  elseif not MERGES[merge] then
    fail(kind, name, 'workers are put together by "sum", "max" or "each"')
  end
  check_labels(kind, name, labels)
  if merge == "each" and table.concat(labels, ","):find("%f[%w_]worker%f[^%w_]") then
    fail(kind, name, 'the label worker is given by "each"')
  end
end

--- One that this version of the app has made before.
local function again(metric, kind, name, labels, merge)
  if metric._kind ~= kind then
    fail(kind, name, "it is a %s already", KINDS[metric._kind])
  elseif table.concat(metric._labels, ",") ~= table.concat(labels, ",") then
    fail(kind, name, "it has the labels (%s) already", table.concat(metric._labels, ", "))
  elseif metric._merge ~= merge then
    fail(kind, name, 'workers are put together by "%s" already', metric._merge)
  end
  return metric
end

local function open(kind, name, help, merge)
  local family = new("uint32_t[1]")
  local texts = { name, help }
  local slices = slices_of(texts)
  local code = C.pl_metric_open(meter, slices, slices + 1, kind, MERGES[merge], family)
  if code == EINVAL then
    fail(kind, name, "it takes %s", NAMES[kind])
  elseif code == ECONFLICT then
    fail(kind, name, "this server has counted it as another type since it was started, or put"
      .. " workers together in another way; or it differs from another metric in _total only")
  elseif code == EFULL then
    fail(kind, name, "too many metrics")
  elseif code ~= 0 then
    fail(kind, name, "shared memory cannot be had (%d)", code)
  end
  return family[0]
end

local function metric_of(kind, name, help, labels, merge)
  labels, merge = labels or {}, merge or "sum"
  check(kind, name, help, labels, merge)
  if known[name] then
    return again(known[name], kind, name, labels, merge)
  end
  local metric = setmetatable({
    name = name, _kind = kind, _family = open(kind, name, help, merge), _merge = merge,
    _labels = { unpack(labels) }, _count = #labels, _children = #labels > 0 and {} or nil,
  }, CLASSES[kind])
  if #labels == 0 then
    metric._cell = C.pl_metric_series(meter, metric._family, slices_of({}), slices_of({}), 0,
      new("int[1]"))
  end
  known[name] = metric
  return metric
end

--- For admin/actions.lua: whether the app has made such a metric. One with labels has no series
--- before something is counted in it.
---@param name string of its lines: a histogram has _bucket, _sum and _count
---@param labels? table<string, string> that lines of it are to have
---@return boolean
function M._is_declared(name, labels)
  local metric = known[name]
  if not metric then
    metric = known[name:gsub("_%l+$", "")]
    local part = name:match("_(%l+)$")
    if not metric or metric._kind ~= HISTOGRAM or part ~= "count" and part ~= "sum"
      and part ~= "bucket" then
      return false
    end
  end
  local own = { worker = metric._merge == "each", le = metric._kind == HISTOGRAM }
  for _, label in ipairs(metric._labels) do
    own[label] = true
  end
  for label in pairs(labels or {}) do
    if not own[label] then
      return false
    end
  end
  return true
end

--- A counter: it only grows, also over reloads and crashes.
---@param name string ends in _total
---@param help string
---@param labels? string[]
---@return perilune.metric.Counter
function M.counter(name, help, labels)
  return metric_of(COUNTER, name, help, labels, nil)
end

--- A gauge: goes up and down. Of each worker for itself; what is shown is their sum.
---@param name string
---@param help string
---@param labels? string[]
---@param merge? "sum"|"max"|"each" how the workers' values are put together
---@return perilune.metric.Gauge
function M.gauge(name, help, labels, merge)
  return metric_of(GAUGE, name, help, labels, merge)
end

--- A histogram: how often which numbers came.
---@param name string ends in _seconds or _bytes, if it counts such
---@param help string
---@param labels? string[]
---@return perilune.metric.Histogram
function M.histogram(name, help, labels)
  return metric_of(HISTOGRAM, name, help, labels, nil)
end

return M
