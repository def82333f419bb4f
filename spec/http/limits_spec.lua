-- What is too large, and what one byte less is answered with (API.md, section 4).

local process = require("spec.support.process")
local ways = require("spec.support.ways")

describe("a limit", function()
  local wire = ways.open(it, "spec/support/app/wire", { config = { limits = { body = 1000 } } })
  teardown(process.cleanup)

  local TARGET, HEADERS, COUNT = 8192, 32768, 100

  local function get(target, lines)
    return ("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"):format(target, lines or "")
  end

  local function refuses(talk, status, bytes, method)
    local before = talk:hits()
    local r = talk:last(bytes, method)
    assert.equal(status, r.status)
    assert.equal("close", r.headers.connection)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.equal(before, talk:hits())
  end

  wire.fact("on the target lets its last byte in", function(talk)
    local target = "/echo/"
    target = target .. ("a"):rep(TARGET - #target)
    assert.equal(200, talk:one(get(target)).status)
  end)

  wire.fact("on the target answers 414 past it", function(talk)
    refuses(talk, 414, get("/" .. ("a"):rep(TARGET)))
  end)

  wire.fact("on the target answers 414 also when the line never ends", function(talk)
    refuses(talk, 414, "GET /" .. ("a"):rep(TARGET + 1))
  end)

  -- Host, the field itself and the empty line count.
  local around = #"Host: x\r\n" + #"X: \r\n" + #"\r\n"

  wire.fact("on the fields lets 32 KiB in", function(talk)
    assert.equal(200, talk:one(get("/text", "X: " .. ("a"):rep(HEADERS - around - 1) .. "\r\n"))
      .status)
  end)

  wire.fact("on the fields answers 431 past it", function(talk)
    refuses(talk, 431, get("/text", "X: " .. ("a"):rep(HEADERS) .. "\r\n"))
  end)

  wire.fact("on the fields answers 431 to many small ones", function(talk)
    refuses(talk, 431, get("/text", ("X: " .. ("a"):rep(500) .. "\r\n"):rep(80)))
  end)

  wire.fact("on the fields answers 431 to a name that never ends", function(talk)
    refuses(talk, 431, "GET /text HTTP/1.1\r\nHost: x\r\n" .. ("a"):rep(HEADERS))
  end)

  wire.fact("on their count lets 100 in", function(talk)
    assert.equal(200, talk:one(get("/text", ("X: y\r\n"):rep(COUNT - 1))).status)
  end)

  wire.fact("on their count answers 431 to 101", function(talk)
    refuses(talk, 431, get("/text", ("X: y\r\n"):rep(COUNT)))
  end)

  local function post(path, length)
    return ("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"):format(path, length)
  end

  local CHUNKED = "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s"

  wire.fact("on the body lets its last byte in", function(talk)
    assert.equal(1000, #talk:one(post("/text", 1000) .. ("a"):rep(1000), "POST").body)
  end)

  wire.fact("on the body answers 413 to a declared one past it", function(talk)
    refuses(talk, 413, post("/text", 1001), "POST")
  end)

  wire.fact("on the body answers 413 to a declared one without waiting for it", function(talk)
    refuses(talk, 413, post("/text", 9007199254740991), "POST")
  end)

  wire.fact("on the body lets chunks up to its last byte in", function(talk)
    local chunk = "1f4\r\n" .. ("a"):rep(500) .. "\r\n"
    assert.equal(1000, #talk:one(CHUNKED:format("/text", chunk .. chunk .. "0\r\n\r\n"), "POST")
      .body)
  end)

  wire.fact("on the body answers 413 to chunks past it", function(talk)
    local chunk = "1f4\r\n" .. ("a"):rep(500) .. "\r\n"
    refuses(talk, 413, CHUNKED:format("/text", chunk .. chunk .. "1\r\na\r\n0\r\n\r\n"), "POST")
  end)

  wire.fact("on the body can be another one for a route", function(talk)
    assert.equal("0123456789", talk:one(post("/small", 10) .. "0123456789", "POST").body)
    refuses(talk, 413, post("/small", 11) .. "0123456789a", "POST")
    assert.equal("unread", talk:one(post("/unread", 2000) .. ("a"):rep(2000), "POST").body)
  end)
end)
