local P = require("perilune")
local test = require("perilune.test")

local function answer(handler, opts)
  local app = P.app()
  app:get("/", handler)
  return test.app(app):get("/", opts)
end

describe("what a handler returns", function()
  it("as a string is plain text", function()
    local r = answer(function() return "hello" end)
    assert.equal(200, r.status)
    assert.equal("text/plain; charset=utf-8", r.headers["content-type"])
    assert.equal("hello", r.body)
  end)

  it("as a table is JSON", function()
    local r = answer(function() return { a = { 1, 2 } } end)
    assert.equal("application/json", r.headers["content-type"])
    assert.equal('{"a":[1,2]}', r.body)
  end)

  it("may be body, status and headers", function()
    local r = answer(function()
      return { id = 1 }, 201, { location = "/1", ["x-many"] = { "a", "b" }, ["x-n"] = 5 }
    end)
    assert.equal(201, r.status)
    assert.equal("/1", r.headers.location)
    assert.equal("a, b", r.headers["x-many"])
    assert.equal("5", r.headers["x-n"])
  end)

  it("as nil is 204, or what was set on c", function()
    assert.equal(204, answer(function() end).status)
    local r = answer(function(c) c:status(202) end)
    assert.equal(202, r.status)
    assert.equal("", r.body)
    assert.equal("set", answer(function(c) c:text("set") end).body)
    assert.equal(404, answer(function() return nil, 404 end).status)
  end)

  it("of another type is a 500 that says so", function()
    local ok, err = pcall(answer, function() return 5 end)
    assert.is_false(ok)
    assert.matches("returned a number", err)
    assert.equal(500, answer(function() return print end, { allow_error = true }).status)
  end)

  it("has a status from 200 to 599", function()
    for _, status in ipairs({ 100, 600, 0, 200.5, "200" }) do
      assert.equal(500, answer(function() return "x", status end, { allow_error = true }).status)
    end
  end)
end)

