--- Who waits, where, for how long, and for nobody: the lists and profiles of coroutines that
--- the admin plane has, leaks that are proven, and suspects.

local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local APP = [[
local P = require "perilune"
local app = P.app {}
local honest = P.channel()
local woken = 0

local function nap(seconds)
  P.sleep(seconds)
end

local function plant()
  P.channel():recv()
end

app:get("/", function() return "hi" end)
app:get("/nap/:ms<int>", function(c, ms)
  nap(ms / 1000)
  return "slept"
end)
app:get("/leak/:n<int>", function(c, n)
  for _ = 1, n do
    assert(P.detach("leaky", plant))
  end
  return "planted"
end)
app:get("/leaking", function() P.channel(1):recv() end)
app:get("/honest/:n<int>", function(c, n)
  for i = 1, n do
    assert(P.detach("honest", function()
      if i % 3 == 0 then
        nap(3600)
      elseif i % 3 == 1 then
        P.detach("sleeper", nap, 3600):wait()
      else
        honest:recv()
        woken = woken + 1
      end
    end))
  end
  return "waiting"
end)
app:get("/wake/:n<int>", function(c, n)
  for _ = 1, n do
    assert(honest:send(true, 1))
  end
  P.sleep(0.01)
  return tostring(woken)
end)
app:get("/forgotten/:n<int>", function(c, n)
  for _ = 1, n do
    P.detach("forgotten", function()
      honest:recv()
    end)
  end
  return "forgotten"
end)
app:get("/inside", function()
  return coroutine.wrap(function()
    return coroutine.wrap(function()
      nap(600)
    end)()
  end)()
end)
app:get("/evil", function()
  P.detach('a"\n\27[31m\194\155b', nap, 600)
  P.detach("chunk", load("local nap = ... nap(600)", "=x\n\27[31my"), nap)
  P.detach("short", load("local nap = ... nap(0.01)", "=x\n\27[31my"), nap)
  P.detach('leak"\n\27[31m', function() P.channel():recv() end)
  return "named"
end)
app:get("/loop", function() P.atomic(function() while true do end end) end)
return app
]]

local function line_of(text)
  local number = 0
  for line in APP:gmatch("([^\n]*)\n") do
    number = number + 1
    if line:find(text, 1, true) then
      return number
    end
  end
  error("there is no line with " .. text)
end

