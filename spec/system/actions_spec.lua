-- Rules that act, on real servers: when they fire, how often, and what comes of it.

local crashing = require("spec.support.crashing")
local disk = require("spec.support.disk")
local json = require("perilune").json
local process = require("spec.support.process")
local series = require("perilune.series")
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
  local args = { "--name", "acting", "--set", "recorder.folder=" .. folder, "--set",
    "log.format=json", "--set", "log.access=false", "--set",
    "admin.listen=" .. (opts.admin or "127.0.0.1:0") }
  for _, pair in ipairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = { ["app.lua"] = HEAD .. rules .. "return app\n" }, args = args,
    workers = opts.workers })
  server.admin = tonumber(server.ready:match("admin plane on http://127%.0%.0%.1:(%d+)"))
  server.socket = server.folder .. "/perilune/acting.sock"
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

--- The record of an action's end, the first one of that rule.
local function record_of(name, outcome)
  local pattern = ('({"time":"[^\n]*"msg":"action %s"[^\n]*"rule":"%s"[^\n]*)\n'):format(outcome,
    name)
  return json.decode(assert(server:wait_log(pattern, 20), server:log()))
end

local function done(name)
  return record_of(name, "done")
end

--- How many such records there are.
local function count_records(name, outcome)
  local count = 0
  for _, record in ipairs(crashing.find_records(server, "action " .. outcome)) do
    count = count + (record.rule == name and 1 or 0)
  end
  return count
end

--- As the control socket has it, which is there without an admin plane, too.
local function metrics()
  return wire.ask(server.socket, "GET", "/metrics").body
end

local function counted(name, action, outcome)
  return series.sum(metrics(), "perilune_actions_total",
    { action = action, outcome = outcome, rule = name }) or 0
end

