--- Kinds of work for the stress of preemption. Each is a pure function of a size and a seed, and
--- its result says whether anything went wrong on the way.
---
--- Plain Lua, no Perilune: who checks the results computes them by himself. One unit of size is a
--- third of a millisecond of work, or so.

local bit = require("bit")
local buffer = require("string.buffer")
local ffi = require("ffi")

local band, bxor, rol = bit.band, bit.bxor, bit.rol
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort

if not pcall(ffi.typeof, "struct pl_stress_point") then -- a spec loads this more than once
  ffi.cdef([[
struct pl_stress_point { double x, y; int32_t visits; uint8_t tag; };
int pl_stress_abs(int n) __asm__("abs");
void pl_stress_sort(int32_t *base, size_t count, size_t bytes,
                    int (*compare)(const int32_t *, const int32_t *)) __asm__("qsort");
]])
end

local C = ffi.C

---@alias stress.Job fun(n: integer, seed: integer): number|string a text: what is wrong

---@type table<string, stress.Job>
local jobs = {}

local MODULUS = 2147483647

--- The next of a sequence of numbers from 1 to 2^31 - 2 (Park and Miller); exact in doubles.
local function step(x)
  return x * 16807 % MODULUS
end

--- Takes a whole number into a sum below 2^32.
local function mix(sum, value)
  return (sum * 33 + value) % 4294967296
end

function jobs.sort(n, seed)
  local list, x = {}, seed
  for i = 1, n * 1500 do
    x = step(x)
    list[i] = x
  end
  sort(list, function(a, b)
    return a < b
  end)
  local sum = 0
  for i = 1, #list do
    if i > 1 and list[i - 1] > list[i] then
      return "not sorted"
    end
    sum = mix(sum, list[i])
  end
  return sum
end

