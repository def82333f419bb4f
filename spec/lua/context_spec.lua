local P = require("perilune")
local test = require("perilune.test")

--- Sends a request to a handler and gives what `read(c)` returned.
local function reading(read, opts, method)
  local app, value = P.app(), nil
  app:any("/*path", function(c)
    value = read(c)
    return "ok"
  end)
  local api = test.app(app)
  opts = opts or {}
  local path = opts.path or "/a"
  opts.path = nil
  local r = api:request(method or "GET", path, opts)
  return value, r
end

describe("the context reads", function()
  it("method, path and target", function()
    local got = reading(function(c) return { c.method, c.path, c.target } end,
      { path = "/a%20b/./c/../d?x=1" }, "PUT")
    assert.same({ "PUT", "/a b/d", "/a%20b/./c/../d?x=1" }, got)
  end)

  it("query parameters, decoded", function()
    local got = reading(function(c)
      return { c:query("a"), c:query("b"), c:query("none") == nil, c:queries("a"), c:queries("z") }
    end, { path = "/?a=1+2&b=%26&a=3" })
    assert.same({ "1 2", "&", true, { "1 2", "3" }, {} }, got)
  end)

  it("headers in any case, repeated ones joined", function()
    local app, got = P.app(), nil
    app:get("/", function(c)
      got = { c:header("x-a"), c:header("X-A"), c:header("none") == nil, c:headers()["x-a"] }
      return ""
    end)
    test.app(app):raw("GET / HTTP/1.1\r\nHost: x\r\nX-a: 1\r\nx-A: 2\r\n\r\n", 1)
    assert.same({ "1, 2", "1, 2", true, "1, 2" }, got)
  end)

  it("cookies", function()
    local got = reading(function(c)
      return { c:cookie("a"), c:cookie("b"), c:cookie("c") == nil }
    end, { cookies = { a = "1", b = "two" } })
    assert.same({ "1", "two", true }, got)
  end)

  it("nil, and not nothing, where there is none", function()
    local got = reading(function(c)
      return { tostring(c:query("x")), tostring(c:header("x")), tostring(c:cookie("x")),
        tostring(c:param("x")) }
    end, { path = "/" })
    assert.same({ "nil", "nil", "nil", "nil" }, got)
  end)

  it("where the request comes from and how", function()
    local got = reading(function(c)
      return { c.remote_addr, c.scheme, c.http_version, c.tier, c.tenant == nil }
    end)
    assert.same({ "127.0.0.1", "http", "1.1", "normal", true }, got)
  end)

  it("a request id and a trace id", function()
    local got = reading(function(c) return { c.id, c.trace_id } end)
    assert.matches("^%x+$", got[1])
    assert.equal(16, #got[1])
    assert.equal(32, #got[2])
    local trace = "0af7651916cd43dd8448eb211c80319c"
    assert.equal(trace, (reading(function(c) return c.trace_id end,
      { headers = { traceparent = "00-" .. trace .. "-b7ad6b7169203331-01" } })))
  end)

  it("the body, as often as it is asked", function()
    local got = reading(function(c) return { c:body(), c:body() } end, { body = "text" }, "POST")
    assert.same({ "text", "text" }, got)
    assert.equal("", (reading(function(c) return c:body() end)))
  end)

  it("a body that comes later, and one that is larger than a buffer", function()
    local app, got = P.app(), nil
    app:post("/", { body_max = "10M" }, function(c) got = c:body() return "" end)
    local api = test.app(app)
    api:raw({ "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nab", "cd", "ef" }, 1)
    assert.equal("abcdef", got)
    local big = ("0123456789"):rep(300000)
    api:post("/", { body = big })
    assert.is_true(big == got)
  end)

  it("the body in chunks, in constant memory", function()
    local app, count, bytes, most = P.app(), 0, 0, 0
    app:post("/", { body_max = "10M" }, function(c)
      for chunk in c:chunks() do
        count, bytes = count + 1, bytes + #chunk
        most = math.max(most, #chunk)
      end
      return ""
    end)
    test.app(app):post("/", { body = ("x"):rep(1000000) })
    assert.equal(1000000, bytes)
    assert.is_true(count > 1 and most <= 65536)
  end)

  it("JSON; malformed is 400, another type 415, too large 413", function()
    local app = P.app()
    app:post("/", { body_max = 100 }, function(c) return { got = c:json() } end)
    local api = test.app(app)
    assert.same({ got = { a = { 1 } } }, api:post("/", { json = { a = { 1 } } }):json())
    assert.equal(200, api:post("/", { body = "{}",
      headers = { ["content-type"] = "application/vnd.x+json; charset=utf-8" } }).status)
    local malformed = api:post("/", { body = "{",
      headers = { ["content-type"] = "application/json" } })
    assert.equal(400, malformed.status)
    assert.equal("application/problem+json", malformed.headers["content-type"])
    assert.equal(415, api:post("/", { body = "{}" }).status)
    assert.equal(415, api:post("/", { form = { a = "1" } }).status)
    assert.equal(413, api:post("/", { json = { a = ("x"):rep(200) } }).status)
  end)

  it("forms, urlencoded", function()
    local fields = { a = "1 2", b = "&" }
    local got = reading(function(c) return (c:form()) end, { form = fields }, "POST")
    assert.same({ a = "1 2", b = "&" }, got)
    local app = P.app()
    app:post("/", function(c) return c:form() end)
    assert.equal(415, test.app(app):post("/", { body = "a=1" }).status)
  end)

  it("the time left to the deadline", function()
    local app, left = P.app(), nil
    app:get("/", { timeout = "2s" }, function(c) left = c:time_left() return "" end)
    test.app(app):get("/")
    assert.is_true(left > 1.5 and left <= 2)
  end)
end)

describe("a context", function()
  it("used after its request ended raises, on reading and writing", function()
    local kept = reading(function(c) return c end)
    for what, use in pairs({
      path = function() return kept.path end,
      data = function() return kept.data end,
      header = function() local _ = kept:header("x") end,
      body = function() local _ = kept:body() end,
      set = function() local _ = kept:set("a", "b") end,
      status = function() local _ = kept:status(200) end,
      text = function() local _ = kept:text("x") end,
      defer = function() local _ = kept:defer(print) end,
    }) do
      local ok, err = pcall(use)
      assert.is_false(ok, what)
      assert.matches("context_spec.lua:%d+: context used after its request ended", err, what)
    end
  end)

  it("never reads another request's data", function()
    local app, kept = P.app(), nil
    app:get("/first", function(c) kept = c return "" end)
    app:get("/second", function() return { pcall(function() return kept.path end) } end)
    local raw = test.app(app):raw("GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
      .. "GET /second HTTP/1.1\r\nHost: x\r\n\r\n", 2)
    assert.matches("context used after its request ended", raw, 1, true)
  end)

  it("has no fields to set", function()
    local ok, err = pcall(reading, function(c) c.user = "ann" end)
    assert.is_false(ok)
    assert.matches("leave things in c.data", err, 1, true)
  end)

  it("calls what was deferred after the reply, in order, also after an error", function()
    local app, calls = P.app(), {}
    app:get("/", function(c)
      c:defer(function(...) calls[#calls + 1] = { ... } end, 1, 2)
      c:defer(function() error("a deferred call may fail") end)
      c:defer(function(name) calls[#calls + 1] = name end, "last")
      if c:query("fail") then
        error("boom")
      end
      return "x"
    end)
    local api = test.app(app)
    api:get("/", { allow_error = true })
    P.sleep(0)
    assert.same({ { 1, 2 }, "last" }, calls)
    api:get("/?fail=1", { allow_error = true })
    P.sleep(0)
    assert.equal(4, #calls)
  end)
end)
