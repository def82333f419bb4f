-- bench/apps/log/app.lua - an app that logs, for bench/log.lua.

local P = require("perilune")
local cjson = require("cjson").new()
local ffi = require("ffi")

ffi.cdef([[
struct perilune_bench_time { long sec, nsec; };
int clock_gettime(int clock, struct perilune_bench_time *out);
]])

local CLOCK_MONOTONIC = 1
local DRAIN_S = 0.03 -- in which the log writes a batch of calls
local at = ffi.new("struct perilune_bench_time")
local issued = { debug = 0, info = 0, warn = 0, error = 0 } -- records
local app = P.app({ title = "Log" })

local function now_ns()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, at)
  return tonumber(at.sec) * 1e9 + tonumber(at.nsec)
end

local out = assert(io.open("/dev/null", "w"))
out:setvbuf("full", 65536)

-- One call each, with five fields: a whole number, two texts, a boolean and a fraction.
local WAYS = {}

function WAYS.pairs(path, count)
  for i = 1, count do
    P.log.info("note saved", "id", i, "path", path, "by", "somebody", "fresh", true, "share", 0.5)
  end
end

function WAYS.table(path, count)
  for i = 1, count do
    P.log.info("note saved", { id = i, path = path, by = "somebody", fresh = true, share = 0.5 })
  end
end

function WAYS.bare(_, count)
  for _ = 1, count do
    P.log.info("note saved")
  end
end

function WAYS.below(path, count) -- log.level
  for i = 1, count do
    P.log.debug("note saved", "id", i, "path", path, "by", "somebody", "fresh", true, "share", 0.5)
  end
end

function WAYS.cjson(path, count)
  for i = 1, count do
    out:write(cjson.encode({ time = P.now(), level = "info", msg = "note saved", id = i,
      path = path, by = "somebody", fresh = true, share = 0.5 }), "\n")
  end
end

--- `batches` times `count` calls: the time of the median batch, and the bytes allocated, a call.
app:get("/call/:way", { timeout = "10m" }, function(c, way)
  local call, path = WAYS[way], c.path
  local count, batches = tonumber(c:query("count")), tonumber(c:query("batches"))
  local times, bytes = {}, 0
  call(path, count)
  if way == "pairs" then
    issued.info = issued.info + count * (batches + 1)
  end
  for i = 1, batches do
    P.sleep(DRAIN_S)
    local before = collectgarbage("count")
    local from = now_ns()
    call(path, count)
    times[i] = (now_ns() - from) / count
    bytes = bytes + (collectgarbage("count") - before) * 1024
  end
  table.sort(times)
  return { ns = times[math.ceil(batches / 2)], ns_p99 = times[math.ceil(batches * 0.99)],
    bytes = bytes / batches / count }
end)

local function issue(level, count, path)
  local log = P.log[level]
  for i = 1, count do
    log("a step", "id", i, "path", path, "by", "somebody", "fresh", true, "share", 0.5)
  end
  issued[level] = issued[level] + count
end

--- 400 records, one of them an error.
app:get("/burst", function(c)
  issue("debug", 100, c.path)
  issue("info", 200, c.path)
  issue("warn", 99, c.path)
  issue("error", 1, c.path)
  return "ok"
end)

app:get("/issued", function()
  return issued
end)

return app
