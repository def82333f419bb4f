--- Telemetry by OTLP: what a collector gets that decodes it with Google's protobuf, and what
--- becomes of it while there is none.

local collector = require("spec.support.collector")
local exposition = require("spec.support.exposition")
local process = require("spec.support.process")

local select_by = collector.select

local APP = [[
local P = require "perilune"
local app = P.app {}
local jobs = P.metric.counter("jobs_done_total", "Jobs that were done.", { "kind" })
local sizes = P.metric.histogram("job_size_bytes", "How large jobs are.")
app:get("/hi/:name", function(_, name)
  P.log.info("greeted", "name", name, "age", 42, "share", 0.5, "known", true)
  return P.span("greet", function()
    P.span_set("polite", true)
    P.span_set("words", 2)
    P.sleep(0.002)
    return "hi\n"
  end)
end)
app:get("/job", function()
  jobs:with('a "b" \\c'):add(3)
  sizes:record(100)
  return "done\n"
end)
app:get("/fail", function() error("the job is broken") end)
app:get("/raw", function() P.log.error("broken \255 text") return "\n" end)
app:get("/many/:n", function(_, n)
  for i = 1, tonumber(n) do P.log.info("one of many", "i", i) end
  return "\n"
end)
app:get("/fill/:n", function(_, n)
  local text = ("x"):rep(4000)
  for i = 1, tonumber(n) do P.log.info("filler", "i", i, "text", text) end
  return "\n"
end)
return app
]]