describe("responders", function()
  it("set type and status", function()
    local r = answer(function(c) return c:html("<p>", 201) end)
    assert.equal("text/html; charset=utf-8", r.headers["content-type"])
    assert.equal(201, r.status)
    assert.equal("application/json", answer(function(c) return c:json({}) end)
      .headers["content-type"])
    assert.equal("image/png", answer(function(c) return c:bytes("x", "image/png") end)
      .headers["content-type"])
    assert.equal("text/csv",
      answer(function(c) c:set("content-type", "text/csv") return "a,b" end)
        .headers["content-type"])
  end)

  it("redirect", function()
    local r = answer(function(c) return c:redirect("/there") end)
    assert.equal(302, r.status)
    assert.equal("/there", r.headers.location)
    assert.equal(308, answer(function(c) return c:redirect("/there", 308) end).status)
  end)

  it("make problem documents (RFC 9457)", function()
    local r = answer(function(c) return c:problem(422, "bad", { errors = { "x" } }) end)
    assert.equal(422, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.same({ type = "about:blank", title = "Unprocessable Content", status = 422,
      detail = "bad", errors = { "x" } }, r:json())
  end)

  it("make problem documents whatever media type was set before", function()
    local r = answer(function(c)
      c:set("content-type", "text/html")
      return c:problem(404)
    end)
    assert.equal("application/problem+json", r.headers["content-type"])
  end)

  it("set, add and replace headers", function()
    local r = answer(function(c)
      c:set("X-A", "1"):set("x-a", "2"):add("x-b", "1"):add("x-b", "2")
      return ""
    end)
    assert.equal("2", r.headers["x-a"])
    assert.equal("1, 2", r.headers["x-b"])
  end)

  for name, value in pairs({
    ["x\r\ny"] = "v", ["x"] = "a\r\nb: c", ["x y"] = "v", ["x-n"] = "a\0b",
  }) do
    it("refuse the header " .. ("%q"):format(name .. ": " .. value):gsub("%c", "?"), function()
      local caught
      answer(function(c)
        local ok, err = pcall(c.set, c, name, value)
        caught = not ok and err
        return ""
      end)
      assert.matches("not allowed", caught)
    end)
  end

  it("leave framing to the server", function()
    for _, name in ipairs({ "content-length", "transfer-encoding", "connection" }) do
      local ok, err = pcall(answer, function(c) c:set(name, "5") return "" end)
      assert.is_false(ok)
      assert.matches("the server's to set", err)
    end
  end)

  it("set cookies, safe unless told otherwise", function()
    local r = answer(function(c)
      c:set_cookie("a", "1")
      c:set_cookie("b", "2", { max_age = "1h", http_only = false, same_site = "Strict",
        path = "/x", secure = true })
      return ""
    end)
    assert.same({ "a=1; Path=/; SameSite=Lax; HttpOnly",
      "b=2; Path=/x; Max-Age=3600; SameSite=Strict; Secure" }, r.set_cookies)
    assert.same({ a = "1", b = "2" }, r.cookies)
  end)

  it("stream in pieces", function()
    local r = answer(function(c)
      return c:stream(function(out, n)
        for i = 1, n do
          out:write("piece " .. i .. "\n")
          P.sleep(0)
        end
      end, 3)
    end)
    assert.equal("chunked", r.headers["transfer-encoding"])
    assert.equal("piece 1\npiece 2\npiece 3\n", r.body)
  end)

  it("stream pieces of any size", function()
    local piece = ("0123456789"):rep(30000)
    local r = answer(function(c) return c:stream(function(out) out:write(piece) end) end)
    assert.is_true(r.body == piece)
  end)

  it("send a string of any size", function()
    local body = ("0123456789"):rep(300000)
    local r = answer(function() return body end)
    assert.equal("3000000", r.headers["content-length"])
    assert.is_true(r.body == body)
  end)

  it("send events (WHATWG HTML 9.2)", function()
    local r = answer(function(c)
      return c:sse(function(out)
        out:send("tick", "a\nb", 7)
        out:send(nil, { n = 1 })
      end)
    end)
    assert.equal("text/event-stream", r.headers["content-type"])
    assert.equal("id: 7\nevent: tick\ndata: a\ndata: b\n\ndata: {\"n\":1}\n\n", r.body)
  end)

  it("refuse line breaks in the type and the id of an event", function()
    local caught = {}
    answer(function(c)
      return c:sse(function(out)
        caught[1] = pcall(out.send, out, "a\nb", "x")
        caught[2] = pcall(out.send, out, "a", "x", "1\r2")
        out:send("fine", "x")
      end)
    end)
    assert.same({ false, false }, caught)
  end)

  it("run no stream for HEAD", function()
    local ran = false
    local app = P.app()
    app:get("/", function(c) return c:stream(function() ran = true end) end)
    assert.equal(200, test.app(app):head("/").status)
    assert.is_false(ran)
  end)

  it("send files, and 404 for what is not there or leaves the root", function()
    local app = P.app()
    app:get("/f/*path", function(c, path) return c:file(path, { root = "apps/hello" }) end)
    local api = test.app(app)
    local r = api:get("/f/app.lua")
    assert.equal(200, r.status)
    assert.matches("P.app", r.body, 1, true)
    assert.equal(404, api:get("/f/none.lua").status)
    assert.equal(404, api:get("/f/spec").status)
    assert.equal(404, api:get("/f/%2e%2e/notes/app.lua").status)
  end)
end)

describe("errors of handlers", function()
  it("are a 500 problem without internals", function()
    local r = answer(function() error("secret detail") end, { allow_error = true })
    assert.equal(500, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.is_nil(r.body:find("secret", 1, true))
  end)

  it("fail the spec with message and traceback", function()
    local ok, err = pcall(answer, function() error("told") end)
    assert.is_false(ok)
    assert.matches("answers_spec.lua:%d+: told", err)
    assert.matches("in function 'handler'", err)
  end)

  it("go to on_error with c and the error as it was raised", function()
    local app = P.app()
    app:use(function(c, next) c.data.user = "ann" return next(c) end)
    app:get("/", function() error({ code = "E7" }) end)
    app:on_error(function(c, err)
      return c:problem(503, c.data.user .. " " .. err.code .. " " .. c.path)
    end)
    local r = test.app(app):get("/", { allow_error = true })
    assert.equal(503, r.status)
    assert.equal("ann E7 /", r:json().detail)
  end)

  it("in on_error itself are a 500 problem", function()
    local app = P.app()
    app:get("/", function() error("one") end)
    app:on_error(function() error("two") end)
    local api = test.app(app)
    assert.equal(500, api:get("/", { allow_error = true }).status)
    assert.equal(500, api:get("/", { allow_error = true }).status)
  end)

  it("that are values of any type are answered", function()
    for _, value in ipairs({ 5, true, function() end, "text", { 1 } }) do
      assert.equal(500, answer(function() error(value) end, { allow_error = true }).status)
    end
    assert.equal(500, answer(function() error() end, { allow_error = true }).status)
  end)

  it("in a stream that has sent nothing are a 500 problem", function()
    local app = P.app()
    app:get("/", function(c)
      return c:stream(function(out)
        out:write("")
        error("early")
      end)
    end)
    local r = test.app(app):get("/", { allow_error = true })
    assert.equal(500, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
  end)

  it("keep cookies and the like, but nothing that was said of the body", function()
    local function fails(c)
      c:set("content-type", "text/css")
      c:set("content-encoding", "gzip")
      c:set("cache-control", "public, max-age=3600")
      c:set("etag", '"1"')
      c:set("access-control-allow-origin", "*")
      error("on purpose")
    end
    local plain, own = P.app(), P.app()
    plain:get("/", fails)
    own:get("/", fails)
    own:on_error(function(c) return c:problem(500) end)
    for _, app in ipairs({ plain, own }) do
      local r = test.app(app):get("/", { allow_error = true })
      assert.equal(500, r.status)
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.equal("*", r.headers["access-control-allow-origin"])
      for _, name in ipairs({ "content-encoding", "cache-control", "etag" }) do
        assert.is_nil(r.headers[name])
      end
    end
  end)

  it("behind the head break the response off", function()
    local app = P.app()
    app:get("/", function(c)
      return c:stream(function(out)
        out:write("begun")
        out:flush()
        error("late")
      end)
    end)
    local raw, closed = test.app(app):raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.is_true(closed)
    assert.is_nil(raw:find("\r\n0\r\n", 1, true))
  end)

  it("of one request do not touch the next one on the connection", function()
    local app = P.app()
    app:get("/bad", function() error("x") end)
    app:get("/good", function() return "good" end)
    local raw = test.app(app):raw("GET /bad HTTP/1.1\r\nHost: x\r\n\r\n"
      .. "GET /good HTTP/1.1\r\nHost: x\r\n\r\n", 2)
    assert.matches("^HTTP/1.1 500", raw)
    assert.matches("HTTP/1.1 200 OK.-good$", raw)
  end)

  it("are a stack overflow, and the worker goes on", function()
    local function deep(n) return 1 + deep(n + 1) end
    assert.equal(500, answer(function() return deep(1) end, { allow_error = true }).status)
  end)
end)
