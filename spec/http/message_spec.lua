-- What requests and responses look like (RFC 9110, RFC 9112 3, 6, 7).

local P = require("perilune")
local process = require("spec.support.process")
local ways = require("spec.support.ways")

describe("the wire", function()
  local wire = ways.open(it, "spec/support/app/wire")
  teardown(process.cleanup)

  local SOCKET = { socket = true }

  local function request(line, lines, body)
    return line .. " HTTP/1.1\r\nHost: x\r\n" .. (lines or "") .. "\r\n" .. (body or "")
  end

  local function chunked(path, bytes)
    return request("POST " .. path, "Transfer-Encoding: chunked\r\n", bytes)
  end

  describe("(chunked requests)", function()
    local function takes(what, bytes, body, how)
      wire.fact("takes " .. what, function(talk)
        local r = talk:one(chunked("/text", bytes), "POST")
        assert.equal(200, r.status)
        assert.equal(body, r.body)
      end, how)
    end

    takes("one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello", SOCKET)
    takes("several chunks", "5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", "hello world",
      SOCKET)
    takes("no data", "0\r\n\r\n", "")
    takes("sizes in both cases", "A\r\n0123456789\r\nb\r\nabcdefghijk\r\n0\r\n\r\n",
      "0123456789abcdefghijk")
    takes("leading zeros", "0005\r\nhello\r\n00\r\n\r\n", "hello")
    takes("extensions", "5;a\r\nhello\r\n5;b=c;d=\"e;f\"\r\nworld\r\n0;last\r\n\r\n", "helloworld",
      SOCKET)
    takes("trailers", "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", "hello", SOCKET)
    takes("data that looks like framing", "7\r\n0\r\n\r\nab\r\n0\r\n\r\n", "0\r\n\r\nab")
    takes("the coding's name in any case", "5\r\nhello\r\n0\r\n\r\n", "hello")

    wire.fact("takes Transfer-Encoding: Chunked", function(talk)
      local r = talk:one(request("POST /text", "transfer-ENCODING: Chunked\r\n",
        "2\r\nhi\r\n0\r\n\r\n"), "POST")
      assert.equal("hi", r.body)
    end)

    wire.fact("does not let a trailer become a field", function(talk)
      local r = talk:one(chunked("/echo/t", "0\r\nX-X: trailer\r\nHost: evil\r\n\r\n"), "POST")
      assert.matches('"x":null', r.body, 1, true)
      assert.matches('"host":"x"', r.body, 1, true)
    end)

    wire.fact("reads chunks piece by piece with c:chunks", function(talk)
      local r = talk:one(chunked("/count", "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"), "POST")
      assert.matches("^10 ", r.body)
    end, SOCKET)
  end)

  describe("(chunked responses)", function()
    wire.fact("sends a stream in chunks", function(talk)
      local r = talk:one(request("GET /stream/100000"))
      assert.equal("chunked", r.framing)
      assert.equal(100000, #r.body)
    end, SOCKET)

    wire.fact("sends what is flushed before the rest is there", function(talk)
      local line = talk:open():send(request("GET /halves/60"))
      line:expect("first ")
      assert.is_nil(line.raw:find("second", 1, true))
      local r = line:response()
      assert.same({ "first ", "second" }, r.chunks)
      assert.is_true(line:is_quiet())
    end, SOCKET)

    wire.fact("ends a stream without data", function(talk)
      local r = talk:one(request("GET /empty-stream"))
      assert.equal("chunked", r.framing)
      assert.equal("", r.body)
    end)

    wire.fact("sends events", function(talk)
      local r = talk:one(request("GET /events/1"))
      assert.equal("text/event-stream", r.headers["content-type"])
      assert.equal("id: 1\nevent: tick\ndata: {\"number\":1}\n\ndata: two\ndata: lines\n\n", r.body)
    end, SOCKET)

    wire.fact("breaks off a stream whose handler fails, so nobody takes it for whole",
      function(talk)
        local line = talk:open():send(request("GET /boom-late"))
        line:expect("first")
        local ok, raw = pcall(line.rest, line)
        if ok then -- in memory there is no reset to see
          assert.is_nil(raw:find("\r\n0\r\n", 1, true))
        else
          assert.matches("reset", raw, 1, true)
        end
        assert.is_nil(line.raw:find("secret", 1, true))
      end, SOCKET)
  end)

  describe("(fields)", function()
    wire.fact("says Server and Date", function(talk)
      local r = talk:one(request("GET /text"))
      assert.equal("perilune", r.headers.server)
      assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", r.headers.date)
      local day, month, year, hour, minute, second = r.headers.date:match(
        ", (%d+) (%a+) (%d+) (%d+):(%d+):(%d+)")
      local stamp = { day = day, year = year, hour = hour, min = minute, sec = second }
      local function is_near(now) -- within 2 seconds
        local date = os.date("!*t", now)
        stamp.month = date.month
        return os.date("!%b", now) == month and math.abs(os.time(date) - os.time(stamp)) <= 2
      end
      -- Without a socket it is this process's clock, which other specs may have moved.
      assert.is_true(is_near(os.time()) or is_near(math.floor(P.now())))
    end, SOCKET)

    wire.fact("says what kind and how long the body is", function(talk)
      local r = talk:one(request("GET /text"))
      assert.equal("text/plain; charset=utf-8", r.headers["content-type"])
      assert.equal("4", r.headers["content-length"])
      assert.equal("length", r.framing)
    end)

    wire.fact("keeps the status that a handler gives", function(talk)
      local r = talk:one(request("GET /teapot"))
      assert.equal(418, r.status)
      assert.equal("I'm a Teapot", r.reason)
      assert.equal("short", r.body)
    end)

    wire.fact("joins repeated fields for the handler", function(talk)
      local r = talk:one(request("GET /echo/x", "X-X: a\r\nx-x:b\r\nX-x:\t c \t\r\n"))
      assert.matches('"x":"a, b, c"', r.body, 1, true)
    end)

    wire.fact("takes an empty value and 8-bit bytes in one", function(talk)
      local r = talk:one(request("GET /echo/x", "X-Y:\r\nX-X: \195\164\r\n"))
      assert.matches('"x":"\195\164"', r.body, 1, true)
    end)
  end)

  describe("(without a body)", function()
    for _, status in ipairs({ 204, 304 }) do
      wire.fact(("sends %d without a body"):format(status), function(talk)
        local r = talk:one(request("GET /status/" .. status))
        assert.equal(status, r.status)
        assert.is_nil(r.headers["transfer-encoding"])
        if status == 204 then
          assert.is_nil(r.headers["content-length"])
        end
      end, SOCKET)
    end

    wire.fact("sends 205 with an empty body", function(talk)
      assert.equal("", talk:one(request("GET /status/205")).body)
    end)

    wire.fact("answers 204 to a handler that returns nothing", function(talk)
      assert.equal(204, talk:one(request("GET /nothing")).status)
    end)

    wire.fact("answers HEAD as GET, without the body", function(talk)
      local list = talk:all(request("HEAD /text") .. request("GET /text"), { "HEAD", "GET" })
      assert.equal("4", list[1].headers["content-length"])
      assert.equal(list[2].headers["content-type"], list[1].headers["content-type"])
    end, SOCKET)

    wire.fact("answers HEAD of a stream without a chunk", function(talk)
      local list = talk:all(request("HEAD /stream/1000") .. request("GET /text"),
        { "HEAD", "GET" })
      assert.equal(200, list[1].status)
      assert.equal("text", list[2].body)
    end, SOCKET)

    wire.fact("answers HEAD of what is not there with 404 and no body", function(talk)
      assert.equal(404, talk:one(request("HEAD /no-such"), "HEAD").status)
    end)

    wire.fact("answers HEAD of a big body without it", function(talk)
      local r = talk:one(request("HEAD /big/100000"), "HEAD")
      assert.equal("100000", r.headers["content-length"])
    end)
  end)

  describe("(methods)", function()
    local function allow_of(r)
      local list = {}
      for name in r.headers.allow:gmatch("[^, ]+") do
        list[#list + 1] = name
      end
      table.sort(list)
      return table.concat(list, " ")
    end

    wire.fact("answers OPTIONS with Allow", function(talk)
      local r = talk:one(request("OPTIONS /put-only"))
      assert.equal(204, r.status)
      assert.equal("OPTIONS PATCH PUT", allow_of(r))
    end, SOCKET)

    wire.fact("counts HEAD among what GET allows", function(talk)
      assert.equal("GET HEAD OPTIONS POST", allow_of(talk:one(request("OPTIONS /text"))))
    end)

    wire.fact("answers OPTIONS * for the server itself", function(talk)
      local r = talk:one(request("OPTIONS *"))
      assert.equal(204, r.status)
      assert.is_string(r.headers.allow)
    end, SOCKET)

    wire.fact("answers 405 with Allow where another method is served", function(talk)
      local r = talk:one(request("GET /put-only"))
      assert.equal(405, r.status)
      assert.equal("OPTIONS PATCH PUT", allow_of(r))
      assert.equal("application/problem+json", r.headers["content-type"])
    end, SOCKET)

    for _, method in ipairs({ "GET", "POST", "PUT", "PATCH", "DELETE" }) do
      wire.fact("serves " .. method, function(talk)
        local r = talk:one(request(method .. " /echo/m", "Content-Length: 1\r\n", "z"), method)
        assert.matches(('"method":"%s"'):format(method), r.body, 1, true)
        assert.matches('"body":"z"', r.body, 1, true)
      end)
    end

    for _, method in ipairs({ "TRACE", "CONNECT" }) do
      wire.fact("serves no " .. method, function(talk)
        local target = method == "CONNECT" and " x:80" or " /text"
        local r = talk:open():send(request(method .. target)):response()
        assert.is_true(r.status >= 400 and r.status <= 501)
      end)
    end
  end)

  describe("(targets)", function()
    local function sees(target, path, rest, how)
      wire.fact(("sees %s as %s"):format(target, path), function(talk)
        local r = talk:one(request("GET " .. target))
        assert.equal(200, r.status)
        assert.matches(('"path":"%s"'):format(path), r.body, 1, true)
        if rest then
          assert.matches(('"rest":"%s"'):format(rest), r.body, 1, true)
        end
      end, how)
    end

    sees("/echo/a%20b", "/echo/a b", "a b", SOCKET)
    sees("/%65cho/x", "/echo/x")
    sees("/echo/./a", "/echo/a")
    sees("/no-such/../echo/a", "/echo/a", "a", SOCKET)
    sees("/no-such/%2e%2E/echo/a", "/echo/a", "a", SOCKET)
    sees("/echo/a/b/../../c", "/echo/c")
    sees("/echo/a/%2e%2e/b", "/echo/b")
    sees("/echo/a/..", "/echo/")
    sees("/echo/...", "/echo/...")
    sees("/echo/.hidden", "/echo/.hidden")
    sees("/echo/a%2Fb", "/echo/a%2Fb", "a%2Fb")
    sees("/echo/a%252e", "/echo/a%2e", "a%2e")
    sees("/echo/a+b", "/echo/a+b")
    sees("/echo/%c3%a4", "/echo/\195\164")
    sees("/echo/a;b=c", "/echo/a;b=c")

    wire.fact("keeps the raw target", function(talk)
      local r = talk:one(request("GET /x/../echo/%41?a=%42"))
      assert.matches('"target":"/x/../echo/%41?a=%42"', r.body, 1, true)
      assert.matches('"a":"B"', r.body, 1, true)
    end)

    wire.fact("takes an absolute target, also with another Host", function(talk)
      local r = talk:one("GET http://example.org:80/echo/abs?a=1 HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.matches('"path":"/echo/abs"', r.body, 1, true)
      assert.matches('"a":"1"', r.body, 1, true)
    end, SOCKET)

    wire.fact("takes an absolute target without a path for the root", function(talk)
      assert.equal(404, talk:one("GET http://example.org HTTP/1.1\r\nHost: x\r\n\r\n").status)
    end)

    wire.fact("removes dot segments before it routes", function(talk)
      assert.equal(404, talk:one(request("GET /echo/../no-such")).status)
    end)
  end)

  describe("(Expect)", function()
    local HEAD = "POST /text HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"

    wire.fact("says 100 (Continue) once the handler reads", function(talk)
      local line = talk:open():send(HEAD .. "Content-Length: 5\r\n\r\n")
      line:expect("HTTP/1.1 100 Continue\r\n\r\n")
      local r = line:send("hello"):response("POST")
      assert.same({ 100 }, r.informational)
      assert.equal("hello", r.body)
      assert.is_true(line:is_quiet())
    end, SOCKET)

    wire.fact("says it for chunks as well", function(talk)
      local line = talk:open():send(HEAD .. "Transfer-Encoding: chunked\r\n\r\n")
      line:expect("100 Continue")
      assert.equal("hello", line:send("5\r\nhello\r\n0\r\n\r\n"):response("POST").body)
    end)

    wire.fact("does not say it when the body is not read, and closes", function(talk)
      local r = talk:last("POST /unread HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        .. "Content-Length: 5\r\n\r\n")
      assert.same({}, r.informational)
      assert.equal("unread", r.body)
      assert.equal("close", r.headers.connection)
    end, SOCKET)

    wire.fact("does not say it to what is not routed, or is too large", function(talk)
      local r = talk:last("POST /no-such HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        .. "Content-Length: 5\r\n\r\n")
      assert.same({}, r.informational)
      assert.equal(404, r.status)
      r = talk:last("POST /small HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        .. "Content-Length: 50\r\n\r\n")
      assert.same({}, r.informational)
      assert.equal(413, r.status)
    end, SOCKET)

    wire.fact("does not say it when there is no body", function(talk)
      local r = talk:one(request("GET /text", "Expect: 100-continue\r\n"))
      assert.same({}, r.informational)
    end)

    wire.fact("ignores an expectation that it does not know", function(talk)
      assert.equal(200, talk:one(request("GET /text", "Expect: rain\r\n")).status)
    end)
  end)
end)
