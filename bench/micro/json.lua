--- Compares perilune.json with lua-cjson on four documents: CPU time for one
--- document, medians over rounds in which both take turns.
---
--- Run inside the runtime (it needs the core's functions). Arguments: how many
--- rounds (default 15), how many ms of CPU per measurement (default 40).

local cjson = require("cjson").new()
local json = require("perilune.json")

local clock, floor = os.clock, math.floor
local ROUNDS, SLOT_S = tonumber(arg and arg[1]) or 15, (tonumber(arg and arg[2]) or 40) / 1000

cjson.encode_number_precision(14)

--- The documents differ from each other, but not from run to run.
local seed = 42
local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return floor(seed / 65536) % n + 1
end

local function word()
  local letters = {}
  for i = 1, random(8) + 3 do
    letters[i] = string.char(96 + random(26))
  end
  return table.concat(letters)
end

local function text(words)
  local list = {}
  for i = 1, words do
    list[i] = word()
  end
  return table.concat(list, " ")
end

local function fields()
  return {
    id = random(100000),
    name = text(2),
    email = word() .. "@" .. word() .. ".example",
    active = true,
    score = random(1000) / 4,
    note = "a \"quoted\" line\nand another",
    tags = json.array({ word(), word(), word() }),
    created = "2026-01-01T00:00:00Z",
    count = random(100),
    parent = json.null,
  }
end

local function kilobyte()
  local t = fields()
  for i = 1, 8 do
    t["field_" .. i] = text(11)
  end
  return t
end

local function numbers()
  local t = {}
  for i = 1, 1000 do
    t[i] = i % 2 == 0 and random(30000) or random(30000) / 100
  end
  return t
end

local function nested()
  local t = {}
  for i = 1, 100 do
    local items = { fields(), fields(), fields(), fields() }
    t["group " .. i] = { title = text(3), items = items, at = { i, i / 2 } }
  end
  return t
end

local DOCUMENTS = {
  { "object of 1 KB", kilobyte() },
  { "object of 10 fields", fields() },
  { "array of 1000 numbers", numbers() },
  { "nested, 100 KB", nested() },
}

local function run(f, x, times)
  for _ = 1, times do
    f(x)
  end
end

--- CPU ns for one call.
local function measure(f, x, times)
  collectgarbage()
  collectgarbage()
  local begin = clock()
  run(f, x, times)
  return (clock() - begin) / times * 1e9
end

local function median(list)
  table.sort(list)
  return list[floor(#list / 2) + 1]
end

--- How many calls fill a measurement; warms `f` up on the way.
local function calibrate(f, x)
  local times = 1
  while true do
    local begin = clock()
    run(f, x, times)
    local taken = clock() - begin
    if taken >= SLOT_S / 4 then
      return floor(times * SLOT_S / taken) + 1
    end
    times = times * 2
  end
end

local function compare(what, name, ours, theirs, x)
  local times = { calibrate(ours, x), calibrate(theirs, x) }
  local mine, other = {}, {}
  for round = 1, ROUNDS do
    if round % 2 == 0 then
      mine[round] = measure(ours, x, times[1])
      other[round] = measure(theirs, x, times[2])
    else
      other[round] = measure(theirs, x, times[2])
      mine[round] = measure(ours, x, times[1])
    end
  end
  local a, b = median(mine), median(other)
  print(("%-7s %-32s perilune %9.0f ns   lua-cjson %9.0f ns   ratio %.2f"):format(
    what, name, a, b, a / b))
end

print(("%s, median of %d rounds, CPU time of one document"):format(jit.version, ROUNDS))
for _, document in ipairs(DOCUMENTS) do
  local name, value = document[1], document[2]
  local encoded = json.encode(value)
  compare("decode", name .. (" (%d B)"):format(#encoded), json.decode, cjson.decode, encoded)
  compare("encode", name, json.encode, cjson.encode, value)
end
