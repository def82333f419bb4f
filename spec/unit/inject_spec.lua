local inject = require("perilune.inject")

describe("perilune.inject", function()
  describe(".parse", function()
    local function parse(raw, method, closed)
      return inject.parse(raw, 1, method or "GET", closed or false)
    end

    it("reads a body by its length and tells where the next response begins", function()
      local raw = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-A: 1\r\nx-a: 2\r\n\r\nabHTTP"
      local r, next_at = parse(raw)
      assert.equal(201, r.status)
      assert.equal("Created", r.reason)
      assert.equal("ab", r.body)
      assert.equal("1, 2", r.headers["x-a"])
      assert.equal("HTTP", raw:sub(next_at))
    end)

    it("reads chunks", function()
      local r = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
      assert.equal("abc", r.body)
    end)

    it("reads to the end of the connection without a length", function()
      assert.is_nil(parse("HTTP/1.1 200 OK\r\n\r\nab"))
      assert.equal("ab", parse("HTTP/1.1 200 OK\r\n\r\nab", "GET", true).body)
    end)

    it("expects no body for HEAD, 204 and 304", function()
      assert.equal("", parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD").body)
      assert.equal("", parse("HTTP/1.1 204 No Content\r\n\r\n").body)
      assert.equal("", parse("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").body)
    end)

    it("skips informational responses, and keeps their statuses", function()
      local r = parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      assert.equal(200, r.status)
      assert.same({ 100 }, r.informational)
    end)

    it("keeps each Set-Cookie apart", function()
      local r = parse("HTTP/1.1 204 No Content\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
      assert.same({ "a=1", "b=2" }, r.set_cookies)
    end)

    it("waits for what is not whole, at every byte", function()
      local raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
      for count = 0, #raw - 1 do
        assert.is_nil((parse(raw:sub(1, count))))
      end
    end)
  end)

  it("writes requests with Host and Content-Length", function()
    assert.equal("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab",
      inject.request("POST", "/x", nil, "ab"))
    assert.equal("GET / HTTP/1.1\r\nHost: a\r\n\r\n", inject.request("GET", "/", { "Host: a" }))
  end)

  it("escapes all but unreserved characters (RFC 3986 2.3)", function()
    assert.equal("a-b.c_d~%20%26%C3%A4", inject.escape("a-b.c_d~ &ä"))
  end)
end)