local function workers()
  local status = json.decode(wire.ask(server.socket, "GET", "/status").body)
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
    assert.equal(1, counted("many", "collect", "done"))
    local firing = report().firings[1]
    assert.same({ "many", "done", "1 workers" }, { firing.rule, firing.outcome, firing.result })
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
    assert.equal("oh no", record_of("bad", "failed").reason)
  end)

  it("whose function computes for ever is told by its name, and holds no other rule up", function()
    serve([[app:action("ever", { when = function() while true do end end, for_ = 0 }, "collect")
    app:action("stubborn", { when = function()
      while true do pcall(function() while true do end end) end
    end, for_ = 0 }, "collect")
    app:action("wrong", { when = function() error("oh no", 0) end, for_ = 0 }, "collect")
    app:action("waits", { when = function() P.sleep(0.1) return true, 7 end, for_ = 0 }, "collect")
    app:action("other", { when = "workers > 0", for_ = 0, cooldown = 1 }, "collect")
    ]])
    for name, reason in pairs({
      ever = "its function takes longer than 2 s", stubborn = "its function takes longer than 2 s",
      wrong = "oh no",
    }) do
      local pattern = ('({"time":"[^\n]*"msg":"action cannot be judged"[^\n]*"rule":"%s"[^\n]*)\n')
        :format(name)
      local record = json.decode(assert(server:wait_log(pattern, 30), server:log()))
      assert.same({ "error", reason }, { record.level, record.reason })
      assert.same({ "unknown", reason }, { rule(name).state, rule(name).reason })
      assert.is_true(rule(name).unjudged >= 1)
      assert.is_true(series.sum(metrics(), "perilune_actions_unjudged_total", { rule = name }) >= 1)
    end
    assert.equal(7, done("waits").value)
    local before = rule("other").fired
    assert.is_truthy(process.eventually(function()
      return rule("other").fired >= before + 3
    end, 30))
    assert.equal(1, rule("ever").unjudged)
  end)

  for action, opts in pairs({
    add_worker = { ", workers_max = 2", "^2 workers$" },
    collect = { "", "^1 workers$" },
    cpu_profile = { "", "@cpu%-kind%-.*%.pb%.gz$", "this server has no CPU profiles" },
    heap_profile = { "", "@heap%-kind%-.*%.pb%.gz$", "this server has no heap profiles" },
    log_level = { ', level = "debug", seconds = "1h"', "^debug for 3600 s$" },
    record = { "", "/perilune%-acting@action%-kind%-.*%.json$" },
    trace_boost = { ", share = 0.5, seconds = 30", "^0.5 of all traces for 30 s$" },
  }) do
    it(("of the kind %s leaves a record and is counted"):format(action), function()
      serve(RULE:format("kind", "workers > 0", "0", opts[1], ("%q"):format(action)))
      local one = process.eventually(function()
        local now = rule("kind")
        return (now.fired > 0 or now.state == "held") and now
      end, 20)
      local outcome = assert(one).state == "held" and opts[3] and "held" or "done"
      local record = record_of("kind", outcome)
      assert.equal(action, record.action)
      if outcome == "held" then
        assert.equal(opts[3], record.reason)
      else
        assert.matches(opts[2], record.result)
      end
      assert.equal(1, counted("kind", action, outcome))
      assert.equal(1, count_records("kind", outcome))
    end)
  end

  it("of the kind function leaves a record and is counted", function()
    serve([[app:action("kind", { when = "workers > 0", for_ = 0 }, function() P.sleep(0.1) end)
    ]])
    assert.equal("function", done("kind").action)
    assert.equal(1, counted("kind", "function", "done"))
  end)

  it("that throws leaves a record and is counted as failed, and cools down", function()
    serve([[app:action("bad", { when = "workers > 0", for_ = 0 }, function()
      P.sleep(0.01)
      error("oh no", 0)
    end)
    ]])
    local record = record_of("bad", "failed")
    assert.equal("error", record.level)
    assert.same({ "oh no", "function" }, { record.reason, record.action })
    process.sleep(2.5)
    assert.equal(1, count_records("bad", "failed"))
    assert.equal(1, counted("bad", "function", "failed"))
    assert.equal(0, counted("bad", "function", "done"))
    assert.same({ "cooling", "oh no" }, { rule("bad").state, rule("bad").reason })
  end)

  it("that takes longer than its cooldown is not done twice at once, which is told", function()
    serve([[local running = 0
    app:action("long", { when = "workers > 0", for_ = 0, cooldown = 1 }, function()
      running = running + 1
      P.log.info("begun", "running", running)
      P.sleep(4)
      running = running - 1
    end)
    ]])
    local held = record_of("long", "held")
    assert.matches("^what it did %d s ago still goes on$", held.reason)
    assert.equal("function", held.action)
    assert.equal(0, counted("long", "function", "done"))
    assert.is_true(counted("long", "function", "held") >= 1)
    done("long")
    assert.is_truthy(process.eventually(function()
      return #crashing.find_records(server, "begun") > 1
    end))
    for _, record in ipairs(crashing.find_records(server, "begun")) do
      assert.equal(1, record.running)
    end
    assert.is_true(counted("long", "function", "done") >= 1)
  end)

  it("adds workers up to what there is room for, and is told why no more", function()
    serve(RULE:format("grow", "workers > 0", "0", ", workers_max = 9", '"add_worker"')
      :gsub('"1h"', "1"), { "workers_max=6" })
    assert.is_truthy(process.eventually(function()
      return workers() == 6
    end, 40))
    local held = record_of("grow", "held")
    assert.equal("there are 6 workers, and there is room for 6: see workers_max", held.reason)
    assert.equal("add_worker", held.action)
    assert.equal(5, counted("grow", "add_worker", "done"))
    assert.equal(1, counted("grow", "add_worker", "held"))
    assert.equal(6, workers())
  end)

  it("takes a label's value whole: a route is not another one that contains it", function()
    serve([[local seen = P.metric.counter("seen_total", "Seen.", { "route" })
    app:get("/notes/old", function() seen:with("/notes/old"):add(1) return "old" end)
    app:get("/notes", function() seen:with("/notes"):add(1) return "notes" end)
    app:action("old", { when = 'seen_total{route="/notes/old"} > 0', for_ = 0 }, "collect")
    app:action("notes", { when = 'seen_total{route="/notes"} > 0', for_ = 0 }, "collect")
    app:action("none", { when = 'seen_total{route="/note"} > 0', for_ = 0 }, "collect")
    ]])
    rule("none")
    ask("/notes/old")
    done("old")
    assert.equal("quiet", rule("notes").state)
    ask("/notes")
    done("notes")
    assert.equal("quiet", rule("none").state)
  end)

  it("is quiet while nothing was counted in a metric that the app has made", function()
    serve([[local saved = P.metric.counter("saved_total", "Saved.", { "kind" })
    P.metric.histogram("size_bytes", "Sizes.", { "kind" })
    P.metric.gauge("depth", "Depth.", { "kind" }, "each")
    app:get("/save", function() saved:with("x"):add(5) return "saved" end)
    app:action("less", { when = "saved_total < 1", for_ = 0 }, "collect")
    app:action("more", { when = 'saved_total{kind="x"} > 0', for_ = 0 }, "collect")
    app:action("rate", { when = "rate(saved_total) > 0.1", for_ = 0 }, "collect")
    app:action("count", { when = "size_bytes_count < 1", for_ = 0 }, "collect")
    app:action("bucket", { when = 'size_bytes_bucket{le="1"} < 1', for_ = 0 }, "collect")
    app:action("gauge", { when = 'depth{worker="0"} < 1', for_ = 0 }, "collect")
    app:action("label", { when = 'saved_total{knd="x"} > 0', for_ = 0 }, "collect")
    app:action("part", { when = "depth_sum > 0", for_ = 0 }, "collect")
    ]])
    assert.is_truthy(process.eventually(function()
      return rule("label").state == "unknown" and rule("part").state == "unknown"
    end, 20))
    for _, name in ipairs({ "less", "more", "rate", "count", "bucket", "gauge" }) do
      local one = rule(name)
      assert.same({ "quiet", "it has no value yet", 0 }, { one.state, one.reason, one.fired }, name)
    end
    ask("/save")
    done("more")
    done("rate")
    assert.is_nil(rule("less").reason)
    assert.equal(0, rule("less").fired)
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
      assert.matches(("^%s/perilune%%-.*@%s%%-prof%%-.*%%.pb%%.gz$"):format(
        folder:gsub("%p", "%%%0"), kind), path)
      assert.equal(0, process.spawn({ "gzip", "-t", path }):wait())
    end)
  end

  --- The only file of that suffix, once it is there.
  local function file(suffix)
    return process.eventually(function()
      for name in require("lfs").dir(folder) do
        if name:find(suffix, -#suffix, true) then
          return name
        end
      end
    end, 20)
  end

  it("writes records that are called like the rule, with all of its dots", function()
    serve(RULE:format("v1.2-x_y", "requests > 0.5", "0", "", '{ "record", "heap_profile" }'))
    ask_until("/", fires("v1.2-x_y"))
    assert.matches("@action%-v1%.2%-x_y%-%d+T%d+%.%d+Z%.json$", file(".json"))
    if not server:log():find("no heap profiles", 1, true) then
      assert.matches("@heap%-v1%.2%-x_y%-%d+T%d+%.%d+Z%.pb%.gz$", file(".pb.gz"))
    end
  end)

  local it_or_not = disk.can_hang() and it or pending

  it_or_not("waits for a disk that hangs, while other rules and the admin plane go on", function()
    serve(RULE:format("prof", "requests > 0.5", "0", "", '"heap_profile"')
      .. RULE:format("other", "connections > 0", "0", "", '"collect"'))
    local hanging = disk.hang(folder)
    local one = ask_until("/garbage", function()
      local now = rule("prof")
      return (now.state == "acting" or now.state == "held") and now
    end)
    if one.state == "held" then
      assert.matches("^this server has no %a+ profiles$", one.reason)
      return
    end
    local held = assert(wire.connect(server.port))
    assert.is_truthy(process.eventually(fires("other"), 20))
    assert.equal(0, rule("prof").fired)
    assert.is_nil(server:log():find('"action":"heap_profile"', 1, true))
    hanging:kill("KILL")
    local path = done("prof").result
    assert.equal(0, process.spawn({ "gzip", "-t", path }):wait())
    assert.equal(1, rule("prof").fired)
    held:close()
  end)

  local can_mount = process.spawn({ "unshare", "-m", "true" }):wait() == 0
  process.cleanup()
  it_or_not = can_mount and it or pending

  it_or_not("leaves no half profile on a full disk, and tells why once", function()
    local full = process.folder()
    local rules = RULE:format("prof", "requests >= 0", "0", "", '"heap_profile"')
    local app = process.folder({ ["app.lua"] = HEAD .. rules .. "return app\n" })
    local script = ([[
      mount -t tmpfs -o size=16k none %s && dd if=/dev/zero of=%s/filler bs=4k 2>/dev/null
      exec %s run %s --listen 127.0.0.1:0 --workers 1 --set recorder.folder=%s \
        --set log.format=json --set admin.listen=127.0.0.1:0]])
      :format(full, full, process.launcher(), app, full)
    local p = process.spawn({ "unshare", "-m", "sh", "-c", script },
      { env = { XDG_RUNTIME_DIR = process.folder() } })
    server = { port = tonumber(p:wait_for("err", "http://127%.0%.0%.1:(%d+)")) }
    assert.is_truthy(server.port, p:err())
    local line = assert(p:wait_for("out", '([^\n]*"msg":"action [hf]%a+"[^\n]*)\n', 20), p:out())
    if line:find("no heap profiles", 1, true) then
      return
    end
    assert.matches('"msg":"action failed"', line, 1, true)
    assert.matches("no space left on device", line, 1, true)
    assert.equal("hi", ask("/").body)
    local seen = ("/proc/%d/root%s"):format(p.pid, full)
    for name in require("lfs").dir(seen) do
      assert.is_true(name == "." or name == ".." or name == "filler", name)
    end
    process.sleep(3)
    assert.equal(1, select(2, p:out():gsub('"msg":"action failed"', "")))
  end)

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
    assert.equal(1, counted("most", "add_worker", "held"))
    assert.equal(0, counted("most", "add_worker", "done"))
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

  for line, expected in pairs({
    ['app:action("lev", { when = "p99 > 1", level = "debug", seconds = 0.5 }, "log_level")'] =
      'action "lev": seconds is 0.5; expected is 1s to 24h, for log_level',
    ['app:action("cpu", { when = "p99 > 1", seconds = "20m" }, "cpu_profile")'] =
      'action "cpu": seconds is "20m"; expected is 1s to 900s, for cpu_profile',
    ['app:action("tra", { when = "p99 > 1", seconds = "48h" }, "trace_boost")'] =
      'action "tra": seconds is "48h"; expected is 1s to 24h, for trace_boost',
    ['app:action("unk", { when = "p99 > 1", coldown = 3 }, "collect")'] =
      'action "unk": there is no option "coldown"',
  }) do
    it("whose options cannot be is refused when the app loads: " .. expected, function()
      local app = process.folder({ ["app.lua"] = HEAD .. line .. "\nreturn app\n" })
      local r = process.run({ "check", app })
      assert.are_not.equal(0, r.code)
      assert.is_truthy(r.out:find(expected, 1, true), r.out)
    end)
  end
end)

