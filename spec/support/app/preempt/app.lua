-- Handlers that a server should not survive, for spec/system: each computes, allocates or nests
-- without end in a way of its own.

local P = require("perilune")
local ffi = require("ffi")

ffi.cdef([[
void qsort(void *base, size_t count, size_t bytes, int (*compare)(const void *, const void *));
]])

local app = P.app()

app:get("/", function() return "hello" end)
app:get("/sleep/:ms<int>", function(_, ms)
  P.sleep(ms / 1000)
  return "slept"
end)

-- Without end -------------------------------------------------------------------

local function forever()
  while true do end
end

local function work()
  local x = 0
  for i = 1, 1000 do
    x = x + i
  end
  return x
end

local ways = {}

ways.loop = forever

function ways.calls()
  while true do
    work()
  end
end

ways["pcall"] = function()
  pcall(forever)
  return "survived"
end

ways["pcall-loop"] = function()
  while true do
    pcall(work)
  end
end

ways["pcall-nest"] = function()
  local function nest(depth)
    while true do
      pcall(depth > 0 and nest or forever, depth - 1)
    end
  end
  nest(20)
end

ways["xpcall-loop"] = function()
  while true do
    xpcall(work, function() return work() end)
  end
end

function ways.wrap()
  for _ in coroutine.wrap(function()
    while true do
      work()
      coroutine.yield(1)
    end
  end) do
    work()
  end
end

ways["wrap-inside"] = function()
  coroutine.wrap(function()
    coroutine.wrap(forever)()
  end)()
end

function ways.sort()
  table.sort({ 3, 2, 1 }, forever)
end

ways["sort-pcall"] = function()
  table.sort({ 3, 2, 1 }, function()
    while true do
      pcall(forever)
    end
  end)
end

ways["sort-wrap"] = function()
  table.sort({ 3, 2, 1 }, function()
    coroutine.wrap(forever)()
  end)
end

function ways.gsub()
  return (("x"):gsub("x", forever))
end

function ways.callback()
  local compare = ffi.cast("int (*)(const void *, const void *)", function()
    forever()
    return 0
  end)
  ffi.C.qsort(ffi.new("int[4]"), 4, 4, compare)
end

function ways.index()
  return setmetatable({}, { __index = forever }).x
end

function ways.format()
  return tostring(setmetatable({}, { __tostring = forever }))
end

function ways.garbage()
  while true do
    work({})
  end
end

function ways.tasks()
  while true do
    P.spawn(P.sleep, 100)
  end
end

function ways.atomic()
  P.atomic(forever)
end

ways["load"] = function()
  while true do
    load(forever)
  end
end

ways["message-handler"] = function()
  while true do
    xpcall(forever, forever)
  end
end

ways["message-handler-pcall"] = function()
  xpcall(error, function()
    while true do
      pcall(forever)
    end
  end)
end

ways["task-tree"] = function()
  local function grow()
    for _ = 1, 10 do
      P.spawn(grow)
    end
    forever()
  end
  grow()
end

ways["task-chain"] = function()
  local function chain()
    P.spawn(chain)
    forever()
  end
  chain()
end

ways["task-error"] = function()
  while true do
    P.spawn(function()
      error(setmetatable({}, { __tostring = forever }))
    end):wait()
  end
end

for name, way in pairs(ways) do
  app:get("/forever/" .. name, { timeout = "500ms" }, way)
  app:get("/long/" .. name, { timeout = "4s" }, way)
  app:get("/stay/" .. name, way)
end

-- Ends a task by an error inside a C function that LuaJIT runs protected.
app:get("/load-in-task", function()
  P.spawn(load, forever)
  P.sleep(0.05)
  return "answered"
end)

-- A wait that cannot be: between it and its root a C function runs.
app:get("/wait-in-sort", function()
  local seen = {}
  local function compare(a, b)
    local ok, err = pcall(coroutine.wrap(function() P.sleep(0.02) end))
    seen[1] = tostring(ok) .. " " .. tostring(err)
    return a < b
  end
  for _ = 1, 5 do
    P.spawn(table.sort, { 3, 2, 1 }, compare):wait()
  end
  P.sleep(0.05)
  assert(P.spawn(work))
  return seen[1]
end)

app:get("/flood", { timeout = "500ms" }, function()
  while true do
    P.detach("spinner", forever)
  end
end)

-- What a deadline leaves ----------------------------------------------------------

local seen = {}

