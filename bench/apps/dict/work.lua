-- bench/apps/dict/work.lua - what bench/dict.lua measures, the same code in both servers:
-- operations of a dictionary in a loop, from a given moment on, for a given time.

local ffi = require("ffi")

ffi.cdef([[
struct pl_dict_bench_time { long sec; long nsec; };
int clock_gettime(int clock, struct pl_dict_bench_time *at);
]])

local CLOCK_MONOTONIC = 1
local KEYS = 10000
local BATCH = 500 -- operations between two looks at the clock; a part of KEYS

local M = {}

local C = ffi.C
local time = ffi.new("struct pl_dict_bench_time")

local function now()
  C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.sec) + tonumber(time.nsec) / 1e9
end

local keys, values = {}, { small = {}, large = {} }
for i = 1, KEYS do
  keys[i] = ("session:%08d"):format(i)
end
for i = KEYS, 2, -1 do -- in no order
  local j = math.random(i)
  keys[i], keys[j] = keys[j], keys[i]
end
for i = 1, 16 do
  values.small[i] = ("%02d"):format(i):rep(16)
  values.large[i] = ("%02d"):format(i):rep(512)
end

local function gets(dict, at)
  local bytes = 0
  for i = at + 1, at + BATCH do
    bytes = bytes + #dict:get(keys[i])
  end
  return bytes
end

local function sets(dict, at, list)
  for i = at + 1, at + BATCH do
    dict:set(keys[i], list[i % 16 + 1])
  end
end

-- Three reads, one write.
local function mixed(dict, at, list)
  for i = at + 1, at + BATCH, 4 do
    dict:set(keys[i], list[i % 16 + 1])
    dict:get(keys[i + 1])
    dict:get(keys[i + 2])
    dict:get(keys[i + 3])
  end
end

local function incrs(dict, at)
  for i = at + 1, at + BATCH do
    dict:incr(keys[i], 1)
  end
end

local WORK = {
  get = { gets, "small" }, set = { sets, "small" }, mixed = { mixed, "small" },
  get_1k = { gets, "large" }, set_1k = { sets, "large" }, mixed_1k = { mixed, "large" },
  incr = { incrs },
}

--- Fills the dictionary with what the work needs.
---@param dict table
---@param what string
function M.prepare(dict, what)
  local list = values[WORK[what][2]]
  for i = 1, KEYS do
    assert(dict:set(keys[i], list and list[i % 16 + 1] or 0))
  end
  for i = 1, KEYS do
    assert(dict:get(keys[i]) == (list and list[i % 16 + 1] or 0), "not what was set")
  end
end

--- Works from `start` (monotonic seconds) on.
---@param dict table
---@param what string
---@param start number
---@param seconds number
---@return number operations per second
function M.run(dict, what, start, seconds)
  local fn, list = WORK[what][1], values[WORK[what][2]]
  local at, count, stop = 0, 0, start + seconds
  while now() < start do -- warms up
    fn(dict, at, list)
    at = (at + BATCH) % KEYS
  end
  local begin = now()
  repeat
    fn(dict, at, list)
    at = (at + BATCH) % KEYS
    count = count + BATCH
  until now() >= stop
  return count / (now() - begin)
end

return M