---@return spec.Server
local function start(env, args)
  local all = { OTEL_BSP_SCHEDULE_DELAY = "50", OTEL_METRIC_EXPORT_INTERVAL = "300" }
  for name, value in pairs(env) do
    all[name] = value
  end
  local list = { "--set", "log.format=json", "--set", "admin.listen=127.0.0.1:0" }
  for _, arg in ipairs(args or {}) do
    list[#list + 1] = arg
  end
  return process.server({ app = { ["app.lua"] = APP }, env = all, args = list })
end

local function get(s, path)
  local p = process.spawn({ "curl", "-sS", "--max-time", "20",
    "http://127.0.0.1:" .. s.port .. path })
  assert.equal(0, p:wait(30), p:err())
  return p:out()
end

--- The numbers of metrics as the admin plane shows them.
local function metrics(s)
  local port = s.ready:match("admin plane on [^\n]*:(%d+)")
  local p = process.spawn({ "curl", "-sS", "http://127.0.0.1:" .. port .. "/metrics" })
  assert.equal(0, p:wait(30), p:err())
  return (exposition.parse(p:out(), false))
end

local function dropped(s, signal, reason)
  return metrics(s)[('perilune_otlp_dropped_total{reason="%s",signal="%s"}'):format(reason, signal)]
end

local function first(list, name, value)
  return function(seen)
    return select_by(seen[list], name, value)[1]
  end
end

--- Bodies of logs that came, and how often each.
local function counted(seen, body)
  local found, sum = {}, 0
  for _, record in ipairs(select_by(seen.logs, "body", body)) do
    local i = record.attributes.i
    sum = sum + (found[i] and 0 or 1)
    found[i] = (found[i] or 0) + 1
  end
  return found, sum
end

local function kill_control(s)
  for _, pid in ipairs(process.children(s.process.pid)) do
    local name = process.slurp("/proc/" .. pid .. "/comm")
    if name and name:find("^perilune%-ctl") then
      process.signal(pid, "KILL")
    end
  end
end

local is_there = collector.is_there()
local suite = is_there and describe or pending

suite("OTLP", function()
  after_each(process.cleanup)

  it("exports a request with all its spans", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url }, { "--set", "trace.sample=1" })
    local p = process.spawn({ "curl", "-sS", "-H",
      "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "http://127.0.0.1:" .. s.port .. "/hi/Ada?x=1" })
    assert.equal(0, p:wait(30))
    local root = assert(c:eventually(first("spans", "name", "GET /hi/:name")))
    local seen = c:seen()

    assert.equal("0af7651916cd43dd8448eb211c80319c", root.trace_id)
    assert.equal("b7ad6b7169203331", root.parent_id)
    assert.equal(2, root.kind) -- server
    assert.equal(0x301, root.flags) -- sampled; the parent is known to be elsewhere
    assert.equal(0, root.status)
    assert.equal("perilune", root.scope)
    local a = root.attributes
    assert.equal("GET", a["http.request.method"])
    assert.equal("/hi/Ada", a["url.path"])
    assert.equal("x=1", a["url.query"])
    assert.equal("http", a["url.scheme"])
    assert.equal("/hi/:name", a["http.route"])
    assert.equal(200, a["http.response.status_code"])
    assert.equal(0, a["perilune.worker"])
    assert.equal(1, a["perilune.generation"])
    assert.truthy(a["perilune.request_id"]:match("^%x+$"))
    assert.truthy(a["perilune.kept"]:find("sampled"))

    local greet = assert(select_by(seen.spans, "name", "greet")[1])
    local sleep = assert(select_by(seen.spans, "name", "sleep")[1])
    assert.equal(root.span_id, greet.parent_id)
    assert.equal(greet.span_id, sleep.parent_id)
    assert.equal(root.trace_id, sleep.trace_id)
    assert.equal(1, greet.kind) -- internal
    assert.equal(0x101, greet.flags)
    assert.is_true(greet.attributes.polite)
    assert.equal(2, greet.attributes.words)
    assert.is_true(sleep.ns >= 1.5e6 and sleep.ns <= greet.ns and greet.ns <= root.ns)

    local record = assert(c:eventually(first("logs", "body", "greeted")))
    assert.equal(root.trace_id, record.trace_id)
    assert.equal(root.span_id, record.span_id)
  end)

  it("tells what other systems say of the trace, in the span of the request alone", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url }, { "--set", "trace.sample=1" })
    local function ask(path, parent)
      local p = process.spawn({ "curl", "-sS", "--max-time", "20",
        "-H", "tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        "-H", "tracestate: es=s:1", "-H", parent, "http://127.0.0.1:" .. s.port .. path })
      assert.equal(0, p:wait(30), p:err())
    end
    ask("/hi/Ada", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    ask("/job", "traceparent: none") -- its trace begins here: what it says is of another
    local root = assert(c:eventually(first("spans", "name", "GET /hi/:name")))
    local job = assert(c:eventually(first("spans", "name", "GET /job")))
    local greet = assert(c:eventually(first("spans", "name", "greet")))
    assert.equal("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,es=s:1", root.state)
    assert.equal("", greet.state)
    assert.equal("", job.state)
  end)

  it("exports a failed request whatever the share of samples is", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url }, { "--set", "trace.sample=0" })
    get(s, "/job")
    get(s, "/fail")
    local span = assert(c:eventually(first("spans", "name", "GET /fail")))
    assert.equal(2, span.status) -- error
    assert.equal("500", span.attributes["error.type"])
    assert.equal(500, span.attributes["http.response.status_code"])
    assert.truthy(span.attributes["perilune.kept"]:find("error"))
    assert.equal(0, #select_by(c:seen().spans, "name", "GET /job"))
  end)

  it("exports records of the log with their fields", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_SERVICE_NAME = "greeter",
      OTEL_RESOURCE_ATTRIBUTES = "deployment.environment=a%20b%2Cc, x=1,service.name=not" })
    get(s, "/hi/Ada?x=1")
    get(s, "/raw")
    local log = assert(c:eventually(first("logs", "body", "greeted")))
    assert.equal(9, log.severity)
    assert.equal("info", log.level)
    assert.equal("Ada", log.attributes.name)
    assert.equal(42, log.attributes.age)
    assert.equal(0.5, log.attributes.share)
    assert.is_true(log.attributes.known)
    assert.equal("/hi/:name", log.attributes["http.route"])

    local request = assert(c:eventually(first("logs", "event", "http.server.request")))
    assert.equal("/hi/Ada", request.attributes["url.path"])
    assert.equal("x=1", request.attributes["url.query"])
    assert.equal("GET", request.attributes["http.request.method"])
    assert.equal(200, request.attributes["http.response.status_code"])
    assert.equal(3, request.attributes["http.response.body.size"])
    assert.equal("127.0.0.1", request.attributes["client.address"])
    assert.equal("1.1", request.attributes["network.protocol.version"])
    assert.equal(log.trace_id, request.trace_id)
    local line = s:log():match('[^\n]*"msg":"request"[^\n]*/hi/Ada[^\n]*')
    assert.equal(request.trace_id, line:match('"trace_id":"(%x+)"'))
    assert.equal(request.span_id, line:match('"span_id":"(%x+)"'))
    assert.equal(request.attributes["perilune.request_id"], line:match('"req_id":"(%x+)"'))

    local raw = assert(c:eventually(first("logs", "severity", 17)))
    assert.equal("broken \239\191\189 text", raw.body)
    local resource = raw.resource
    assert.equal("greeter", resource["service.name"])
    assert.equal("a b,c", resource["deployment.environment"])
    assert.equal("1", resource.x)
    assert.equal("perilune", resource["telemetry.sdk.name"])
    assert.equal(s.process.pid, resource["process.pid"])
    assert.is_string(resource["host.name"])
  end)

  it("exports what is scraped, with the same numbers", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url })
    get(s, "/job")
    get(s, "/job")
    local function latest(name)
      return c:eventually(function(seen)
        local found = select_by(seen.metrics, "name", name)
        local one = found[#found]
        return one and (one.points[1].number or one.points[1].count) >= 2 and one
      end)
    end
    local jobs = assert(latest("jobs_done_total"))
    assert.equal("sum", jobs.kind)
    assert.is_true(jobs.monotonic)
    assert.equal("Jobs that were done.", jobs.description)
    assert.same({ kind = 'a "b" \\c' }, jobs.points[1].attributes)
    assert.equal(6, jobs.points[1].number)
    assert.is_true(jobs.points[1].start < jobs.points[1].time)
    local sizes = assert(latest("job_size_bytes"))
    assert.equal("histogram", sizes.kind)
    assert.equal("By", sizes.unit)
    assert.equal(200, sizes.points[1].sum)
    for i, bound in ipairs(sizes.points[1].bounds) do
      assert.equal(bound == 256 and 2 or 0, sizes.points[1].counts[i], bound)
    end
    local seconds = assert(latest("perilune_http_request_duration_seconds"))
    assert.equal("s", seconds.unit)
    assert.truthy(seconds.points[1].exemplars[1].trace_id:match("^" .. ("%x"):rep(32) .. "$"))
    local workers = assert(first("metrics", "name", "perilune_workers")(c:seen()))
    assert.equal("gauge", workers.kind)
    assert.equal(1, workers.points[1].number)

    local names, shown = {}, 0
    for _, metric in ipairs(c:seen().metrics) do
      names[metric.name] = true
    end
    for series in pairs(metrics(s)) do
      local name = series:match("^[%w_]+")
      if not name:find("_bucket$") and not name:find("_sum$") and not name:find("_count$") then
        assert.is_true(names[name] or false, name)
        shown = shown + 1
      end
    end
    assert.is_true(shown > 10)
  end)

  it("compresses, and says what it is told to in header fields", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url .. "/in/",
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT = c.url .. "/v1/logs",
      OTEL_EXPORTER_OTLP_COMPRESSION = "gzip",
      OTEL_EXPORTER_OTLP_HEADERS = "api-key=a%2Cb, x-team=c" })
    get(s, "/hi/Ada")
    assert(c:eventually(first("logs", "body", "greeted")))
    local request = c:seen().requests[1]
    assert.equal("gzip", request.headers["content-encoding"])
    assert.equal("a,b", request.headers["api-key"])
    assert.equal("c", request.headers["x-team"])
    assert.equal("127.0.0.1:" .. c.port, request.headers.host)
    assert.is_true(tonumber(request.headers["content-length"]) < request.bytes)
    -- The others have a path below the base, where this collector has nothing.
    assert(process.eventually(function()
      return (dropped(s, "metrics", "refused") or 0) > 0
    end, 20))
    assert.truthy(s:wait_log(
      '"some of what was to be exported is lost"[^\n]*/in/v1/metrics answers 404'))
  end)

  it("does for one signal what is said of it, and for the others what is said of all", function()
    local c = collector.start()
    c:answer("signal=traces&count=1&hang=1")
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_METRICS_EXPORTER = "none",
      OTEL_EXPORTER_OTLP_HEADERS = "api-key=all,x-team=c",
      OTEL_EXPORTER_OTLP_TRACES_HEADERS = "api-key=traces",
      OTEL_EXPORTER_OTLP_COMPRESSION = "gzip", OTEL_EXPORTER_OTLP_TRACES_COMPRESSION = "none",
      OTEL_EXPORTER_OTLP_TRACES_TIMEOUT = "300", OTEL_TRACES_SAMPLER = "always_on" })
    get(s, "/hi/Ada")
    assert(c:eventually(first("logs", "body", "greeted")))
    local seen = assert(c:eventually(function(seen) return seen.spans[1] and seen end))
    local traces, logs = 0, 0
    for _, request in ipairs(seen.requests) do
      if request.signal == "traces" then
        traces = traces + 1
        assert.equal("traces", request.headers["api-key"])
        assert.is_nil(request.headers["x-team"])
        assert.is_nil(request.headers["content-encoding"])
      else
        logs = logs + 1
        assert.equal("all", request.headers["api-key"])
        assert.equal("gzip", request.headers["content-encoding"])
      end
    end
    assert.is_true(traces >= 1 and logs >= 1)
    assert.truthy(s:wait_log("timed out"))
  end)

  local AGAIN = { "status=503&retry=1", "status=429", "status=502", "status=504", "cut=1" }
  for _, how in ipairs(AGAIN) do
    it("tries again after " .. how, function()
      local c = collector.start()
      c:answer("signal=logs&count=1&" .. how)
      local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_TRACES_EXPORTER = "none",
        OTEL_METRICS_EXPORTER = "none" })
      get(s, "/many/40")
      local found = c:eventually(function(seen)
        local _, sum = counted(seen, "one of many")
        return sum == 40 and seen
      end)
      assert.truthy(found)
      local tried = found.requests
      assert.is_false(tried[1].taken)
      assert.is_true(tried[2].at - tried[1].at >= 0.9, "it has waited")
      for _, times in pairs((counted(found, "one of many"))) do
        assert.equal(1, times)
      end
      assert.truthy(s:wait_log('"the collector does not take what is sent"'))
      assert.truthy(s:wait_log('"the collector takes what is sent again"'))
      assert.equal(1, metrics(s)['perilune_otlp_failures_total{signal="logs"}'])
    end)
  end

  it("waits as long as Retry-After says", function()
    local c = collector.start()
    c:answer("signal=logs&count=1&status=503&retry=4")
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_METRICS_EXPORTER = "none" })
    get(s, "/many/3")
    local seen = assert(c:eventually(function(seen) return seen.requests[2] and seen end))
    local wait = seen.requests[2].at - seen.requests[1].at
    assert.is_true(wait >= 3.9, wait)
  end)

  it("gives up a request that hangs, and comes again", function()
    local c = collector.start()
    c:answer("signal=logs&count=1&hang=1")
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_METRICS_EXPORTER = "none",
      OTEL_EXPORTER_OTLP_TIMEOUT = "300" })
    get(s, "/many/5")
    assert(c:eventually(function(seen)
      return select(2, counted(seen, "one of many")) == 5
    end))
    assert.truthy(s:wait_log("timed out"))
  end)

  it("reads answers in chunks, and takes the end of connections as it comes", function()
    local c = collector.start()
    for _, how in ipairs({ "chunked=1", "close=1", "" }) do
      c:answer("signal=logs&" .. how)
      local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_METRICS_EXPORTER = "none",
        OTEL_SERVICE_NAME = "s" .. how })
      for _ = 1, 3 do
        local before = #c:seen().requests
        get(s, "/hi/Ada")
        assert(c:eventually(function(seen) return #seen.requests > before end))
      end
      assert.equal(0, metrics(s)['perilune_otlp_failures_total{signal="logs"}'])
      assert.equal(0, s:stop())
    end
  end)

  it("drops what was refused, and never tries a partial success again", function()
    local c = collector.start()
    c:answer("signal=logs&count=1&status=400")
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_METRICS_EXPORTER = "none" })
    assert(process.eventually(function() return (dropped(s, "logs", "refused") or 0) > 0 end, 20))
    c:answer("signal=logs&count=1&reject=2&message=too%20old")
    get(s, "/many/10")
    assert(process.eventually(function() return dropped(s, "logs", "rejected") == 2 end, 20))
    process.sleep(1.5)
    for i, times in pairs((counted(c:seen(), "one of many"))) do
      assert.equal(1, times, i)
    end
  end)

  local REFUSALS = {
    { status = 307, key = "otlp.endpoint", says = ", and redirects are not followed" },
    { status = 404, key = "otlp.logs_endpoint", own = "?token=secret" },
    { status = 401, key = "otlp.headers" },
    { status = 403, key = "otlp.logs_headers", headers = "api-key=old" },
    { status = 400 },
  }
  for _, case in ipairs(REFUSALS) do
    it("says which address has answered " .. case.status .. ", and what to look at", function()
      local c = collector.start()
      c:answer("signal=logs&status=" .. case.status)
      local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_METRICS_EXPORTER = "none",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT = case.own and c.url .. "/v1/logs" .. case.own,
        OTEL_EXPORTER_OTLP_LOGS_HEADERS = case.headers })
      local reason = s:wait_log('"some of what was to be exported is lost"[^\n]*')
        :match('"reason":"([^"]*)"')
      local expected = ("%s/v1/logs answers %d"):format(c.url, case.status)
      if case.key then
        expected = expected .. (case.says or "") .. ": look at " .. case.key
      end
      assert.equal(expected, reason)
    end)
  end

  it("sends what has waited once the collector is back, and counts what had no room", function()
    local port = collector.free_port()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:" .. port,
      OTEL_METRICS_EXPORTER = "none", OTEL_BSP_MAX_QUEUE_SIZE = "60",
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE = "20" }, { "--set", "trace.sample=1" })
    local began = process.now()
    for _ = 1, 50 do get(s, "/job") end -- samples fill the queue
    for _ = 1, 50 do get(s, "/fail") end -- and make room for these
    for _ = 1, 20 do get(s, "/job") end
    assert.is_true(process.now() - began < 15, "requests do not wait")
    get(s, "/many/30")
    assert.truthy(s:wait_log('"the collector does not take what is sent"[^\n]*connection refused'))
    assert(process.eventually(function() return (dropped(s, "traces", "full") or 0) >= 40 end, 20))

    local c = collector.start(port)
    local seen = assert(c:eventually(function(seen)
      return #select_by(seen.spans, "name", "GET /fail") >= 50 and seen
    end, 60))
    assert.equal(50, #select_by(seen.spans, "name", "GET /fail"))
    assert(c:eventually(function(now) return select(2, counted(now, "one of many")) == 30 end, 60))
    assert(process.eventually(function()
      local numbers = metrics(s)
      local exported = numbers['perilune_otlp_exported_total{signal="traces"}']
      return exported + dropped(s, "traces", "full") == 121 and exported == #c:seen().spans
    end, 60), "every span is counted once")
  end)

  it("bounds the records that wait, and counts the others", function()
    local port = collector.free_port()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:" .. port,
      OTEL_METRICS_EXPORTER = "none" }, { "--set", "log.output=/dev/null" })
    for _ = 1, 20 do get(s, "/fill/100") end
    local lost
    assert(process.eventually(function()
      lost = dropped(s, "logs", "full")
      return lost > 1000
    end, 20), lost)
    get(s, "/raw") -- errors have a part of the queue to themselves
    local c = collector.start(port)
    assert(c:eventually(first("logs", "severity", 17), 60))
    assert(process.eventually(function()
      local came = #select_by(c:seen().logs, "body", "filler")
      return came > 500 and came + dropped(s, "logs", "full") >= 2000
    end, 30))
  end)

  it("loses no record when control is killed", function()
    local port = collector.free_port()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:" .. port,
      OTEL_METRICS_EXPORTER = "none" })
    get(s, "/many/200")
    assert.truthy(s:wait_log('"the collector does not take what is sent"'))
    assert.truthy(s:wait_log('"i":200'))
    kill_control(s)
    local c = collector.start(port)
    assert(c:eventually(function(seen)
      return select(2, counted(seen, "one of many")) == 200
    end, 60))
  end)

  it("counts the spans that control had when it was killed", function()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:" .. collector.free_port(),
      OTEL_METRICS_EXPORTER = "none", OTEL_LOGS_EXPORTER = "none" },
      { "--set", "trace.sample=1" })
    for _ = 1, 8 do get(s, "/job") end
    assert.truthy(s:wait_log('"the collector does not take what is sent"'))
    process.sleep(0.5)
    kill_control(s)
    assert(process.eventually(function()
      local ok, lost = pcall(dropped, s, "traces", "lost")
      return ok and lost == 8
    end, 20))
    for _ = 1, 2 do get(s, "/job") end
  end)

  it("sends the last of it when the server stops, to a name with several addresses", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = "http://localhost:" .. c.port,
      OTEL_BSP_SCHEDULE_DELAY = "60000", OTEL_METRIC_EXPORT_INTERVAL = "60000" },
      { "--set", "trace.sample=1" })
    get(s, "/hi/Ada")
    process.sleep(0.5)
    assert.equal(0, #c:seen().requests)
    assert.equal(0, s:stop())
    local seen = c:seen()
    assert.equal(1, #select_by(seen.spans, "name", "GET /hi/:name"))
    assert.equal(1, #select_by(seen.logs, "body", "greeted"))
    assert.equal(1, #select_by(seen.metrics, "name", "perilune_workers"))
  end)

  it("does not wait long for a collector that hangs when the server stops", function()
    local c = collector.start()
    c:answer("hang=1")
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url })
    get(s, "/hi/Ada")
    assert(c:eventually(function(seen) return #seen.requests > 0 end))
    local began = process.now()
    assert.equal(0, s:stop())
    assert.is_true(process.now() - began < 10)
  end)

  it("sends nothing unless it is told where to, and nothing that is switched off", function()
    local c = collector.start()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_SDK_DISABLED = "true" })
    get(s, "/hi/Ada")
    assert.equal(0, s:stop())
    s = start({})
    get(s, "/hi/Ada")
    assert.is_nil(metrics(s)['perilune_otlp_exported_total{signal="logs"}'])
    assert.equal(0, s:stop())
    s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = c.url, OTEL_LOGS_EXPORTER = "none",
      OTEL_TRACES_EXPORTER = "none" })
    get(s, "/hi/Ada")
    assert.equal(0, s:stop())
    for _, request in ipairs(c:seen().requests) do
      assert.equal("metrics", request.signal)
    end
  end)