describe("without an admin plane", function()
  after_each(process.cleanup)

  local function serve_alone(rules, settings)
    serve(rules, settings, { admin = "off" })
    assert.is_nil(server.admin)
  end

  it("an app's rules are kept, and its health checks run", function()
    serve_alone(RULE:format("alone", "workers > 0", "0", "", '"record"') .. [[
    app:action("call", { when = "workers > 0", for_ = 0 }, function() P.log.info("called") end)
    app:health("database", { every = "200ms" }, function() return nil, "no route to it" end)
    ]])
    assert.matches("%.json$", done("alone").result)
    done("call")
    crashing.wait_record(server, "called")
    local record = crashing.wait_record(server, "health: database is unhealthy")
    assert.equal("no route to it", record.reason)
    assert.equal(1, counted("alone", "record", "done"))
    assert.equal(1, counted("call", "function", "done"))
    assert.equal(0, series.sum(metrics(), "perilune_health", { check = "database" }))
    assert.equal(1, series.sum(metrics(), "perilune_health", { check = "workers" }))
  end)

  it("the default rule for latency adds a worker", function()
    serve_alone("", { "actions.workers_max=2" })
    assert.is_truthy(ask_until("/slow", function()
      return workers() == 2
    end, 40))
    assert.equal("add_worker", done("p99").action)
  end)

  it("the default rule for allocation writes a heap profile", function()
    serve_alone("", { "actions.allocation=1M", "actions.p99=0" })
    local outcome
    ask_until("/garbage", function()
      for _, one in ipairs({ "done", "held" }) do
        outcome = counted("allocation", "heap_profile", one) > 0 and one or outcome
      end
      return outcome
    end, 30)
    local record = record_of("allocation", outcome)
    if outcome == "held" then
      assert.equal("this server has no heap profiles", record.reason)
    else
      assert.equal(0, process.spawn({ "gzip", "-t", record.result }):wait())
    end
  end)

  it("the record of a worker that is stuck is written", function()
    serve_alone([[local ffi = require "ffi"
      ffi.cdef "unsigned sleep(unsigned s);"
      app:get("/hang", function() ffi.C.sleep(60) end)
      ]], { "vm.stuck_timeout=1s" })
    local hanging = assert(wire.connect(server.port))
    hanging:request("GET", "/hang")
    trace.wait(folder, "stuck")
  end)

  it("rules follow a reload", function()
    serve_alone("")
    local file = assert(io.open(server.app .. "/app.lua", "w"))
    file:write(HEAD .. RULE:format("late", "workers > 0", "0", "", '"collect"') .. "return app\n")
    file:close()
    server.process:kill("HUP")
    assert.equal("collect", done("late").action)
  end)

  it("an app is loaded once more only if it has rules or checks", function()
    local text = [[local file = io.open(%q, "a")
    file:write("x")
    file:close()
    ]]
    for rules, loads in pairs({
      [""] = 2, -- to be tried, and in the worker
      [RULE:format("one", "workers > 0", "0", "", '"collect"')] = 3,
      ['app:health("one", function() return true end)\n'] = 3,
    }) do
      local mark = process.folder() .. "/mark"
      serve_alone(text:format(mark) .. rules)
      assert.is_truthy(process.eventually(function()
        return #(process.slurp(mark) or "") >= loads
      end))
      process.sleep(1)
      assert.equal(loads, #process.slurp(mark))
      server:stop()
    end
  end)
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
