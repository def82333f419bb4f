-- Rules that act, on real servers: when they fire, how often, and what comes of it.

local crashing = require("spec.support.crashing")
local json = require("perilune").json
local process = require("spec.support.process")
local trace = require("spec.support.trace")
local wire = require("spec.support.wire")

local HEAD = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return "hi" end)
app:get("/slow", function() P.sleep(0.25) return "slow" end)
app:get("/garbage", function()
  local kept = {}
  for i = 1, 40000 do kept[i] = { i } end
  return tostring(#kept)
end)
app:get("/say", function() P.log.debug("said") return "said" end)
]]

local server, folder

local function serve(rules, settings, opts)
  opts = opts or {}
  folder = process.folder()
  local args = { "--set", "recorder.folder=" .. folder, "--set", "log.format=json", "--set",
    "admin.listen=127.0.0.1:0", "--set", "log.access=false" }
  for _, pair in ipairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = { ["app.lua"] = HEAD .. rules .. "return app\n" }, args = args,
    workers = opts.workers })
  server.admin = tonumber(server.ready:match("admin plane on http://127%.0%.0%.1:(%d+)"))
end

local function ask(target)
  return wire.ask(server.port, "GET", target)
end

local function report()
  local response = wire.ask(server.admin, "GET", "/debug/actions")
  assert.equal(200, response.status)
  return assert(json.decode(response.body))
end

--- The app is loaded a moment after the server serves.
local function rule(name)
  return assert(process.eventually(function()
    for _, one in ipairs(report().rules) do
      if one.name == name then
        return one
      end
    end
  end), "no rule " .. name)
end

--- Sends requests until something is so.
local function ask_until(target, what, seconds)
  return process.eventually(function()
    ask(target)
    return what()
  end, seconds or 20)
end

local function fires(name)
  return function()
    local one = rule(name)
    return one.fired > 0 and one
  end
end

local function done(name)
  local pattern = ('({"time":"[^\n]*"msg":"action done"[^\n]*"rule":"%s"[^\n]*)\n'):format(name)
  return json.decode(assert(server:wait_log(pattern, 20), server:log()))
end

local function metrics()
  return wire.ask(server.admin, "GET", "/metrics").body
end

local function workers()
  local status = json.decode(wire.ask(server.admin, "GET", "/status").body)
  return #status.workers
end

local RULE = 'app:action("%s", { when = "%s", for_ = %s, cooldown = "1h"%s }, %s)\n'

