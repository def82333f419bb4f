-- The stress of preemption: jobs that compute, wait and share state, with results that say whether
-- anything went wrong; and the handlers that never end.

local P = require("perilune")
local ffi = require("ffi")
local stress = require("jobs")
local waits = require("waits")

if not pcall(function() return ffi.C.getpid end) then
  ffi.cdef("int getpid(void);")
end

local app = P.app({ title = "Stress" })

local function size_and_seed(c)
  return tonumber(c:query("n") or 1), tonumber(c:query("seed") or 1)
end

local function job_named(name)
  return stress.jobs[name] or waits.jobs[name]
end

-- The result as text: a number, or what was wrong.
app:get("/job/:name", function(c, name)
  local job = job_named(name)
  if not job then
    return c:problem(404)
  end
  local n, seed = size_and_seed(c)
  local result = job(n, seed, c)
  return type(result) == "number" and ("%.0f"):format(result) or result
end)

-- The same again and again, until the deadline ends it.
app:get("/late/:name", { timeout = "100ms" }, function(c, name)
  local job = job_named(name)
  local n, seed = size_and_seed(c)
  while job do
    job(n, seed, c)
  end
  return c:problem(404)
end)

-- JSON: small answers are encoded in C, large ones in Lua.
app:get("/reply", function(c)
  return stress.reply_value(size_and_seed(c))
end)

-- The handler and its tasks read the same body.
app:post("/body", function(c)
  local function sum()
    return stress.sum_of(c:body())
  end
  local own, a, b = P.all({ { sum }, { sum }, { sum } })
  if own ~= a or own ~= b or own ~= sum() then
    return "the body differs from task to task"
  end
  return ("%.0f"):format(own)
end)

app:get("/quick", function()
  return "quick"
end)

-- The process that answers, after some milliseconds.
app:get("/pid", function(c)
  local ms = tonumber(c:query("ms") or 0)
  if ms > 0 then
    P.sleep(ms / 1000)
  end
  return tostring(ffi.C.getpid())
end)

-- What must hold when nothing runs any more.
app:get("/totals", function()
  return waits.totals
end)

app:get("/spin", { timeout = "1s" }, function()
  while true do end
end)

app:get("/spin-pcall", { timeout = "1s" }, function()
  while true do
    pcall(stress.jobs.recursion, 1, 7)
  end
end)

return app