function jobs.gsub(n, seed)
  local words, x = {}, seed
  for i = 1, n * 200 do
    x = step(x)
    words[i] = "w" .. x
  end
  local calls, sum = 0, 0
  local text = concat(words, " "):gsub("%d+", function(digits)
    local own = 0
    for i = 1, 2000 do
      own = own + i
    end
    calls, sum = calls + 1, mix(sum, tonumber(digits))
    return own == 2001000 and "<" .. digits .. ">" or "?"
  end)
  if calls ~= n * 200 or text:find("?", 1, true) then
    return "a callback has lost something"
  end
  return mix(sum, #text)
end

--- Errors of several kinds through several levels of pcall and xpcall.
function jobs.errors(n, seed)
  local sum, x = 0, seed
  local function raise(depth)
    if depth > 0 then
      local ok, err = pcall(raise, depth - 1)
      if ok then
        error("an error is lost", 0)
      end
      error(type(err) == "table" and { at = err.at + 1 } or "deeper " .. err, 0)
    end
    x = step(x)
    error(x % 2 == 0 and { at = x % 1000 } or tostring(x % 1000), 0)
  end
  for i = 1, n * 150 do
    local ok, err = xpcall(raise, function(err)
      return { inner = err, trace = i % 50 == 0 and debug.traceback("", 1) or "" }
    end, i % 5)
    if ok or not err.inner then
      return "an error came out as something else"
    end
    local inner = err.inner
    sum = mix(sum, type(inner) == "table" and inner.at or tonumber(inner:match("%d+$")))
  end
  return sum
end

--- A tree that is walked by recursive generators: wrap within wrap.
local function walk(tree)
  return coroutine.wrap(function()
    if tree.left then
      for value in walk(tree.left) do
        coroutine.yield(value)
      end
    end
    coroutine.yield(tree.value)
    if tree.right then
      for value in walk(tree.right) do
        coroutine.yield(value)
      end
    end
  end)
end

local function plant(tree, value)
  while true do
    local side = value < tree.value and "left" or "right"
    if not tree[side] then
      tree[side] = { value = value }
      return
    end
    tree = tree[side]
  end
end

function jobs.generators(n, seed)
  local x, count = step(seed), n * 250
  local tree = { value = x }
  for _ = 2, count do
    x = step(x)
    plant(tree, x)
  end
  local sum, last, seen = 0, 0, 0
  for value in walk(tree) do
    if value < last then
      return "the tree is out of order"
    end
    sum, last, seen = mix(sum, value), value, seen + 1
  end
  return seen == count and sum or "a generator has lost values"
end

--- Coroutines that are resumed with values, fail, and yield across pcall.
function jobs.coroutines(n, seed)
  local sum = 0
  for i = 1, n * 60 do
    local co = coroutine.create(function(first)
      local total = first
      local ok = pcall(function()
        for k = 1, 10 do
          total = total + coroutine.yield(total % 65536 + k)
        end
        error("enough")
      end)
      coroutine.yield(ok and -1 or total % 65536)
      error({ total = total })
    end)
    local x, last = seed + i, nil
    for _ = 1, 11 do
      x = step(x)
      local ok, value = coroutine.resume(co, x)
      if not ok or value < 0 then
        return "a coroutine has ended early"
      end
      sum, last = mix(sum, value), value
    end
    local ok, err = coroutine.resume(co)
    if ok or coroutine.status(co) ~= "dead" or err.total % 65536 ~= last then
      return "a coroutine has forgotten its total"
    end
  end
  return sum
end

function jobs.structs(n, seed)
  local points = ffi.new("struct pl_stress_point[?]", 500)
  local x = seed
  for _ = 1, n * 800 do
    x = step(x)
    for i = 0, 499 do
      local point = points[i]
      point.x = point.x + i
      point.y = point.y + x % 100
      point.visits = point.visits + 1
      point.tag = band(i, 255)
    end
  end
  local sum = 0
  for i = 0, 499 do
    local point = points[i]
    if point.visits ~= n * 800 or point.x ~= i * n * 800 or point.tag ~= i % 256 then
      return "a struct has changed"
    end
    sum = mix(sum, point.y)
  end
  return sum
end

function jobs.int64(n, seed)
  local a, total = ffi.new("uint64_t", seed), 0
  for i = 1, n * 100000 do
    a = a * 6364136223846793005ULL + 1442695040888963407ULL
    total = total + C.pl_stress_abs(-(i % 1000))
  end
  return mix(tonumber(a / 4294967296ULL), total)
end

local compare = ffi.cast("int (*)(const int32_t *, const int32_t *)", function(a, b)
  return a[0] < b[0] and -1 or a[0] > b[0] and 1 or 0
end)

--- C that calls back. The compiler must not take the call: C would come back into compiled code.
function jobs.callback(n, seed)
  local count = n * 500
  local list, x, before, after = ffi.new("int32_t[?]", count), seed, 0, 0
  for i = 0, count - 1 do
    x = step(x)
    list[i] = x
    before = (before + x) % MODULUS
  end
  C.pl_stress_sort(list, count, 4, compare)
  local sum = 0
  for i = 0, count - 1 do
    if i > 0 and list[i - 1] > list[i] then
      return "C has not sorted"
    end
    after = (after + list[i]) % MODULUS
    sum = mix(sum, list[i])
  end
  return before == after and sum or "C has lost numbers"
end
jit.off(jobs.callback)

local Vector = {}
Vector.__index = Vector
Vector.__add = function(a, b)
  return setmetatable({ a[1] + b[1], a[2] + b[2] }, Vector)
end
Vector.__mul = function(a, k)
  return setmetatable({ a[1] * k, a[2] * k }, Vector)
end
Vector.__eq = function(a, b)
  return a[1] == b[1] and a[2] == b[2]
end
Vector.__lt = function(a, b)
  return a[1] < b[1]
end
Vector.__call = function(self, i)
  return self[i]
end
Vector.__concat = function(a, b)
  return tostring(a) .. tostring(b)
end
Vector.__tostring = function(self)
  return "(" .. self[1] .. "," .. self[2] .. ")"
end

function jobs.metatables(n, seed)
  local double = setmetatable({}, {
    __index = function(_, key) return key * 2 end,
    __newindex = function(t, key, value) rawset(t, -key, value) end,
  })
  local sum, x = 0, seed
  local at = setmetatable({ 0, 0 }, Vector)
  for i = 1, n * 700 do
    x = step(x)
    local way = setmetatable({ x % 100, i % 7 }, Vector)
    local to = at + way * 2
    if not (at < to or to(1) == at(1)) or to ~= at + way + way then
      return "metamethods disagree"
    end
    at = setmetatable({ to[1] % 100000, to[2] % 1000 }, Vector)
    sum = mix(sum, double[x % 1000] + #(at .. way))
    double[i % 50 + 1] = i
  end
  return mix(sum, rawget(double, -1) or 0)
end

function jobs.buffer(n, seed)
  local out, x = buffer.new(), seed
  for _ = 1, n * 800 do
    x = step(x)
    out:put(x, ",")
  end
  local count, sum = 0, 0
  while #out > 0 do
    local digits = {}
    local char = out:get(1)
    while char ~= "," do
      digits[#digits + 1] = char
      char = out:get(1)
    end
    count, sum = count + 1, mix(sum, tonumber(concat(digits)))
  end
  local copy = buffer.decode(buffer.encode({ seed = seed, list = { 1, { 2 }, "three" } }))
  if count ~= n * 800 or copy.seed ~= seed or copy.list[2][1] ~= 2 or copy.list[3] ~= "three" then
    return "the buffer has lost something"
  end
  return sum
end

function jobs.concat(n, seed)
  local queue, x, sum = {}, seed, 0
  for i = 1, n * 2000 do
    x = step(x)
    insert(queue, x % 1000)
    if i % 3 == 0 then
      insert(queue, 1, i)
    end
    if #queue > 60 then
      sum = mix(sum, remove(queue, 1) + remove(queue))
    end
    if i % 40 == 0 then
      local text = concat(queue, ";")
      local parts = 0
      for part in text:gmatch("[^;]+") do
        parts = parts + 1
        sum = mix(sum, tonumber(part))
      end
      if parts ~= #queue then
        return "concat has lost a part"
      end
    end
  end
  return sum
end

--- The text of the bytes and body jobs.
---@param n integer
---@param seed integer
---@return string
local function text_of(n, seed)
  local parts, x = {}, seed
  for i = 1, n * 100 do
    x = step(x)
    parts[i] = ("%08x"):format(x)
  end
  return concat(parts)
end

--- A sum over all bytes of a text.
---@param text string
---@return number
local function sum_of(text)
  local hash = -2128831035
  for i = 1, #text do
    hash = rol(bxor(hash, text:byte(i)), 5) + i
    hash = bit.tobit(hash)
  end
  return hash % 4294967296
end

function jobs.bytes(n, seed)
  local text, sum = text_of(n, seed), 0
  for _ = 1, 400 do
    sum = mix(sum, sum_of(text))
  end
  return sum
end

local function fib(n)
  if n < 2 then
    return n
  end
  return fib(n - 1) + fib(n - 2)
end

local function is_even(n)
  if n == 0 then
    return true
  end
  return n == 1 and false or (n ~= 1 and is_even(n - 2))
end

local function depth_of(n)
  return n == 0 and 0 or 1 + depth_of(n - 1)
end

function jobs.recursion(n, seed)
  local sum = 0
  for i = 1, n * 12 do
    local k = (seed + i) % 5 + 15
    sum = mix(sum, fib(k))
    if is_even(k * 2) ~= true or depth_of(1000 + k) ~= 1000 + k then
      return "a call has lost its place"
    end
  end
  return sum
end

--- Empty loops, as the compiler likes them, and one that is all arithmetic.
function jobs.loops(n, seed)
  local x, rounds = seed, 0
  for _ = 1, n do
    for _ = 1, 400000 do end
    local i = 0
    while i < 20000 do
      i = i + 1
    end
    repeat
      i = i - 1
    until i == 0
    for _ = 1, 20000 do
      x = step(x)
    end
    rounds = rounds + 1
  end
  return rounds == n and x or "a loop has lost a round"
end

function jobs.garbage(n, seed)
  local kept, x, sum = {}, seed, 0
  for i = 1, n * 800 do
    x = step(x)
    local y = x
    local text = ("ab"):rep(y % 300) .. i
    kept[i % 37 + 1] = { text, { i, y }, function() return i + y end }
    local old = kept[(i * 7) % 37 + 1]
    if old then
      if old[3]() ~= old[2][1] + old[2][2] or #old[1] ~= old[2][2] % 300 * 2 + #tostring(old[2][1])
      then
        return "something live was collected"
      end
      sum = mix(sum, #old[1])
    end
  end
  return sum
end

function jobs.patterns(n, seed)
  local sum, x = 0, seed
  for i = 1, n * 300 do
    x = step(x)
    local line = ("%d-%s: %5.2f [%q]"):format(i, ("k"):rep(x % 9 + 1), x % 1000 / 4, "v" .. x)
    local number, key, value, quoted = line:match("^(%d+)%-(k+): +(%S+) %[\"(v%d+)\"%]$")
    if tonumber(number) ~= i or #key ~= x % 9 + 1 or tonumber(value) ~= x % 1000 / 4
      or quoted ~= "v" .. x then
      return "a match is wrong: " .. line
    end
    sum = mix(sum, #line + #line:upper():reverse():gsub("K", ""))
  end
  return sum
end

function jobs.closures(n, seed)
  local function counter(start)
    local value = start
    return function(...)
      for i = 1, select("#", ...) do
        value = (value + (select(i, ...))) % MODULUS
      end
      return value, unpack({ ... }, 1, select("#", ...))
    end
  end
  local count, x, sum = counter(seed), seed, 0
  for i = 1, n * 3000 do
    x = step(x)
    local value, a, b, c = count(x % 10, i, 3)
    if a ~= x % 10 or b ~= i or c ~= 3 then
      return "an argument is lost"
    end
    sum = mix(sum, value)
  end
  return sum
end

function jobs.sieve(n, seed)
  local limit, sum = n * 40000, seed % 1000
  local composite = {}
  for i = 2, limit do
    if not composite[i] then
      sum = mix(sum, i)
      for k = i * i, limit, i do
        composite[k] = true
      end
    end
  end
  return sum
end

function jobs.floats(n, seed)
  local inside, shift = 0, seed % 100 / 1000
  for i = 1, n * 200 do
    for k = 1, 20 do
      local cx, cy = -2 + 3 * ((i % 30) / 30) + shift, -1 + 2 * k / 20
      local x, y, round = 0, 0, 0
      while x * x + y * y <= 4 and round < 80 do
        x, y, round = x * x - y * y + cx, 2 * x * y + cy, round + 1
      end
      inside = inside + round
    end
  end
  return inside
end

--- The value of the reply route, and its text as JSON: arrays only, so that there is just one.
---@param n integer
---@param seed integer
---@return table
local function reply_value(n, seed)
  local list, x = {}, seed
  for i = 1, n * 40 do
    x = step(x)
    list[i] = { i, x, "text " .. x % 1000, { i % 2 == 0, "é" } }
  end
  return list
end

---@param n integer
---@param seed integer
---@return string
local function reply_text(n, seed)
  local list, x = {}, seed
  for i = 1, n * 40 do
    x = step(x)
    list[i] = ("[%d,%d,\"text %d\",[%s,\"é\"]]"):format(i, x, x % 1000, tostring(i % 2 == 0))
  end
  return "[" .. concat(list, ",") .. "]"
end

--- A sum over a value made of arrays, objects, texts, numbers and booleans.
---@param sum number what to begin with
---@param value any
---@return number
local function digest(sum, value)
  if type(value) == "number" then
    return mix(sum, value)
  elseif type(value) == "string" then
    return mix(sum, sum_of(value))
  elseif type(value) ~= "table" then
    return mix(sum, value == true and 1 or 2)
  elseif #value > 0 then
    for i = 1, #value do
      sum = digest(sum, value[i])
    end
    return sum
  end
  local names = {}
  for name in pairs(value) do
    names[#names + 1] = name
  end
  sort(names)
  for _, name in ipairs(names) do
    sum = digest(mix(sum, sum_of(name)), value[name])
  end
  return sum
end

--- What the jobs of waits.lua have as their results, without their waits.
---@type table<string, stress.Job>
local twins = {}

function twins.sleep(n, seed)
  local sum = 0
  for i = 1, n do
    sum = mix(mix(sum, jobs.sort(1, seed + i)), i)
  end
  return sum
end

function twins.tasks(n, seed)
  local sum = 0
  for i = 1, 4 do
    sum = mix(sum, jobs.gsub(n, seed + i))
    sum = mix(sum, jobs.generators(1, seed + i))
  end
  return sum
end

function twins.all(n, seed)
  local sum = 0
  for i = 1, 3 do
    sum = mix(sum, mix(jobs.recursion(n, seed + i), jobs.buffer(n, seed + i)))
  end
  return sum
end

function twins.json(n, seed)
  return digest(0, { list = reply_value(n, seed), name = "json", deep = { { { seed } } } })
end

function twins.atomic(n)
  return n * 4
end

function twins.context(n, seed)
  return mix(4 * 10, jobs.concat(n, seed))
end

return {
  jobs = jobs, twins = twins, step = step, mix = mix, text_of = text_of, sum_of = sum_of,
  digest = digest, reply_value = reply_value, reply_text = reply_text,
}