local function start(args)
  local folder = process.folder({ ["app.lua"] = APP })
  local all = { "run", folder, "--listen", "127.0.0.1:0", "--workers", "1",
    "--set", "admin.listen=127.0.0.1:0", "--set", "limits.tasks_per_worker=5000",
    "--set", "timeouts.handler=60s" }
  for _, more in ipairs(args or {}) do
    all[#all + 1] = more
  end
  local p = process.start(all, { env = { XDG_RUNTIME_DIR = process.folder() } })
  local line = p:wait_for("err", "serving ([^\n]*admin plane on [^\n]+)\n")
  assert.is_truthy(line, p:err())
  local port, admin = line:match("http://127%.0%.0%.1:(%d+).*:(%d+)$")
  return { process = p, port = tonumber(port), admin = tonumber(admin), app = folder .. "/app.lua" }
end

local function stop(s)
  s.process:kill("TERM")
  return s.process:wait(30)
end

local function ask(s, target)
  local r = wire.ask(s.port, "GET", target)
  assert.equal(200, r.status, target)
  return r.body
end

local function admin(s, target)
  local r = wire.ask(s.admin, "GET", target)
  assert.equal(200, r.status, target)
  return r.body
end

local function waits(s)
  return assert(json.decode(admin(s, "/debug/waits")))
end

local function metric(s, name)
  local text = admin(s, "/metrics")
  return tonumber(text:match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)"))
end

--- Kills the one worker, and waits until there is another.
local function kill_worker(s)
  local _, workers = process.family(s.process.pid)
  process.signal(workers[1], "KILL")
  assert(process.eventually(function()
    local _, others = process.family(s.process.pid)
    return others[1] and others[1] ~= workers[1]
  end, 10))
end

--- What `go tool pprof` makes of a profile.
local function pprof(s, how, path)
  local home = process.folder()
  local pipe = assert(io.popen(
    ("HOME=%s PPROF_TMPDIR=%s go tool pprof %s http://127.0.0.1:%d%s 2>&1; echo status $?")
      :format(home, home, how, s.admin, path)))
  local text = pipe:read("*a")
  pipe:close()
  assert.is_truthy(text:find("status 0\n", 1, true), text)
  return text
end

--- Sums of the values of all samples whose frames, by `-traces`, name `what`.
local function samples(text, what)
  local count, ns = 0, 0
  for block in (text .. "-----------+"):gmatch("(.-)%-%-%-%-%-%-%-%-%-%-%-%+") do
    if block:find(what, 1, true) then
      local value, unit = block:match("\n%s*([%d%.]+)(%a*)%s+%S")
      local factor = ({ ns = 1, us = 1e3, ms = 1e6, s = 1e9, mins = 60e9, hrs = 3600e9 })[unit]
      if factor then
        ns = ns + tonumber(value) * factor
      elseif value then
        count = count + tonumber(value)
      end
    end
  end
  return count, ns
end

describe("the coroutines of a server", function()
  local s

  before_each(function()
    s = nil
  end)

  after_each(function()
    if s then
      stop(s)
    end
  end)

  it("are listed with what they wait for, since when, where, and who started them", function()
    s = start()
    ask(s, "/honest/3")
    local client = wire.connect(s.port)
    client:send("GET /nap/20000 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert(process.eventually(function()
      return waits(s).by_reason.sleep == 3
    end, 10))
    process.sleep(0.3)
    local text = admin(s, "/debug/pprof/coroutine?debug=2")
    local app = s.app:gsub("%p", "%%%0")

    local napping = text:match("(coroutine %d+%.%d+ %[sleep, %d+ seconds?%]: worker 0, "
      .. "request in slot %d+, GET /nap/:ms<int>\n.-\n)\n")
    assert.is_truthy(napping, text)
    local inner = napping:find(app .. ":" .. line_of("P.sleep(seconds)") .. "\n")
    local outer = napping:find(app .. ":" .. line_of("nap(ms / 1000)") .. "\n")
    assert.is_true(inner ~= nil and outer ~= nil and inner < outer, napping)
    assert.is_truthy(napping:find("created by request GET /nap/:ms<int>", 1, true), napping)

    local waiting = text:match("(coroutine %d+%.%d+ %[task, [^\n]*\n.-\n)\n")
    assert.is_truthy(waiting:find(", task \"honest\"", 1, true), waiting)
    local id = waiting:match("^coroutine (%S+)")
    local awaited = waiting:match("waits for task (%d+%.%d+)\n")
    local sleeper = text:match("\n(coroutine " .. awaited:gsub("%p", "%%%0") .. " %[[^\n]*)\n")
    assert.is_truthy(sleeper:find(', task "sleeper", parent ' .. id, 1, true), text)
    local ids = {}
    for _, one in ipairs(waits(s).oldest) do
      ids[one.id] = true
    end
    assert.is_true(ids[id] and ids[awaited])
    assert.is_truthy(waiting:find(app .. ":" .. line_of("nap, 3600):wait()") .. "\n"), waiting)
    assert.is_truthy(waiting:find("created by " .. app .. ":"
      .. line_of('P.detach("honest"') .. "\n"), waiting)

    local receiving = text:match("(coroutine %d+%.%d+ %[receive, [^\n]*\n.-\n)\n")
    assert.is_truthy(receiving:find(app .. ":" .. line_of("honest:recv()") .. "\n"), receiving)
    assert.same({ sleep = 3, task = 1, receive = 1 }, waits(s).by_reason)
    text = admin(s, "/debug/pprof/goroutine?debug=1")
    assert.is_truthy(text:find("coroutine profile: total 5\n", 1, true), text)
    client:close()
  end)

  it("are listed in texts that no name breaks, nor gives orders to terminals", function()
    s = start({ "--set", "leaks.collect=100ms" })
    ask(s, "/evil")
    assert(process.eventually(function()
      return #waits(s).leaks == 1
    end, 30))
    local function text_of(target)
      local text = admin(s, target)
      assert.is_nil(text:find("[^%C\n\t]"), target .. ":\n" .. text)
      assert.is_nil(text:find("\194[\128-\159]"), target)
      return text
    end
    local text = text_of("/debug/pprof/coroutine?debug=2")
    assert.is_truthy(text:find([[, task "a\"\x0a\x1b[31m\x9bb"]], 1, true), text)
    assert.is_truthy(text:find([[x\x0a\x1b[31my:1]], 1, true), text)
    text = text_of("/debug/pprof/coroutine?debug=1")
    assert.is_truthy(text:find([[x\x0a\x1b[31my:1]], 1, true), text)
    text = text_of("/debug/pprof/coroutineleak?debug=1")
    assert.is_truthy(text:find([[, task "leak\"\x0a\x1b[31m"]], 1, true), text)
    text = text_of("/debug/pprof/block?debug=1")
    assert.is_truthy(text:find([[x\x0a\x1b[31my:1]], 1, true), text)
  end)

  it("are listed with the line where a coroutine of the user's own waits", function()
    s = start()
    local client = wire.connect(s.port)
    client:send("GET /inside HTTP/1.1\r\nHost: x\r\n\r\n")
    assert(process.eventually(function()
      local one = waits(s).oldest[1]
      return one and one.at == s.app .. ":" .. line_of("P.sleep(seconds)")
    end, 10))
    local text = admin(s, "/debug/pprof/coroutine?debug=2")
    assert.is_truthy(text:find(s.app .. ":" .. line_of("nap(600)") .. "\n", 1, true), text)
    assert.is_truthy(text:find("created by request GET /inside", 1, true), text)
    client:close()
  end)

  it("are profiles that go tool pprof reads", function()
    s = start({ "--set", "leaks.collect=100ms" })
    ask(s, "/honest/30")
    ask(s, "/leak/5")
    ask(s, "/nap/20")
    assert(process.eventually(function()
      return metric(s, 'perilune_coroutine_leaks_total{kind="task"}') == 5
    end, 20))
    for path in ("coroutine goroutine block coroutineleak goroutineleak"):gmatch("%a+") do
      pprof(s, "-top", "/debug/pprof/" .. path)
    end
    local top = pprof(s, "-top", "/debug/pprof/coroutine?debug=0")
    assert.is_truthy(top:find("nap app.lua:6", 1, true), top)
    local tags = pprof(s, "-tags", "/debug/pprof/coroutine")
    for _, tag in ipairs({ "reason:", "age:", "worker:", "started:" }) do
      assert.is_truthy(tags:find(tag, 1, true), tags)
    end
    local found = pprof(s, "-top", "/debug/pprof/coroutineleak")
    assert.is_truthy(found:find("app.lua:10", 1, true), found)
    assert.equal(400, wire.ask(s.admin, "GET", "/debug/pprof/coroutine?debug=3").status)
  end)

  it("are listed while their worker hangs, as it has left them", function()
    s = start({ "--set", "vm.stuck_timeout=60s" })
    ask(s, "/honest/300")
    assert(process.eventually(function()
      return (waits(s).by_reason.sleep or 0) == 200
    end, 10))
    process.sleep(0.3)
    local client = wire.connect(s.port)
    client:send("GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
    assert(process.eventually(function()
      return waits(s).by_reason.running == 1
    end, 10))
    process.sleep(0.5) -- nothing of the worker's answers any more
    local text = admin(s, "/debug/pprof/coroutine?debug=2")
    local _, all = text:gsub("coroutine %d+%.%d+ %[", "")
    assert.equal(401, all)
    local looping = "%[running, %d+ seconds?%]: worker 0, request in slot %d+, GET /loop\n"
    assert.is_truthy(text:find(looping), text)
    local napping = s.app:gsub("%p", "%%%0") .. ":" .. line_of("P.sleep(seconds)") .. "\n"
    local _, lines = text:gsub(napping, "")
    assert.equal(200, lines)
    pprof(s, "-top", "/debug/pprof/coroutine")
    client:close()
    kill_worker(s)
  end)

  it("have waited as long as the block profile says, also when the worker was killed", function()
    s = start()
    for _ = 1, 10 do
      ask(s, "/nap/50")
    end
    local where = "nap app.lua:6"
    local function waited(index)
      return samples(pprof(s, "-traces -sample_index=" .. index, "/debug/pprof/block"), where)
    end
    local _, ns = waited("delay")
    local count = waited("contentions")
    assert.equal(10, count)
    assert.is_true(ns > 0.499e9 and ns < 1.5e9, ("10 naps of 50 ms took %.3f s"):format(ns / 1e9))
    kill_worker(s)
    assert(process.eventually(function()
      return wire.ask(s.port, "GET", "/").status == 200
    end, 10))
    ask(s, "/nap/50")
    count = waited("contentions")
    assert.equal(11, count)
  end)
end)

describe("leaks", function()
  local s

  after_each(function()
    stop(s)
  end)

  it("are all found, and nothing else is, beside a thousand honest waits", function()
    s = start({ "--set", "leaks.collect=100ms" })
    ask(s, "/honest/999")
    ask(s, "/leak/1000")
    assert(process.eventually(function()
      return metric(s, 'perilune_coroutine_leaks_total{kind="task"}') == 1000
    end, 30))
    process.sleep(1.5) -- some cycles more
    assert.equal(1000, metric(s, 'perilune_coroutine_leaks_total{kind="task"}'))
    assert.equal(0, metric(s, 'perilune_coroutine_leaks_total{kind="request"}'))
    assert.same({ sleep = 666, task = 333, receive = 333 }, waits(s).by_reason)
    assert.equal("333", ask(s, "/wake/333"))

    local leaks = waits(s).leaks
    assert.equal(1, #leaks)
    assert.equal(1000, leaks[1].count)
    assert.same({ "task", "leaky" }, { leaks[1].kind, leaks[1].task })
    assert.equal(s.app .. ":" .. line_of('P.detach("leaky"'), leaks[1].started_at)
    assert.equal(s.app .. ":" .. line_of("P.channel():recv()"), leaks[1].at)
    local text = admin(s, "/debug/pprof/coroutineleak?debug=1")
    assert.is_truthy(text:find("1000 [task, receive]", 1, true), text)
    assert.is_truthy(text:find("created by " .. leaks[1].started_at, 1, true), text)
    local told = s.process:wait_for("out", '"msg":"a leak: nobody can wake this"[^\n]*\n')
    assert.is_truthy(told)
    local _, records = s.process:out():gsub('"msg":"a leak: nobody can wake this"', "")
    assert.is_true(records >= 1 and records <= 100, records .. " records")
  end)

  it("of requests end these with 500", function()
    s = start({ "--set", "leaks.collect=100ms" })
    local r = wire.ask(s.port, "GET", "/leaking")
    assert.equal(500, r.status)
    assert.equal(1, metric(s, 'perilune_coroutine_leaks_total{kind="request"}'))
    assert.equal("request GET /leaking", waits(s).leaks[1].started_at)
  end)

  it("are suspected where more and more wait for what is only forgotten", function()
    s = start({ "--set", "leaks.after=100ms", "--set", "leaks.window=300ms",
      "--set", "leaks.collect=100ms" })
    ask(s, "/honest/30")
    local found = process.eventually(function()
      ask(s, "/forgotten/2")
      return waits(s).suspects[1]
    end, 30)
    assert.is_truthy(found)
    assert.equal(s.app .. ":" .. line_of('P.detach("forgotten"'), found.started_at)
    local raised = process.eventually(function()
      ask(s, "/forgotten/2")
      local one = waits(s).suspects[1]
      return one and one.level == 2
    end, 30)
    assert.is_true(raised)
    assert.equal(1, #waits(s).suspects)
    assert.is_true(metric(s, "perilune_coroutine_suspects") >= 2)
    assert.is_truthy(s.process:wait_for("out",
      '"msg":"coroutines are suspected of leaking"[^\n]*"suspicion":1'))
    local text = admin(s, "/debug/pprof/coroutineleak?debug=1")
    assert.is_truthy(text:find("[suspect, receive, level 2]", 1, true), text)
    assert.equal(0, metric(s, 'perilune_coroutine_leaks_total{kind="task"}'))
    pprof(s, "-top -sample_index=suspects", "/debug/pprof/coroutineleak")
  end)
end)
