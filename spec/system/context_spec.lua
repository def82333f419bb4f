-- Whose request it is, over real sockets: what comes in, what the log says, what goes out.

local json = require("perilune.json")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
local PARENT = ("00-%s-%s-01"):format(TRACE, SPAN)

local APP = [[
local P = require("perilune")
local app = P.app()
app:get("/context", function(c)
  local now = P.context.current()
  now.baggage, now.id = c:baggage("user"), c.id
  return now
end)
app:get("/log", function(c)
  c.tenant = c.tenant or "of-the-app"
  P.log.info("in the handler")
  P.spawn(function()
    P.sleep(0)
    P.log.info("in a spawned task")
  end):wait()
  P.detach("later", function()
    P.sleep(0.02)
    P.log.info("in a detached task")
    error("detached and failed")
  end)
  return c.span_id
end)
app:get("/out", function() return P.context.headers(nil, true) end)
app:get("/own", function(c)
  c:set("x-request-id", "my own")
  return "ok"
end)
app:get("/crash", function()
  require("ffi").cast("int *", 8)[0] = 1
end)
app:health("check", { every = "100ms" }, function()
  P.log.info("in a check")
end)
P.every("20ms", "tick", function()
  P.log.info("in a timer")
end)
return app
]]

local server

local function serve(settings, workers)
  local args = {}
  for _, pair in ipairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = { ["app.lua"] = APP }, args = args, workers = workers })
end