app:get("/seen", function()
  local list = seen
  seen = {}
  return table.concat(list, " ")
end)

local function see(what)
  seen[#seen + 1] = what
end

app:get("/tidy", { timeout = "300ms" }, function(c)
  c:defer(see, "deferred")
  P.spawn(function()
    local ok, err = pcall(P.sleep, 60)
    see("waiting:" .. tostring(ok) .. ":" .. tostring(err))
  end)
  P.spawn(function()
    local ok, err = pcall(forever)
    see("computing:" .. tostring(ok) .. ":" .. tostring(err))
  end)
  forever()
end)

app:get("/tidy-stubborn", { timeout = "300ms" }, function(c)
  c:defer(see, "deferred")
  P.spawn(ways["pcall-nest"])
  ways["pcall-nest"]()
end)

app:get("/stream", { timeout = "300ms" }, function(c)
  return c:stream(function(out)
    out:write("begun")
    forever()
  end)
end)

app:get("/left-behind", function()
  P.spawn(forever)
  return "answered"
end)

app:get("/in-on-error", { timeout = "300ms" }, function() error("first") end)
app:on_error(function(c)
  if c.path == "/in-on-error" then
    forever()
  end
end)

app:get("/detach", function()
  P.detach("spinner", forever)
  return "detached"
end)

-- Right results -------------------------------------------------------------------

app:get("/sum", function()
  local function upto(n)
    return coroutine.wrap(function()
      local x = 0
      for i = 1, n do
        x = x + i
        if i % 1e6 == 0 then
          coroutine.yield(x)
        end
      end
    end)
  end
  local outer = coroutine.wrap(function()
    for x in upto(3e7) do
      coroutine.yield(x)
      coroutine.yield()
    end
  end)
  local last, count, empty = 0, 0, 0
  while true do
    local x = outer()
    if x then
      last, count = x, count + 1
    else
      empty = empty + 1
      if count == 30 and empty == 30 then
        break
      end
    end
  end
  return { last = last, count = count, empty = empty }
end)

app:get("/sorted", function()
  local list, x = {}, 1
  for i = 1, 30000 do
    x = (x * 16807) % 2147483647
    list[i] = x
  end
  table.sort(list, function(a, b)
    for _ = 1, 20 do
      x = x + 1
    end
    return a < b
  end)
  for i = 2, #list do
    if list[i - 1] > list[i] then
      return "wrong at " .. i
    end
  end
  return "sorted"
end)

local balance = { a = 1000, b = 0 }

local function move()
  local a = balance.a
  work()
  for _ = 1, 2000 do
    work()
  end
  balance.a = a - 1
  balance.b = balance.b + 1
end

app:get("/move", function()
  P.atomic(move)
  return balance
end)

app:get("/atomic-error", function()
  local ok, err = pcall(P.atomic, function() error({ code = 7 }) end)
  local others = false
  P.spawn(function() others = true end)
  for _ = 1, 100000 do -- preempted again, so that the task gets to run
    work()
    if others then
      break
    end
  end
  return { ok = ok, code = err.code, others = others }
end)

-- Refused -------------------------------------------------------------------------

app:get("/sethook", function()
  local ok, err = pcall(debug.sethook, function() end, "c")
  return { ok = ok, err = err }
end)

app:get("/profiler", function()
  local ok, err = pcall(function() require("jit.p").start("f") end)
  return { ok = ok, err = err }
end)

-- Nesting and memory ----------------------------------------------------------------

app:get("/recursion", function()
  local function f()
    return 1 + f()
  end
  return f()
end)

app:get("/coroutines", function()
  local function f()
    return coroutine.wrap(f)()
  end
  return f()
end)

local function hoard()
  local list
  while true do
    list = { list }
  end
end

app:get("/hoard", hoard)
app:get("/hoard-sorted", function() table.sort({ 2, 1 }, hoard) end)
app:get("/hoard-atomic", function() P.atomic(hoard) end)
app:get("/hoard-detached", function()
  P.detach("hoarder", hoard)
  return "detached"
end)

app:get("/hold/:mb<int>", function(c, mb)
  local list = {}
  for i = 1, mb * 16 do
    list[i] = ("x"):rep(65536) .. c.id .. i -- of its own: equal strings are one
  end
  P.sleep(15)
  return "held " .. #list
end)

app:get("/litter/:mb<int>", function(_, mb)
  for i = 1, mb * 16 do
    local _ = ("x"):rep(65536) .. i
  end
  return "littered"
end)

return app