end)

describe("OTLP", function()
  after_each(process.cleanup)

  it("refuses https in its own keys, and says what to do instead", function()
    local p = process.run({ "run", "apps/hello", "--set", "otlp.endpoint=https://collector:4318" })
    assert.equal(78, p.code)
    assert.truthy(p.err:find("https is not spoken: let a collector beside the server", 1, true))
  end)

  it("leaves what it cannot do of OpenTelemetry's variables alone, and says so", function()
    local s = start({ OTEL_EXPORTER_OTLP_ENDPOINT = "https://collector:4318",
      OTEL_EXPORTER_OTLP_PROTOCOL = "grpc", OTEL_METRICS_EXPORTER = "prometheus",
      OTEL_EXPORTER_OTLP_TIMEOUT = "soon" })
    get(s, "/hi/Ada")
    local said = s.process:err() .. s:log()
    for _, name in ipairs({ "ENDPOINT is not used[^\n]*https is not spoken",
      "PROTOCOL is not used[^\n]*http/protobuf", "METRICS_EXPORTER is not used[^\n]*otlp or none",
      "TIMEOUT is not used[^\n]*milliseconds" }) do
      assert.truthy(said:find(name), name .. said)
    end
  end)

  it("puts OpenTelemetry's variables between ours and the file", function()
    local folder = process.folder({ ["app.lua"] = APP,
      ["config.lua"] = 'return { otlp = { delay = "7s", batch = 100, queue = 300 } }\n' })
    local p = process.run({ "config", folder, "--set", "otlp.queue=3" }, { env = {
      OTEL_BSP_SCHEDULE_DELAY = "2500", OTEL_BSP_MAX_QUEUE_SIZE = "5",
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE = "6", PERILUNE_OTLP_BATCH = "4" } })
    assert.truthy(p.out:find("otlp.delay%s+2.5s%s+OTEL_BSP_SCHEDULE_DELAY"), p.out)
    assert.truthy(p.out:find("otlp.batch%s+4%s+PERILUNE_OTLP_BATCH"))
    assert.truthy(p.out:find("otlp.queue%s+3%s+flag"))
  end)
end)