--- Asks with curl: the body, and the head.
---@param path string
---@param ... string "Name: value"
---@return string body
---@return string head
local function curl(path, ...)
  local argv = { "curl", "-sS", "-i", "--max-time", "10" }
  for _, field in ipairs({ ... }) do
    argv[#argv + 1] = "-H"
    argv[#argv + 1] = field
  end
  argv[#argv + 1] = ("http://127.0.0.1:%d%s"):format(server.port, path)
  local client = process.spawn(argv)
  assert.equal(0, client:wait(), client:err())
  local head, body = client:out():match("^(.-\r\n)\r\n(.*)$")
  return body, head
end

local function records()
  local list = {}
  for line in server:log():gmatch("([^\n]+)\n") do
    list[#list + 1] = assert(json.decode(line), line)
  end
  return list
end

local function find(key, value)
  for _, record in ipairs(records()) do
    if record[key] == value then
      return record
    end
  end
  error(("no record with %s = %s in\n%s"):format(key, value, server:log()), 2)
end

describe("a request from curl", function()
  after_each(process.cleanup)

  it("continues its trace: in the handler, in the log", function()
    serve()
    local now = json.decode((curl("/context", "traceparent: " .. PARENT, "baggage: user=ann")))
    assert.equal(TRACE, now.trace_id)
    assert.equal(SPAN, now.parent_id)
    assert.is_true(now.sampled)
    assert.equal("ann", now.baggage)
    server:stop()
    local access = find("target", "/context")
    assert.equal(TRACE, access.trace_id)
    assert.equal(now.span_id, access.span_id)
    assert.equal(now.id, access.req_id)
    assert.is_nil(access.tenant)
  end)

  it("begins a trace with a random id of its own", function()
    serve(nil, 2)
    local seen = {}
    for _ = 1, 20 do
      local now = json.decode((curl("/context")))
      assert.is_nil(seen[now.trace_id])
      assert.is_nil(seen[now.span_id])
      seen[now.trace_id], seen[now.span_id] = true, true
      assert.is_nil(now.parent_id)
    end
    server:stop()
  end)

  it("marks all that is logged on its behalf, detached tasks with a span of their own", function()
    serve()
    local span = curl("/log", "traceparent: " .. PARENT)
    assert(server:wait_log("detached and failed"))
    server:stop()
    local access = find("target", "/log")
    assert.equal("of-the-app", access.tenant)
    for _, msg in ipairs({ "in the handler", "in a spawned task" }) do
      local record = find("msg", msg)
      assert.equal(TRACE, record.trace_id)
      assert.equal(span, record.span_id)
      assert.equal("of-the-app", record.tenant)
      assert.equal(access.req_id, record.req_id)
      assert.equal("GET /log", record.route)
    end
    local detached = find("msg", "in a detached task")
    assert.equal(TRACE, detached.trace_id)
    assert.not_equal(span, detached.span_id)
    assert.equal("of-the-app", detached.tenant)
    assert.equal(access.req_id, detached.req_id)
    local failed
    for _, record in ipairs(records()) do
      failed = record.msg:find("detached and failed", 1, true) and record or failed
    end
    assert.equal(detached.span_id, failed.span_id)
  end)

  it("shares no trace with timers, each run of which has its own", function()
    serve()
    assert(server:wait_log("in a timer.*in a timer"))
    server:stop()
    local seen = {}
    for _, record in ipairs(records()) do
      if record.msg == "in a timer" then
        assert.equal(32, #record.trace_id)
        assert.is_nil(record.req_id)
        assert.is_nil(seen[record.trace_id])
        seen[record.trace_id] = true
      end
    end
  end)

  it("shares none with health checks either", function()
    serve({ "admin.listen=127.0.0.1:0" })
    assert(server:wait_log("in a check.*in a check"))
    server:stop()
    local seen, count = {}, 0
    for _, record in ipairs(records()) do
      if record.msg == "in a check" and not seen[record.trace_id] then
        seen[record.trace_id], count = true, count + 1
      end
    end
    assert.is_true(count >= 2)
  end)

  it("is not believed about tenant, tier and id by default", function()
    serve()
    local now = json.decode((curl("/context", "X-Tenant: acme", "X-Tier: high",
      "X-Request-Id: mine")))
    assert.is_nil(now.tenant)
    assert.equal("normal", now.tier)
    assert.matches("^%x+$", now.id)
    server:stop()
  end)

  it("is believed when it comes from a trusted peer", function()
    serve({ "context.trusted=10.0.0.0/8,127.0.0.0/8", "context.tenant_header=X-Org" })
    local now = json.decode((curl("/context", "X-Org: acme", "X-Tier: high",
      "X-Request-Id: 7b44-\"1\"")))
    assert.equal("acme", now.tenant)
    assert.equal("high", now.tier)
    assert.equal('7b44-"1"', now.id)
    local out = json.decode((curl("/out", "X-Org: acme", "X-Tier: low", "X-Request-Id: r-2",
      "traceparent: " .. PARENT, "tracestate: a=1", "tracestate: b=2", "baggage: c=3")))
    assert.same({ "acme", "low", "r-2", "a=1,b=2", "c=3" }, { out["x-org"], out["x-tier"],
      out["x-request-id"], out.tracestate, out.baggage })
    server:stop()
    local access = find("req_id", '7b44-"1"')
    assert.equal("acme", access.tenant)
    assert.equal("/context", access.target)
    local other = find("target", "/out")
    assert.equal(out.traceparent, ("00-%s-%s-01"):format(TRACE, other.span_id))
  end)

  it("is believed on a local socket where that is trusted, and nowhere else", function()
    local path = process.folder() .. "/s.sock"
    server = process.server({ app = { ["app.lua"] = APP }, args = { "--listen", "unix:" .. path,
      "--set", "context.trusted=unix" } })
    local client = process.spawn({ "curl", "-sS", "--unix-socket", path, "-H", "X-Tenant: acme",
      "http://x/context" })
    assert.equal(0, client:wait(), client:err())
    assert.equal("acme", json.decode(client:out()).tenant)
    assert.is_nil(json.decode((curl("/context", "X-Tenant: acme"))).tenant)
    server:stop()
  end)

  it("is named where a crash is told of, by the id of its caller too", function()
    serve({ "context.trusted=127.0.0.1" })
    local wire = assert(sockets.connect(server.port))
    wire:send(("GET /crash HTTP/1.1\r\nHost: x\r\ntraceparent: %s\r\n"
      .. "X-Request-Id: 5c2d-11\r\n\r\n"):format(PARENT))
    assert(server:wait_log('"a worker crashed"[^\n]*\n'))
    wire:close()
    server:stop()
    local crash = find("msg", "a worker crashed")
    assert.equal("5c2d-11", crash.req_id)
    assert.equal(TRACE, crash.trace_id)
  end)

  it("gets its request id back where that is wanted, errors included", function()
    serve({ "context.reply_request_id=true", "context.trusted=127.0.0.1" })
    local _, head = curl("/context", "X-Request-Id: r-1")
    assert.matches("\r\nX%-Request%-Id: r%-1\r\n", head)
    _, head = curl("/nowhere")
    assert.matches("\r\nX%-Request%-Id: %x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x\r\n", head)
    _, head = curl("/own")
    assert.matches("\r\nx%-request%-id: my own\r\n", head)
    assert.is_nil(head:find("X-Request-Id", 1, true))
    server:stop()
  end)

  it("gets no such header otherwise", function()
    serve()
    local _, head = curl("/context")
    assert.is_nil(head:lower():find("x-request-id", 1, true))
    server:stop()
  end)

  it("begins a new trace where traces are taken from trusted peers only", function()
    serve({ "context.trace_from=trusted", "trace.sample=0" })
    local now = json.decode((curl("/context", "traceparent: " .. PARENT, "baggage: user=ann")))
    assert.not_equal(TRACE, now.trace_id)
    assert.is_false(now.sampled)
    assert.is_nil(now.baggage)
    server:stop()
  end)

  it("is an example of how long requests take, by its trace", function()
    serve({ "name=context" })
    curl("/context", "traceparent: " .. PARENT)
    local client = process.spawn({ "curl", "-sS", "--unix-socket",
      server.folder .. "/perilune/context.sock", "http://x/metrics?format=openmetrics" })
    assert.equal(0, client:wait(), client:err())
    assert.matches('# {trace_id="' .. TRACE .. '"}', client:out(), 1, true)
    server:stop()
  end)

  it("passes its trace on from server to server", function()
    serve()
    local out = json.decode((curl("/out", "traceparent: " .. PARENT, "tracestate: a=1")))
    local fields = {}
    for name, value in pairs(out) do
      fields[#fields + 1] = name .. ": " .. value
    end
    local now = json.decode((curl("/context", unpack(fields))))
    assert.equal(TRACE, now.trace_id)
    assert.equal(out.traceparent:sub(37, 52), now.parent_id)
    server:stop()
  end)
end)

describe("the configuration of contexts", function()
  after_each(process.cleanup)

  it("takes a list of networks from config.lua, and says what is none", function()
    local folder = process.folder({ ["app.lua"] = APP,
      ["config.lua"] = 'return { context = { trusted = { "10.0.0.0/8", "unix" } } }' })
    local r = process.run({ "config", folder, "--json" })
    assert.equal(0, r.code)
    for _, key in ipairs(json.decode(r.out).keys) do
      if key.key == "context.trusted" then
        assert.equal("10.0.0.0/8,unix", key.value)
      end
    end
    r = process.run({ "config", folder, "--set", "context.trusted=10.0.0.1/8" })
    assert.equal(78, r.code)
    assert.matches("context.trusted", r.err, 1, true)
    assert.matches("10.0.0.0/8", r.err, 1, true)
  end)

  it("changes with a reload", function()
    local folder = process.folder({ ["app.lua"] = APP })
    server = process.server({ app = folder })
    assert.is_nil(json.decode((curl("/context", "X-Tenant: acme"))).tenant)
    local file = assert(io.open(folder .. "/config.lua", "w"))
    file:write('return { context = { trusted = "127.0.0.1" } }')
    file:close()
    server.process:kill("HUP")
    assert(server:wait_log('"a generation is served".*"a generation is served"'))
    assert.equal("acme", json.decode((curl("/context", "X-Tenant: acme"))).tenant)
    server:stop()
  end)
end)
