--- Profiles of memory, by the eyes of `go tool pprof`.

local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

-- What the lines of APP take, by what LuaJIT's objects do (core/test/vm/test_allocations.c).
local TABLE, ARRAY, HASH = 64, 88, 48
local ROUNDS = 3000000
local FILLED = 1000000 * ARRAY + 1048576 * 8 -- and the array that holds them

local APP = [==[
local P = require "perilune"
local app = P.app {}
local kept = {}
local function array(i)
  return { i, i }
end
local function mix(rounds)
  local sum = 0
  for i = 1, rounds do
    local t = {}
    t.x = i
    kept[i % 100] = t
    kept[i % 100 + 100] = array(i)
  end
  return sum
end
app:get("/mix", function(c)
  mix(3000000)
  return "done"
end)
app:get("/fill", function(c)
  kept.all = {}
  for i = 1, 1000000 do
    kept.all[i] = { i, i }
  end
  return "filled"
end)
for i = 1, 100 do
  app:get("/compiled" .. i, load([[return function(c)
    local last
    for i = 1, 1000 do
      last = { i, n = { i } }
    end
    return "done"
  end]])())
end
local steps = {}
for i = 1, 60 do
  steps[i] = ("if x %% %d == 1 then x = (x * %d + y) %% 1000003 end"):format(i + 2, i)
end
local code = "local x, y = ... for i = 1, 200 do " .. table.concat(steps, "\n") .. " end return x"
app:get("/compile", function(c)
  for i = 1, 300 do
    loadstring(code)(i, 7) -- many traces of many instructions, and nothing that allocates
  end
  return "compiled"
end)
app:get("/drop", function(c)
  kept.all = nil
  return "dropped"
end)
return app
]==]
local LINE_TABLE, LINE_ARRAY, LINE_HASH, LINE_FILL = 10, 5, 11, 24

--- One worker; `mean` bytes between samples: the fewer the more exact, but a heap of garbage must
--- find room for its samples (fabric/heap_samples.h).
local function start(mean)
  local folder = process.folder({ ["app.lua"] = APP })
  local p = process.start({ "run", folder, "--listen", "127.0.0.1:0", "--workers", "1",
    "--set", "admin.listen=127.0.0.1:0", "--set", "vm.heap_sample=" .. (mean or "16K"),
    "--set", "log.access=false" }, { env = { XDG_RUNTIME_DIR = process.folder() } })
  local line = p:wait_for("err", "serving ([^\n]*admin plane on [^\n]+)\n")
  assert.is_truthy(line, p:err())
  local port, admin = line:match("http://127%.0%.0%.1:(%d+).*:(%d+)$")
  return { process = p, port = tonumber(port), admin = tonumber(admin), folder = folder }
end

local function ask(s, target, expected)
  assert.equal(expected, wire.ask(s.port, "GET", target).body)
end

