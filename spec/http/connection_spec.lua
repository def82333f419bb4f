-- How long a connection lives and in which order it answers (RFC 9112 9).

local process = require("spec.support.process")
local ways = require("spec.support.ways")

describe("a connection", function()
  local wire = ways.open(it, "spec/support/app/wire")
  teardown(process.cleanup)

  local SOCKET = { socket = true }

  local function get(path, lines, version)
    return ("GET %s HTTP/%s\r\nHost: x\r\n%s\r\n"):format(path, version or "1.1", lines or "")
  end

  wire.fact("stays for the next request", function(talk)
    local line = talk:open()
    for i = 1, 3 do
      local r = line:send(get("/echo/" .. i)):response()
      assert.equal(200, r.status)
      assert.is_nil(r.headers.connection)
      assert.matches('"rest":"' .. i .. '"', r.body, 1, true)
    end
    assert.is_true(line:is_quiet())
  end, SOCKET)

  wire.fact("answers pipelined requests in their order", function(talk)
    local list = talk:all(get("/echo/1") .. get("/echo/2") .. get("/echo/3"),
      { "GET", "GET", "GET" })
    for i, r in ipairs(list) do
      assert.matches('"rest":"' .. i .. '"', r.body, 1, true)
    end
  end, SOCKET)

  wire.fact("answers in order also when the first handler is slow", function(talk)
    local list = talk:all(get("/slow/40") .. get("/text") .. get("/slow/1"),
      { "GET", "GET", "GET" })
    assert.equal("slow 40", list[1].body)
    assert.equal("text", list[2].body)
    assert.equal("slow 1", list[3].body)
  end, SOCKET)

  wire.fact("runs one handler at a time", function(talk)
    local before = talk:hits()
    local line = talk:open():send(get("/slow/150") .. get("/text"))
    local during = talk:hits()
    assert.equal(before + 1, during)
    assert.equal("slow 150", line:response().body)
    assert.equal("text", line:response().body)
    assert.equal(before + 2, talk:hits())
  end, SOCKET)

  wire.fact("takes hundreds of pipelined requests", function(talk)
    local methods = {}
    for i = 1, 300 do
      methods[i] = "GET"
    end
    local list = talk:all(get("/text"):rep(300), methods)
    assert.equal("text", list[300].body)
  end, SOCKET)

  wire.fact("finds the next request behind a body of every kind", function(talk)
    local list = talk:all(
      "POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
      .. "POST /text HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3\r\nabc\r\n0\r\n\r\n"
      .. "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
      .. "POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3\r\nabc\r\n0\r\n\r\n"
      .. "POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
      .. get("/text"),
      { "POST", "POST", "POST", "POST", "POST", "GET" })
    local bodies = {}
    for i, r in ipairs(list) do
      bodies[i] = r.body
    end
    assert.same({ "hello", "abc", "unread", "unread", "", "text" }, bodies)
  end, SOCKET)

  wire.fact("does not take a body for a request", function(talk)
    local smuggled = get("/echo/smuggled")
    local before = talk:hits()
    local list = talk:all(("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s")
      :format(#smuggled, smuggled) .. get("/text"), { "POST", "GET" })
    assert.equal("unread", list[1].body)
    assert.equal("text", list[2].body)
    assert.equal(before + 2, talk:hits())
  end, SOCKET)

  wire.fact("allows one empty line before a request", function(talk)
    local list = talk:all("\r\n" .. get("/text") .. "\r\n" .. get("/text"), { "GET", "GET" })
    assert.equal("text", list[2].body)
  end, SOCKET)

  wire.fact("closes after Connection: close", function(talk)
    local r = talk:last(get("/text", "Connection: close\r\n"))
    assert.equal("text", r.body)
    assert.equal("close", r.headers.connection)
  end, SOCKET)

  for _, value in ipairs({ "Close", "keep-alive, close", "close, x-x", "x ,\tclose" }) do
    wire.fact(("closes after Connection: %q"):format(value), function(talk)
      assert.equal("close", talk:last(get("/text", "Connection: " .. value .. "\r\n"))
        .headers.connection)
    end)
  end

  for _, value in ipairs({ "closed", "x-close", "keep-alive", "upgrade" }) do
    wire.fact(("stays after Connection: %q"):format(value), function(talk)
      assert.equal("text", talk:one(get("/text", "Connection: " .. value .. "\r\n")).body)
    end)
  end

  wire.fact("serves nothing that was pipelined behind Connection: close", function(talk)
    local before = talk:hits()
    talk:last(get("/text", "Connection: close\r\n") .. get("/text"))
    assert.equal(before + 1, talk:hits())
  end, SOCKET)

  wire.fact("stays after a 404, a 405 and a problem of the handler", function(talk)
    local list = talk:all(get("/no-such") .. get("/put-only") .. get("/boom") .. get("/text"),
      { "GET", "GET", "GET", "GET" })
    assert.equal(404, list[1].status)
    assert.equal(405, list[2].status)
    assert.equal(500, list[3].status)
    assert.equal(200, list[4].status)
  end, SOCKET)

  wire.fact("is closed quietly when the client closes between requests", function(talk)
    local line = talk:open():send(get("/text"))
    line:response()
    line:half_close()
    assert.equal("", line:rest())
  end, SOCKET)

  describe("of HTTP/1.0", function()
    wire.fact("closes after the response", function(talk)
      local r = talk:last(get("/text", "", "1.0"))
      assert.equal("text", r.body)
      assert.equal("close", r.headers.connection)
      assert.equal("4", r.headers["content-length"])
    end, SOCKET)

    wire.fact("needs no Host", function(talk)
      assert.equal("text", talk:last("GET /text HTTP/1.0\r\n\r\n").body)
    end)

    wire.fact("stays with Connection: keep-alive, and says so", function(talk)
      local r = talk:one(get("/text", "Connection: keep-alive\r\n", "1.0"))
      assert.equal("keep-alive", r.headers.connection)
    end, SOCKET)

    wire.fact("gets a stream without chunks, ended by the close", function(talk)
      local r = talk:last(get("/stream/1000", "Connection: keep-alive\r\n", "1.0"))
      assert.equal("close", r.framing)
      assert.equal(1000, #r.body)
      assert.equal("close", r.headers.connection)
    end, SOCKET)

    wire.fact("is never told to continue", function(talk)
      local r = talk:last("POST /text HTTP/1.0\r\nExpect: 100-continue\r\n"
        .. "Content-Length: 2\r\n\r\nhi")
      assert.same({}, r.informational)
      assert.equal("hi", r.body)
    end)
  end)
end)
