--- Kinds of work that need Perilune: waits and tasks mixed with computing, JSON, what the tasks of
--- a request share, what all requests share. Each has the result of its twin in jobs.lua, or says
--- what is wrong.

local P = require("perilune")
local stress = require("jobs")

local jobs, mix = stress.jobs, stress.mix

---@type table<string, fun(n: integer, seed: integer, c: perilune.Context): number|string>
local M = {}

--- Sums that all requests of the worker change, by P.atomic only.
---@class stress.Totals
---@field owed integer deferred calls that were registered
---@field deferred integer deferred calls that were made
---@field violations integer of what P.atomic promises
M.totals = { owed = 0, deferred = 0, violations = 0 }
local totals = M.totals

local ACCOUNTS, BALANCE = 16, 1000
local accounts, inside = {}, 0
for i = 1, ACCOUNTS do
  accounts[i] = BALANCE
end

local waiting = {}

--- Sorts between sleeps, half of it in a generator: the sleep of an inner coroutine.
function waiting.sleep(n, seed)
  local results = coroutine.wrap(function()
    for i = 1, n do
      if i % 2 == 0 then
        P.sleep(i % 3 / 1000)
      end
      coroutine.yield(i, jobs.sort(1, seed + i))
    end
  end)
  local sum = 0
  for _ = 1, n do
    local i, result = results()
    if i % 3 == 0 then
      P.sleep(0)
    end
    sum = mix(mix(sum, result), i)
  end
  return sum
end

function waiting.tasks(n, seed)
  local tasks, sum = {}, 0
  for i = 1, 4 do
    tasks[i] = P.spawn(function(k)
      local first = jobs.gsub(n, seed + k)
      P.sleep(k % 2 / 1000)
      return first, jobs.generators(1, seed + k)
    end, i)
  end
  for i = 1, 4 do
    local first, second = tasks[i]:wait()
    if not first then
      return "a task has failed: " .. tostring(second)
    end
    sum = mix(mix(sum, first), second)
  end
  return sum
end

--- P.all within P.all; errors that are caught in between.
function waiting.all(n, seed)
  local function pair(i)
    local a, b = P.all({ { jobs.recursion, n, seed + i }, { jobs.buffer, n, seed + i } })
    local ok, err = pcall(P.all, { { error, "wanted" }, { P.sleep, 10 } })
    if ok or err ~= "wanted" then
      return "P.all has lost an error: " .. tostring(err)
    end
    return mix(a, b)
  end
  local sum = 0
  for _, value in ipairs({ P.all({ { pair, 1 }, { pair, 2 }, { pair, 3 } }) }) do
    if type(value) == "string" then
      return value
    end
    sum = mix(sum, value)
  end
  return sum
end

function waiting.json(n, seed)
  local value = {
    list = stress.reply_value(n, seed), name = "json", deep = { { { seed } } },
  }
  local text = P.json.encode(value)
  local copy, err = P.json.decode(text)
  if not copy then
    return "what was encoded cannot be decoded: " .. err
  end
  local again = P.json.decode(P.json.encode(copy))
  if stress.digest(0, again) ~= stress.digest(0, copy) then
    return "encoding has changed a value"
  end
  return stress.digest(0, copy)
end

--- One step of several: nobody else may see or do anything in between.
local function transfer(from, to, amount)
  local sum = 0
  inside = inside + 1
  accounts[from] = accounts[from] - amount
  for i = 1, 300000 do
    sum = sum + i % 3
  end
  accounts[to] = accounts[to] + amount
  for i = 1, ACCOUNTS do
    sum = sum + accounts[i]
  end
  if inside ~= 1 or sum ~= 300000 + ACCOUNTS * BALANCE then
    totals.violations = totals.violations + 1
  end
  inside = inside - 1
  return totals.violations
end

function waiting.atomic(n, seed)
  local x = seed
  for _ = 1, n * 4 do
    x = stress.step(x)
    if P.atomic(transfer, x % ACCOUNTS + 1, (x + 5) % ACCOUNTS + 1, x % 50) ~= 0 then
      return "P.atomic was interrupted"
    end
  end
  return n * 4
end

local function count(name, amount)
  P.atomic(function()
    totals[name] = totals[name] + amount
  end)
end

--- Four tasks that use the context of their request at the same time.
function waiting.context(n, seed, c)
  local tasks, left = {}, 0
  for i = 1, 4 do
    tasks[i] = P.spawn(function()
      for k = 1, 10 do
        c:defer(count, "deferred", 1)
        c.data[i * 100 + k] = true
        jobs.concat(1, seed + k)
      end
    end)
  end
  local own = jobs.concat(n, seed)
  for i = 1, 4 do
    local _, err = tasks[i]:wait()
    if err then
      return "a task has failed: " .. err
    end
  end
  for _ in pairs(c.data) do
    left = left + 1
  end
  count("owed", 40)
  return mix(left, own)
end

M.jobs = waiting

return M