--- What `go tool pprof` prints about a profile; it must have nothing against it.
local function pprof(s, target, args)
  local argv = { "go", "tool", "pprof" }
  for _, arg in ipairs(args) do
    argv[#argv + 1] = arg
  end
  argv[#argv + 1] = ("http://127.0.0.1:%d%s"):format(s.admin, target)
  local home = process.folder()
  local p = process.spawn(argv, { env = { PPROF_TMPDIR = home, HOME = home } })
  local code = p:wait(60)
  assert.equal(0, code, p:err())
  return p:out()
end

--- Bytes by line of the app: of what was allocated, or with `in_use` of what lives.
local function lines_of(s, target, in_use)
  local out = pprof(s, target, { "-top", "-lines", "-unit=B", "-nodecount=500", "-nodefraction=0",
    "-sample_index=" .. (in_use and "inuse_space" or "alloc_space") })
  local lines = {}
  for flat, line in out:gmatch("\n%s*(%-?[%d.]+)B[^\n]-app%.lua:(%d+)%s*%f[\n]") do
    lines[tonumber(line)] = (lines[tonumber(line)] or 0) + tonumber(flat)
  end
  return lines, out
end

local function near(expected, actual, share)
  assert.is_true(math.abs((actual or 0) - expected) <= share * expected,
    ("%s bytes, not %s"):format(tostring(actual), expected))
end

local function worker_of(s)
  for _, pid in ipairs(process.children(s.process.pid)) do
    local file = io.open("/proc/" .. pid .. "/comm")
    local name = file and file:read("*l")
    if file then
      file:close()
    end
    if name ~= "perilune-ctl" then
      return pid
    end
  end
end

describe("profiles of memory", function()
  after_each(process.cleanup)

  it("tell a known mix of allocations by line, within 5 %, with compiled code", function()
    local s = start()
    ask(s, "/mix", "done")
    local lines = lines_of(s, "/debug/pprof/allocs")
    near(ROUNDS * TABLE, lines[LINE_TABLE], 0.05)
    near(ROUNDS * ARRAY, lines[LINE_ARRAY], 0.05)
    near(ROUNDS * HASH, lines[LINE_HASH], 0.05)
  end)

  it("tell what LuaJIT's compiler takes as the compiler's, not as the code's", function()
    local s = start()
    ask(s, "/compile", "compiled")
    local out = pprof(s, "/debug/pprof/allocs", { "-top", "-unit=B", "-nodecount=500",
      "-nodefraction=0", "-sample_index=alloc_space" })
    local compiler = tonumber(out:match("\n%s*([%d.]+)B[^\n]-%(compiler%)"))
    local code = 0
    for flat in out:gmatch("\n%s*([%d.]+)B[^\n]-%[string \"local x, y") do
      code = code + tonumber(flat)
    end
    assert.is_true((compiler or 0) > 5e6, out)
    assert.is_true(code < compiler, out)
  end)

  it("have in use what lives, and no longer what was freed", function()
    local s = start()
    ask(s, "/fill", "filled")
    near(FILLED, lines_of(s, "/debug/pprof/heap?gc=1", true)[LINE_FILL], 0.1)
    ask(s, "/drop", "dropped")
    assert.is_true((lines_of(s, "/debug/pprof/heap?gc=1", true)[LINE_FILL] or 0) < FILLED / 20)
    assert.is_true(lines_of(s, "/debug/pprof/allocs")[LINE_FILL] > 1000000 * ARRAY * 0.9)
  end)

  it("have labels for worker and kind, and all kinds of memory", function()
    local s = start()
    ask(s, "/fill", "filled")
    process.sleep(1.5) -- a worker tells of its heap once a second
    local tags = pprof(s, "/debug/pprof/heap", { "-tags" })
    -- libc's allocator, which sanitized builds use, tells no sums of C's memory
    local has_sums = process.run({ "version", "--json" }).out:find("jemalloc", 1, true) ~= nil
    for _, kind in ipairs(has_sums and { "lua", "c", "fabric" } or { "lua", "fabric" }) do
      assert.is_truthy(tags:find(": " .. kind .. "\n", 1, true), tags)
    end
    assert.is_truthy(tags:find("worker: Total", 1, true), tags)
    local top = pprof(s, "/debug/pprof/heap", { "-top", "-nodefraction=0" })
    assert.is_truthy(top:find("(fabric: heap.0)", 1, true), top)
    assert.equal(has_sums, top:find("(C heap)", 1, true) ~= nil, top)
    assert.is_truthy(top:find("Type: inuse_space", 1, true), top)
    top = pprof(s, "/debug/pprof/allocs", { "-top" })
    assert.is_truthy(top:find("Type: alloc_space", 1, true), top)
  end)

  it("are of some seconds only when asked", function()
    local s = start()
    ask(s, "/mix", "done")
    local folder = process.folder()
    local curl = process.spawn({ "curl", "-sSf", "-o", folder .. "/p",
      ("http://127.0.0.1:%d/debug/pprof/allocs?seconds=3"):format(s.admin) })
    process.sleep(1)
    ask(s, "/fill", "filled")
    assert.equal(0, curl:wait(30), curl:err())
    local p = process.spawn({ "go", "tool", "pprof", "-top", "-lines", "-nodefraction=0",
      folder .. "/p" }, { env = { HOME = process.folder() } })
    assert.equal(0, p:wait(60), p:err())
    assert.is_truthy(p:out():find("app.lua:" .. LINE_FILL, 1, true), p:out())
    assert.is_nil(p:out():find("app.lua:" .. LINE_TABLE .. "\n", 1, true), p:out())
    assert.equal(400, wire.ask(s.admin, "GET", "/debug/pprof/heap?seconds=x").status)
    assert.equal(400, wire.ask(s.admin, "GET", "/debug/pprof/heap?format=svg").status)
    assert.equal(200, wire.ask(s.admin, "GET", "/debug/pprof/heap?format=pprof").status)
  end)

  it("are there while the worker hangs, and when it was killed with -9", function()
    local s = start("64K")
    ask(s, "/mix", "done")
    ask(s, "/fill", "filled")
    local worker = assert(worker_of(s))
    s.process:kill("STOP") -- the master: it would start another worker
    process.signal(worker, "STOP")
    local hanging = lines_of(s, "/debug/pprof/heap", true)
    process.signal(worker, "KILL")
    process.sleep(0.2)
    local dead, out = lines_of(s, "/debug/pprof/heap", true)
    s.process:kill("CONT")
    assert.is_true(hanging[LINE_FILL] > FILLED * 0.85)
    assert.same(hanging, dead, out)
    assert.is_true(process.eventually(function()
      local response = wire.ask(s.port, "GET", "/drop")
      return response and response.body == "dropped"
    end, 20))
    local lines = lines_of(s, "/debug/pprof/allocs")
    near(ROUNDS * TABLE, lines[LINE_TABLE], 0.1) -- what it had allocated stays counted
  end)

  it("tell lines of the generation that was loaded last", function()
    local s = start()
    ask(s, "/fill", "filled")
    local file = assert(io.open(s.folder .. "/app.lua", "w"))
    local text = APP:gsub('return "filled"', 'return "refilled"')
    file:write((text:gsub("local kept", "\n\nlocal kept")))
    file:close()
    s.process:kill("HUP")
    assert.is_true(process.eventually(function()
      return wire.ask(s.port, "GET", "/fill").body == "refilled"
    end, 20))
    local lines, out = lines_of(s, "/debug/pprof/heap?gc=1", true)
    near(FILLED, lines[LINE_FILL + 2], 0.1)
    assert.is_true((lines[LINE_FILL] or 0) < FILLED / 20, out)
  end)

  it("leave the compiler alone, which would give up a place after some attempts", function()
    local s = start("1K")
    for _ = 1, 3 do
      for i = 1, 100 do
        ask(s, "/compiled" .. i, "done")
      end
    end
    local function count(name)
      local text = wire.ask(s.admin, "GET", "/metrics").body
      return tonumber(text:match("perilune_jit_" .. name .. "_total (%d+)"))
    end
    assert.is_truthy(process.eventually(function() return count("traces") >= 100 end, 10))
    assert.is_true(count("aborts") <= 10, tostring(count("aborts")))
  end)

  it("are counted by worker", function()
    local s = start("512K")
    local function allocated()
      local text = wire.ask(s.admin, "GET", "/metrics").body
      return tonumber(text:match('perilune_vm_allocated_bytes_total{worker="0"} ([%d.e+]+)'))
    end
    ask(s, "/drop", "dropped")
    assert.is_truthy(process.eventually(allocated, 10))
    local before = allocated()
    ask(s, "/mix", "done")
    assert.is_true(process.eventually(function()
      return allocated() > before + ROUNDS * (TABLE + ARRAY + HASH) * 0.9
    end, 10))
    local text = wire.ask(s.admin, "GET", "/metrics").body
    assert.is_truthy(text:find("perilune_heap_samples_lost_total 0", 1, true))
    assert.is_table(json.decode(wire.ask(s.admin, "GET", "/status").body))
  end)
end)
