--- Traces of a server that serves: what is kept and why, whose child is whose, over real sockets.

local exposition = require("spec.support.exposition")
local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e47ff", "00f067aa0ba902b7"
local FROM = ("traceparent: 00-%s-%s-01\r\n"):format(TRACE, SPAN)

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/plain", function() return "plain" end)
app:get("/pid", function()
  return io.open("/proc/self/stat"):read("*l"):match("^%d+")
end)
app:get("/notes/:id<int>", function(c, id)
  P.span_set("note.id", id)
  P.span_set("note.id", id + 1)
  return P.span("load", function()
    P.span_set("db", "main")
    P.span_set("cached", false)
    P.sleep(0.002)
    return { out = P.context.headers().traceparent, inner = P.span("inner", function()
      P.log.info("in the inner span")
      return P.context.current().span_id
    end) }
  end)
end)
app:get("/tasks", function()
  P.span("around", function()
    P.all({ { function() P.span("left", P.sleep, 0.003) end },
      { function() P.sleep(0.001) end } })
  end)
  P.spawn(function() P.sleep(0.002) end)
  return "ok"
end)
app:post("/body", function(c) return tostring(#c:body()) end)
app:get("/busy", function()
  return P.atomic(function()
    local till = P.monotonic() + 0.3
    while P.monotonic() < till do end
    return "busy"
  end)
end)
app:get("/fail", function() P.span("query", error, "no database", 0) end)
app:get("/caught", function()
  return tostring(pcall(P.span, "query", error, "no database", 0))
end)
app:get("/status", function() return "no", 502 end)
app:get("/gone", function(c) return c:problem(410) end)
app:get("/late", { timeout = "50ms" }, function() P.sleep(5) end)
app:get("/hog", function()
  local all = {}
  while true do all[#all + 1] = ("x"):rep(1000) .. #all end
end)
app:get("/slow", function(c) P.sleep(tonumber(c:query("s") or 0)) return "ok" end)
app:get("/many", function()
  for i = 1, 100 do P.span("step " .. i, function() end) end
  return "ok"
end)
app:get("/detach", function()
  P.detach("later", function()
    P.span("unit", P.sleep, 0.001)
    P.span("broken unit", error, "cannot", 0)
  end)
  return "ok"
end)
app:get("/crash", function() require("ffi").cast("int *", 8)[0] = 1 end)
--TIMERS
return app
]]

local TIMERS = [[
P.every("20ms", "tick", function() P.span("work", function() P.sleep(0.001) end) end)
P.every("50ms", "sour", function() error("a timer has failed") end)
]]

local server

local function start(opts)
  opts = opts or {}
  local args = { "--set", "admin.listen=127.0.0.1:0" }
  for _, setting in ipairs(opts) do
    args[#args + 1] = "--set"
    args[#args + 1] = setting
  end
  local app = APP:gsub("%-%-TIMERS", opts.timers and TIMERS or "")
  server = process.server({ app = { ["app.lua"] = app }, workers = opts.workers or 1, args = args })
  server.admin = tonumber(server.ready:match("admin plane on [^\n]-:(%d+)"))
end

local function ask(target, headers, method, body)
  local connection = wire.connect(server.port)
  connection:request(method or "GET", target, headers, body)
  local response = connection:response({ method = method or "GET" })
  connection:close()
  return response
end

--- The spans that were kept, newest first.
local function spans(query)
  local response = wire.ask(server.admin, "GET", "/debug/spans" .. (query or "?limit=1000"))
  assert.equal(200, response.status)
  return assert(json.decode(response.body)).spans
end

--- The first for which `fn` is true, once it is there.
local function find(fn)
  local found = process.eventually(function()
    for _, s in ipairs(spans()) do
      if fn(s) then
        return s
      end
    end
  end, 10)
  return assert(found, "no such span was kept")
end

local function named(name)
  return find(function(s) return s.name == name end)
end

local function by_id(list)
  local ids = {}
  for _, s in ipairs(list) do
    ids[s.span_id] = s
  end
  return ids
end

local function trace_of(span)
  return spans("?limit=1000&trace=" .. span.trace_id)
end

local function metrics()
  return (exposition.parse(wire.ask(server.admin, "GET", "/metrics").body, false))
end

describe("a request", function()
  after_each(process.cleanup)

  it("is a span of its trace, with what it was", function()
    start({ "context.trusted=127.0.0.1" })
    ask("/notes/7?x=1", FROM .. "X-Tenant: acme\r\n")
    local s = named("GET /notes/:id<int>")
    assert.equal(TRACE, s.trace_id)
    assert.equal(SPAN, s.parent_id)
    assert.equal("request", s.what)
    assert.equal("server", s.kind)
    assert.equal("unset", s.status)
    assert.equal("GET", s.method)
    assert.equal(200, s.http_status)
    assert.equal("/notes/7?x=1", s.target)
    assert.equal("acme", s.tenant)
    assert.same({ "sampled" }, s.kept)
    assert.equal(0, s.adjusted) -- by a wish of the caller's
    assert.same({ ["note.id"] = 8 }, s.attributes)
    assert.is_true(s.duration_ms >= 2 and s.duration_ms < 10000)
    assert.is_true(math.abs(s.start - os.time()) < 60)
    server:stop()
  end)

  it("has its waits and its spans below it, and tells others the innermost", function()
    start({ "trace.sample=1" })
    local said = json.decode(ask("/notes/7").body)
    local root = named("GET /notes/:id<int>")
    assert.equal(1, root.adjusted)
    assert.is_nil(root.parent_id)
    local list = trace_of(root)
    assert.equal(4, #list)
    local names = {}
    for _, s in ipairs(list) do
      names[s.name] = s
    end
    assert.equal(root.span_id, names.load.parent_id)
    assert.equal(names.load.span_id, names.inner.parent_id)
    assert.equal(names.load.span_id, names.sleep.parent_id)
    assert.same({ db = "main", cached = false }, names.load.attributes)
    assert.equal(("00-%s-%s-0"):format(root.trace_id, names.load.span_id),
      said.out:sub(1, -2))
    assert.equal(names.inner.span_id, said.inner)
    assert.is_true(names.sleep.duration_ms >= 2)
    assert.is_true(names.load.duration_ms >= names.sleep.duration_ms)
    assert.is_true(root.duration_ms >= names.load.duration_ms)
    assert.is_true(names.load.start >= root.start - 1e-6)
    server:stop()
    local record = server:log():match('[^\n]*"msg":"in the inner span"[^\n]*')
    assert.equal(said.inner, json.decode(record).span_id)
  end)

  it("has the waits of its tasks where those were spawned", function()
    start({ "trace.sample=1" })
    ask("/tasks")
    local root = named("GET /tasks")
    local list = trace_of(root)
    local ids, around, of_root = by_id(list), nil, {}
    for _, s in ipairs(list) do
      around = s.name == "around" and s or around
      assert.is_true(s.span_id == root.span_id or ids[s.parent_id] ~= nil, s.name)
    end
    local below = {}
    for _, s in ipairs(list) do
      if s.parent_id == around.span_id then
        below[s.name] = (below[s.name] or 0) + 1
      elseif s.parent_id == root.span_id then
        of_root[s.name] = (of_root[s.name] or 0) + 1
      elseif s.name == "sleep" then
        assert.equal("left", ids[s.parent_id].name)
      end
    end
    assert.equal(1, below.left)
    assert.equal(1, below.sleep)
    assert.is_true(below.event >= 1)
    assert.equal(1, of_root.around)
    assert.equal(1, of_root.tasks) -- the last one was cancelled and waited for
    server:stop()
  end)

  it("has the wait for a body that is too large to be there at its begin", function()
    start({ "trace.sample=1" })
    local connection = wire.connect(server.port)
    local half = ("x"):rep(100000)
    connection:send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" .. half)
    process.sleep(0.05)
    connection:send(half)
    assert.equal("200000", connection:response().body)
    connection:close()
    local wait = find(function(s) return s.name == "body" and s.duration_ms >= 20 end)
    assert.equal("POST /body", by_id(trace_of(wait))[wait.parent_id].name)
    server:stop()
  end)

  it("has the wait for a small body, and for its turn, before its handler begins", function()
    start({ "trace.sample=1" })
    local connection = wire.connect(server.port)
    local others = { wire.connect(server.port), wire.connect(server.port) }
    connection:send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
    process.sleep(0.05)
    connection:send("cd")
    assert.equal("4", connection:response().body)
    local body = find(function(s) return s.name == "body" end)
    assert.equal("POST /body", by_id(trace_of(body))[body.parent_id].name)
    assert.is_true(body.duration_ms >= 20)
    connection:request("GET", "/busy")
    process.sleep(0.05)
    for _, other in ipairs(others) do -- which are read when that one has ended
      other:request("GET", "/busy")
    end
    assert.equal("busy", connection:response().body)
    for _, other in ipairs(others) do
      assert.equal("busy", other:response().body)
      other:close()
    end
    local queue = find(function(s) return s.name == "queue" and s.duration_ms >= 100 end)
    assert.equal("GET /busy", by_id(trace_of(queue))[queue.parent_id].name)
    connection:close()
    server:stop()
  end)

  it("lasts from when it came, and not from when the worker went to sleep", function()
    start({ "trace.sample=1" })
    local connection = wire.connect(server.port)
    assert(process.eventually(function()
      for _ = 1, 10 do
        process.sleep(0.037)
        connection:request("GET", "/plain")
        connection:response()
      end
      local short = 0
      for _, s in ipairs(spans("?limit=10")) do
        short = short + (s.name == "GET /plain" and s.duration_ms < 5 and 1 or 0)
      end
      return short >= 7
    end, 20))
    connection:close()
    server:stop()
  end)

  it("keeps the first sixty of its spans, and says how many there were more", function()
    start({ "trace.sample=1" })
    ask("/many")
    local root = named("GET /many")
    assert.equal(61, #trace_of(root))
    assert.equal(40, root.left_out)
    assert(process.eventually(function()
      return metrics()["perilune_spans_left_out_total{}"] == 40
    end, 10))
    server:stop()
  end)
end)

describe("a trace that is not sampled", function()
  after_each(process.cleanup)

  local function why(name)
    return table.concat(named(name).kept, " ")
  end

  it("is kept when it has failed, was shed, or an error left a span of it", function()
    start({ "trace.sample=0", "trace.slow_factor=0", "trace.anomaly_errors=0",
      "vm.memory_soft=24M" })
    ask("/plain")
    assert.equal(410, ask("/gone").status)
    assert.equal(500, ask("/fail").status)
    assert.equal("false", ask("/caught").body)
    assert.equal(502, ask("/status").status)
    assert.equal(503, ask("/late").status)
    assert.equal(503, ask("/hog").status)
    assert.equal("error shed", why("GET /hog"))
    assert.equal("error", why("GET /fail"))
    assert.equal("error", why("GET /caught"))
    assert.equal("error", why("GET /status"))
    assert.equal("error shed", why("GET /late"))
    local query = find(function(s)
      return s.name == "query" and s.parent_id == named("GET /fail").span_id
    end)
    assert.equal("error", query.status)
    assert.equal("no database", query.message)
    assert.equal("no database", named("GET /fail").message)
    assert.equal("error", named("GET /fail").status)
    assert.equal("unset", named("GET /caught").status)
    assert.equal(1, named("GET /fail").adjusted)
    for _, s in ipairs(spans()) do
      assert.is_true(s.name ~= "GET /plain" and s.name ~= "GET /gone", s.name)
    end
    assert(process.eventually(function()
      local m = metrics()
      return m['perilune_traces_kept_total{reason="error"}'] >= 4
        and m['perilune_traces_kept_total{reason="shed"}'] == 2
        and m["perilune_spans_kept_total{}"] >= 6
    end, 10))
    server:stop()
  end)

  it("is kept when it was slow for its route", function()
    start({ "trace.sample=0", "trace.anomaly_p99=0" })
    local connection = wire.connect(server.port)
    for _ = 1, 100 do -- so many that some slow ones change no P99
      for _ = 1, 40 do
        connection:request("GET", "/slow")
      end
      for _ = 1, 40 do
        connection:response()
      end
    end
    connection:close()
    assert(process.eventually(function()
      ask("/slow?s=0.5")
      for _, s in ipairs(spans()) do
        if s.name == "GET /slow" and s.duration_ms >= 500 then
          assert.same({ "slow" }, s.kept)
          return true
        end
      end
    end, 10))
    server:stop()
  end)

  it("is kept with all others while too many requests fail, within a cap", function()
    start({ "trace.sample=0", "trace.slow_factor=0", "trace.anomaly_hold=1s",
      "trace.anomaly_per_second=5" })
    ask("/plain")
    local connection = wire.connect(server.port)
    assert(process.eventually(function()
      for i = 1, 40 do
        connection:request("GET", i % 4 == 0 and "/status" or "/plain")
        connection:response()
      end
      return metrics()["perilune_trace_anomaly_share{}"] == 1
    end, 20))
    for _ = 1, 200 do
      connection:request("GET", "/plain")
      connection:response()
    end
    connection:close()
    assert.same({ "anomaly" }, named("GET /plain").kept)
    assert(process.eventually(function()
      return metrics()["perilune_traces_capped_total{}"] > 0
    end, 10))
    assert(process.eventually(function()
      return metrics()["perilune_trace_anomaly_share{}"] == 0
    end, 30))
    server:stop()
  end)

  it("is kept for callers within a cap, and for what it is past that", function()
    start({ "trace.sample=0.01", "trace.slow_factor=0", "trace.anomaly_errors=0",
      "trace.anomaly_p99=0", "trace.wished_per_second=1" })
    -- The flag, and an id that the server itself would sample.
    for i, id in ipairs({ TRACE, TRACE:sub(1, 16) .. "0000000000000001" }) do
      local from = ("traceparent: 00-%s-%s-%02x\r\n"):format(id, SPAN, 2 - i)
      local connection = wire.connect(server.port)
      for _ = 1, 100 do
        connection:request("GET", "/plain", from)
        connection:response()
      end
      connection:request("GET", "/status", from)
      assert.equal(502, connection:response().status)
      connection:close()
    end
    assert(process.eventually(function()
      return (metrics()["perilune_traces_unheard_total{}"] or 0) > 100
    end, 10))
    local plain, failed = 0, 0
    for _, s in ipairs(spans()) do
      plain = plain + (s.name == "GET /plain" and 1 or 0)
      failed = failed + (s.name == "GET /status" and 1 or 0)
    end
    assert.equal(2, failed)
    assert.is_true(plain >= 1 and plain < 100, plain)
    server:stop()
  end)

  it("is one in a hundred by the ids of ten thousand", function()
    start({ "trace.slow_factor=0", workers = 2 })
    local connection, below = wire.connect(server.port), 0
    for i = 1, 10000 do
      -- Each of 10,000 ids once: the upper 20 of the 56 bits that count are i * 104.8.
      local id = ("%032x"):format(0):sub(1, 18) .. ("%05x"):format(math.floor(i * 104.8))
        .. ("%09x"):format(i)
      below = below + (math.floor(i * 104.8) / 2 ^ 20 < 0.01 and 1 or 0)
      connection:request("GET", "/plain",
        ("traceparent: 00-%s-%s-00\r\n"):format(id, SPAN))
      if i % 50 == 0 then
        for _ = 1, 50 do
          connection:response()
        end
      end
    end
    connection:close()
    assert.is_true(below >= 99 and below <= 101)
    assert(process.eventually(function()
      return metrics()['perilune_traces_kept_total{reason="sampled"}'] >= below
    end, 10))
    local kept = 0
    for _, s in ipairs(spans()) do
      if s.name == "GET /plain" then
        kept = kept + 1
        assert.equal(100, s.adjusted)
        assert.equal(SPAN, s.parent_id)
      end
    end
    assert.equal(below, kept)
    server:stop()
  end)
end)

describe("a detached task", function()
  after_each(process.cleanup)

  it("is a span of the trace that has started it", function()
    start({ "trace.sample=0", "trace.slow_factor=0" })
    ask("/detach", FROM)
    local task = named("later")
    assert.equal("task", task.what)
    assert.equal(TRACE, task.trace_id)
    assert.equal(named("GET /detach").span_id, task.parent_id)
    assert.equal("error", task.status) -- it was left by the error
    assert.equal("cannot", named("broken unit").message)
    assert.equal(task.span_id, named("broken unit").parent_id)
    assert.equal(task.span_id, named("unit").parent_id)
    assert.equal("unset", named("unit").status)
    server:stop()
  end)

  it("that is a timer has one for each run, which is kept when it fails", function()
    start({ "trace.sample=0", timers = true })
    local sour = named("sour")
    assert.equal("timer", sour.what)
    assert.equal("error", sour.status)
    assert.matches("a timer has failed", sour.message, 1, true)
    assert.same({ "error" }, sour.kept)
    for _, s in ipairs(spans()) do
      assert.is_true(s.name ~= "tick" and s.name ~= "work", s.name)
    end
    server:stop()
  end)

  it("that is a timer has its spans below it", function()
    start({ "trace.sample=1", timers = true })
    local work = named("work")
    local timer = find(function(s) return s.span_id == work.parent_id end)
    assert.equal("tick", timer.name)
    assert.equal("timer", timer.what)
    assert.equal(work.trace_id, timer.trace_id)
    assert.is_nil(timer.parent_id)
    server:stop()
  end)
end)

describe("what a worker has kept", function()
  after_each(process.cleanup)

  it("can be read when it was killed, and its successor goes on behind it", function()
    start({ "trace.sample=1" })
    local pid = tonumber(ask("/pid").body)
    ask("/notes/7")
    named("GET /notes/:id<int>")
    process.signal(pid, "KILL")
    assert(process.eventually(function()
      return not process.is_alive(pid)
    end, 10))
    assert.equal("main", named("load").attributes.db)
    assert(process.eventually(function()
      local ok, response = pcall(ask, "/status")
      return ok and response.status == 502
    end, 20))
    named("GET /status")
    assert.equal("main", named("load").attributes.db)
    server:stop()
  end)

  it("has the spans of a request that ended before a crash", function()
    start({ "trace.sample=1" })
    ask("/notes/7")
    pcall(ask, "/crash")
    assert.equal("main", named("load").attributes.db)
    server:stop()
  end)

  it("is dropped and counted when nobody takes it out", function()
    start({ "trace.sample=1", "log.access=false" })
    ask("/plain")
    local control
    for _, pid in ipairs(process.children(server.process.pid)) do
      local file = io.open("/proc/" .. pid .. "/comm")
      control = file and file:read("*l") == "perilune-ctl" and pid or control
    end
    process.signal(control, "STOP")
    local connection = wire.connect(server.port)
    for _ = 1, 300 do
      for _ = 1, 50 do
        connection:request("GET", "/plain")
      end
      for _ = 1, 50 do
        connection:response()
      end
    end
    connection:close()
    process.signal(control, "CONT")
    assert(process.eventually(function()
      return metrics()['perilune_spans_dropped_total{kept="sampled"}'] > 0
    end, 20))
    assert.equal(200, ask("/plain").status)
    server:stop()
  end)
end)

describe("GET /debug/spans", function()
  after_each(process.cleanup)

  it("refuses limits and ids that are none", function()
    start()
    local no_hex = ("g"):rep(32)
    for _, query in ipairs({ "limit=0", "limit=1001", "limit=x", "trace=1", "trace=" .. no_hex }) do
      assert.equal(400, wire.ask(server.admin, "GET", "/debug/spans?" .. query).status, query)
    end
    server:stop()
  end)

  it("shows the newest first, so many as are asked for", function()
    start({ "trace.sample=1", workers = 2 })
    for _ = 1, 20 do
      ask("/plain")
    end
    named("GET /plain")
    local list = spans("?limit=5")
    assert.equal(5, #list)
    for i = 2, 5 do
      assert.is_true(list[i].start + list[i].duration_ms / 1000
        <= list[i - 1].start + list[i - 1].duration_ms / 1000 + 1e-3)
    end
    server:stop()
  end)
end)
