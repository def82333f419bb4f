-- bench/heap.lua - what sampling allocations costs, and how true the profile is.
--
-- Usage: luajit bench/heap.lua [--rounds N] [--count N] [--perilune FILE]
--
-- Cost: allocations of each kind in compiled code, best of ten batches, by turns on two servers:
-- one that samples every 512 KiB, and one with vm.heap_sample=0; the CPU time of the worker's
-- thread. Differences below the noise of the machine say nothing but that.
--
-- Truth: some three gigabytes each of tables, arrays and strings in known numbers; then what
-- `go tool pprof` tells by line. That is 6,000 samples and more: a standard deviation of 1.3 %.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("heap", [[
usage: luajit bench/heap.lua [--rounds N] [--count N] [--perilune FILE]
]])
local statistics = require("statistics")
local fail = script.fail

local PORT = 18796
local PATIENCE_S = 60
local BATCHES = 10
local KINDS = { "table", "array", "string", "hash" }
-- Of the mix: how many, the line of app.lua, and bytes of one (LuaJIT's own objects).
local MIX = {
  { kind = "table", count = 5e7, line = 13, bytes = 64 },
  { kind = "array", count = 4e7, line = 19, bytes = 88 },
  { kind = "string", count = 1.5e6, line = 26, bytes = nil }, -- by length, see below
}

local function fetch(port, target, file)
  local argv = { "curl", "-sSf", "-m", tostring(PATIENCE_S) }
  if file then
    argv[#argv + 1], argv[#argv + 2] = "-o", file
  end
  argv[#argv + 1] = ("http://127.0.0.1:%d%s"):format(port, target)
  return process.run(argv, PATIENCE_S)
end

local function start(side, place)
  side.home = place.home .. "/" .. side.name
  process.make_folder(side.home)
  side.pid = process.start({ output = side.home .. "/output", env = { XDG_RUNTIME_DIR = side.home },
    argv = { place.perilune, "run", place.source .. "/apps/heap", "--listen",
      "127.0.0.1:" .. side.port, "--workers", "1", "--name", "heap-" .. side.port,
      "--set", "vm.heap_sample=" .. side.mean, "--set", "log.access=false",
      "--set", "timeouts.handler=10m", "--set", "admin.listen=127.0.0.1:" .. side.port + 10 } })
  local due = process.now() + PATIENCE_S
  while not fetch(side.port, "/table?count=1") do
    if process.now() > due or not process.is_running(side.pid) then
      fail("%s did not start", side.name)
    end
    process.sleep(0.05)
  end
end

local function measure(side, kind, opts)
  local ok, body = fetch(side.port, ("/%s?count=%d&batches=%d"):format(kind, opts.count, BATCHES))
  local ns = ok and tonumber(body:match('"ns":([%d.e+-]+)'))
  return ns or fail("%s: /%s: %s", side.name, kind, body)
end

local function cost(place, opts)
  local sides = { { name = "off", mean = "0", port = PORT },
    { name = "on", mean = "512K", port = PORT + 1 } }
  local samples = { off = {}, on = {} }
  for _, side in ipairs(sides) do
    start(side, place)
  end
  for round = 1, opts.rounds do
    for turn = 0, 1 do
      local side, figures = sides[(round + turn) % 2 + 1], {}
      for _, kind in ipairs(KINDS) do
        figures[kind] = measure(side, kind, opts)
      end
      table.insert(samples[side.name], figures)
    end
  end
  local off, on = statistics.medians(samples.off), statistics.medians(samples.on)
  print("| an allocation | ns, not sampled | ns, every 512 KiB |")
  print("|---|---:|---:|")
  for _, kind in ipairs(KINDS) do
    print(("| %s | %.1f | %.1f |"):format(kind, off[kind], on[kind]))
  end
  for _, side in ipairs(sides) do
    process.stop(side.pid)
  end
end

--- 24 bytes, the text, and a zero, in steps of 4: 2,000 times "x" and a number. What
--- LuaJIT keeps strings in grows now and then: some millions of bytes more, at the same line.
local function string_bytes(count)
  local sum, from = 0, 1
  for digits = 1, 9 do
    local last = math.min(count, 10 ^ digits - 1)
    if last >= from then
      sum = sum + (last - from + 1) * (24 + math.floor((2000 + digits + 4) / 4) * 4)
      from = last + 1
    end
  end
  return sum
end

local function truth(place)
  local side = { name = "truth", mean = "512K", port = PORT + 2 }
  local file = place.home .. "/allocs"
  start(side, place)
  for _, part in ipairs(MIX) do
    if not fetch(side.port, ("/%s?count=%d"):format(part.kind, part.count)) then
      fail("/%s failed", part.kind)
    end
  end
  if not fetch(side.port + 10, "/debug/pprof/allocs", file) then
    fail("there is no profile")
  end
  local ok, out = process.run({ "go", "tool", "pprof", "-top", "-lines", "-unit=B",
    "-nodefraction=0", file }, PATIENCE_S)
  if not ok then
    fail("go tool pprof: %s", out)
  end
  print("\n| what | bytes | the profile says | difference |")
  print("|---|---:|---:|---:|")
  for _, part in ipairs(MIX) do
    local bytes = part.bytes and part.bytes * part.count or string_bytes(part.count)
    local told = 0
    for flat, line in out:gmatch("\n%s*([%d.]+)B[^\n]-app%.lua:(%d+)%s*%f[\n]") do
      told = tonumber(line) == part.line and told + tonumber(flat) or told
    end
    print(("| %d of /%s | %.0f | %.0f | %+.1f %% |"):format(part.count, part.kind, bytes, told,
      (told / bytes - 1) * 100))
  end
  process.stop(side.pid)
end

local function main()
  local opts = script.parse({ numbers = {
    rounds = { 5, 1, 100 }, count = { 200000, 1000, 10000000 },
  } })
  local place = { source = script.source, home = process.make_temp_folder(),
    perilune = opts.perilune }
  cost(place, opts)
  truth(place)
  process.run({ "rm", "-rf", place.home }, 20)
end

main()