describe("an action", function()
  after_each(process.cleanup)

  it("is done once its figure is out of bounds for long enough, and is told", function()
    serve(RULE:format("many", "requests > 0.5", "2", "", '"collect"'))
    assert.equal("quiet", rule("many").state)
    local from = process.now()
    local fired = ask_until("/", fires("many"))
    assert.is_true(process.now() - from >= 2)
    assert.equal("cooling", fired.state)
    local record = done("many")
    assert.equal("warn", record.level)
    assert.equal("collect", record.action)
    assert.is_true(record.value > 0.5)
    assert.matches('perilune_actions_total{action="collect",rule="many"} 1', metrics(), 1, true)
    local firing = report().firings[1]
    assert.equal("many", firing.rule)
    assert.is_true(math.abs(firing.at - os.time()) < 60)
  end)

  it("is not done while its figure is within bounds", function()
    serve(RULE:format("many", "requests > 100000", "0", "", '"collect"'))
    for _ = 1, 5 do
      ask("/")
      process.sleep(0.5)
    end
    assert.equal("quiet", rule("many").state)
    assert.equal(0, rule("many").fired)
  end)

  it("is done again only after its cooldown", function()
    serve([[app:action("often", { when = "workers > 0", for_ = 0, cooldown = "3s" }, "collect")
      ]])
    process.sleep(7.5)
    local fired = rule("often").fired
    assert.is_true(fired >= 2 and fired <= 3, fired)
  end)

  it("calls a function of the app's, with what it is about", function()
    serve([[app:action("call", { when = "requests > 0.5", for_ = 0 }, function(e)
      P.sleep(0.01)
      P.log.info("called", { of = e.rule, value = e.value, state = e.snapshot.state })
    end)
    app:action("bad", { when = "requests > 0.5", for_ = 0 }, function() error("oh no", 0) end)
    ]])
    ask_until("/", fires("bad"))
    local record = crashing.wait_record(server, "called")
    assert.equal("call", record.of)
    assert.equal("serving", record.state)
    assert.is_true(record.value > 0.5)
    assert.equal("oh no", crashing.wait_record(server, "action failed").reason)
  end)

  it("writes the flight recorder", function()
    serve(RULE:format("rec", "requests > 0.5", "0", "", '"record"'))
    ask_until("/", fires("rec"))
    local t = trace.read(trace.wait(folder, "action-rec"))
    assert.is_true(#trace.find(t, { ph = "b", name = "GET /" }) >= 1)
  end)

  for _, kind in ipairs({ "heap", "cpu" }) do
    it(("writes a %s profile, or says that there are none"):format(kind), function()
      serve(RULE:format("prof", "requests > 0.5", "0", "", ('"%s_profile"'):format(kind)))
      local one = ask_until("/garbage", function()
        local now = rule("prof")
        return (now.fired > 0 or now.state == "held") and now
      end)
      if one.state == "held" then
        assert.matches("^this server has no %a+ profiles$", one.reason)
        return
      end
      local path = done("prof").result
      assert.matches(("^%s/perilune%%-.*%%-%s%%-prof%%-.*%%.pb%%.gz$"):format(
        folder:gsub("%p", "%%%0"), kind), path)
      assert.equal(0, process.spawn({ "gzip", "-t", path }):wait())
    end)
  end

  it("changes the level of the log, and back after a time", function()
    serve(RULE:format("level", "requests > 0.5", "0", ', level = "debug", seconds = 4',
      '"log_level"'))
    ask("/say")
    assert.is_nil(server:log():find('"msg":"said"', 1, true))
    assert.is_truthy(ask_until("/say", function()
      return server:log():find('"msg":"said"', 1, true)
    end))
    process.sleep(5)
    server:log()
    process.sleep(0.3)
    local before = #server:log()
    ask("/say")
    process.sleep(0.5)
    assert.is_nil(server:log():find('"msg":"said"', before, true))
  end)

  it("collects garbage in the workers", function()
    serve(RULE:format("gc", "memory > 3M", "0", "", '"collect"'))
    local function cycles()
      return tonumber(metrics():match("\nperilune_vm_collect_cycles_total%S* (%d+)")) or 0
    end
    local before = cycles()
    ask("/garbage")
    ask_until("/", fires("gc"))
    assert.is_truthy(process.eventually(function()
      return cycles() > before
    end, 10), metrics())
  end)

  it("reads metrics, and how fast a counter counts", function()
    serve(RULE:format("metric", [[rate(perilune_connections_accepted_total) > 0.5]], "0", "",
      '"collect"') .. RULE:format("none", [[no_such_metric > 1]], "0", "", '"collect"'))
    ask_until("/", fires("metric"))
    assert.equal("unknown", rule("none").state)
  end)

  it("says clearly that it cannot be done", function()
    serve(RULE:format("most", "requests > 0.5", "0", ", workers_max = 1", '"add_worker"'))
    ask_until("/", function()
      return rule("most").state == "held"
    end)
    assert.equal("there are 1 workers, and there may be 1", rule("most").reason)
    assert.equal("most", crashing.wait_record(server, "action held").rule)
    assert.equal(1, workers())
  end)

  it("outlives a reload, with what it has done", function()
    serve(RULE:format("kept", "workers > 0", "0", "", '"collect"'))
    assert.is_truthy(process.eventually(fires("kept")))
    server.process:kill("HUP")
    crashing.wait_record(server, "a generation is served")
    process.sleep(2.5)
    assert.equal(1, rule("kept").fired)
    assert.equal("cooling", rule("kept").state)
  end)

  it("is done while every worker hangs", function()
    serve([[local ffi = require "ffi"
      ffi.cdef "unsigned sleep(unsigned s);"
      app:get("/hang", function() ffi.C.sleep(60) end)
      ]] .. RULE:format("hung", "silent > 0", "0", "", '"record"'), { "vm.stuck_timeout=30s" })
    local hanging = assert(wire.connect(server.port))
    hanging:request("GET", "/hang")
    assert.is_truthy(process.eventually(fires("hung"), 20))
    local t = trace.read(trace.wait(folder, "action-hung"))
    assert.equal(1, #trace.find(t, { ph = "B", name = "GET /hang" }))
  end)

  for what, text in pairs({
    ["no such action"] = 'app:action("a", { when = "p99 > 1" }, "dance")',
    ["no condition"] = 'app:action("a", { when = "p99" }, "collect")',
    ["one of that name"] = 'app:action("a", { when = "p99 > 1" }, "collect")\n'
      .. 'app:action("a", { when = "p99 > 1" }, "collect")',
  }) do
    it("with a mistake (" .. what .. ") is refused when the app loads", function()
      local app = process.folder({ ["app.lua"] = HEAD .. text .. "\nreturn app\n" })
      local r = process.run({ "check", app })
      assert.are_not.equal(0, r.code)
      assert.matches("app.lua:%d+: ", r.out)
    end)
  end
end)

describe("the default rule", function()
  after_each(process.cleanup)

  it("for latency adds a worker, up to a maximum", function()
    serve("", { "actions.workers_max=2" })
    assert.equal(1, workers())
    local from = process.now()
    assert.is_truthy(ask_until("/slow", function()
      return workers() == 2
    end, 40))
    assert.is_true(process.now() - from >= 10)
    assert.equal("add_worker", done("p99").action)
    assert.equal("2", crashing.wait_record(server, "a worker more").workers)
  end)

  it("for allocation has a limit of its own, and can be switched off", function()
    serve("", { "actions.allocation=0", "actions.p99=0" })
    assert.same({}, report().rules)
  end)

  it("goes with all others when actions are off", function()
    serve(RULE:format("x", "workers > 0", "0", "", '"collect"'), { "actions.on=false" })
    process.sleep(1.5)
    assert.is_false(report().on)
    assert.equal(0, rule("x").fired)
  end)

  it("for stuck workers can be switched off", function()
    serve([[local ffi = require "ffi"
      ffi.cdef "unsigned sleep(unsigned s);"
      app:get("/hang", function() ffi.C.sleep(60) end)
      ]], { "vm.stuck_timeout=1s", "actions.stuck=false" })
    local hanging = assert(wire.connect(server.port))
    hanging:request("GET", "/hang")
    crashing.wait_record(server, "a worker stood still and was killed")
    process.sleep(0.3)
    assert.same({}, trace.files(folder, "stuck"))
  end)
end)
