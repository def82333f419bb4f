-- Files over a real socket (RFC 9110 13, 14): sendfile, ranges, conditions, and
-- nothing from outside of the root.

local bulk = require("spec.support.bulk")
local memory = require("spec.support.memory")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"
local MIB = 1048576
local LARGE = ("0123456789abcdef"):rep(65536 * 30) -- 30 MiB

describe("c:file", function()
  local server, folder

  setup(function()
    folder = process.folder({
      ["root/a.txt"] = "0123456789",
      ["root/empty"] = "",
      ["root/page.html"] = "<p>",
      ["root/deep/er/b.bin"] = "deep",
      ["root/a b.txt"] = "space",
      ["root/large.bin"] = LARGE,
      ["secret.txt"] = "secret",
    })
    assert(os.execute(("cd %s/root && ln -s ../secret.txt out && ln -s a.txt in"
      .. " && ln -s .. up && ln -s /etc/passwd far && mkfifo pipe && chmod 0 empty"
      .. " && chmod 644 empty"):format(folder)) == 0)
    server = process.server({
      app = APP, args = { "--set", "settings.root=" .. folder .. "/root" },
    })
  end)
  teardown(process.cleanup)

  local function ask(path, headers, method)
    return assert(sockets.ask(server.port, method or "GET", "/file/" .. path, headers))
  end

  it("sends a file, with type, length and validators", function()
    local r = ask("a.txt")
    assert.equal(200, r.status)
    assert.equal("0123456789", r.body)
    assert.equal("10", r.headers["content-length"])
    assert.matches("^text/plain", r.headers["content-type"])
    assert.equal("bytes", r.headers["accept-ranges"])
    assert.matches('^W/"[^"]+"$', r.headers.etag)
    assert.matches(" GMT$", r.headers["last-modified"])
    assert.matches("^text/html", ask("page.html").headers["content-type"])
  end)

  it("finds files in folders, with escapes in their names, and by links within", function()
    assert.equal("deep", ask("deep/er/b.bin").body)
    assert.equal("deep", ask("deep/./er/../er/b.bin").body)
    assert.equal("space", ask("a%20b.txt").body)
    assert.equal("0123456789", ask("in").body)
  end)

  it("sends an empty file", function()
    local r = ask("empty")
    assert.equal(200, r.status)
    assert.equal("0", r.headers["content-length"])
  end)

  it("answers HEAD with the same fields", function()
    local head, get = ask("a.txt", "", "HEAD"), ask("a.txt")
    for _, name in ipairs({ "content-length", "content-type", "etag", "last-modified" }) do
      assert.equal(get.headers[name], head.headers[name])
    end
    assert.equal("", head.body)
  end)

  it("sends a large file whole, in constant memory", function()
    local _, workers = process.family(server.process.pid)
    local before = memory.pss(workers[1])
    local wire = assert(sockets.connect(server.port, { receive_bytes = 16384 }))
    wire:request("GET", "/file/large.bin")
    posix.sleep(0.1)
    local during = memory.pss(workers[1])
    assert.is_true(assert(bulk.response(wire)).body == LARGE)
    assert.is_true(during - before < 4 * MIB, during - before)
    wire:request("GET", "/text") -- and the connection stays
    assert.equal("text", assert(wire:response()).body)
    wire:close()
  end)

  local function ranges(value, status, body, content_range)
    it(("answers Range: %s with %d"):format(value, status), function()
      local r = ask("a.txt", "Range: " .. value .. "\r\n")
      assert.equal(status, r.status)
      if body then
        assert.equal(body, r.body)
      end
      assert.equal(content_range, r.headers["content-range"])
    end)
  end

  ranges("bytes=0-0", 206, "0", "bytes 0-0/10")
  ranges("bytes=2-4", 206, "234", "bytes 2-4/10")
  ranges("bytes=5-", 206, "56789", "bytes 5-9/10")
  ranges("bytes=-3", 206, "789", "bytes 7-9/10")
  ranges("bytes=-100", 206, "0123456789", "bytes 0-9/10")
  ranges("bytes=8-100", 206, "89", "bytes 8-9/10")
  ranges("bytes=10-", 416, nil, "bytes */10")
  ranges("bytes=-0", 416, nil, "bytes */10")
  ranges("bytes=4-2", 200, "0123456789", nil)
  ranges("lines=1-2", 200, "0123456789", nil)
  ranges("bytes=x", 200, "0123456789", nil)

  it("sends a range from the middle of a large file", function()
    local wire = assert(sockets.connect(server.port))
    wire:request("GET", "/file/large.bin", "Range: bytes=10000003-20000000\r\n")
    local r = assert(bulk.response(wire))
    assert.equal(206, r.status)
    assert.is_true(r.body == LARGE:sub(10000004, 20000001))
    wire:close()
  end)

  it("answers 304 to who has it, and 200 to who has another one", function()
    local r = ask("a.txt")
    local etag, date = r.headers.etag, r.headers["last-modified"]
    assert.equal(304, ask("a.txt", "If-None-Match: " .. etag .. "\r\n").status)
    assert.equal(304, ask("a.txt", 'If-None-Match: "x", ' .. etag .. "\r\n").status)
    assert.equal(304, ask("a.txt", "If-None-Match: *\r\n").status)
    assert.equal(200, ask("a.txt", 'If-None-Match: "x"\r\n').status)
    assert.equal(304, ask("a.txt", "If-Modified-Since: " .. date .. "\r\n").status)
    assert.equal(200, ask("a.txt", "If-Modified-Since: Mon, 01 Jan 1990 00:00:00 GMT\r\n").status)
    -- The tag is what counts when both are there (RFC 9110 13.2.2).
    assert.equal(200, ask("a.txt", 'If-None-Match: "x"\r\nIf-Modified-Since: ' .. date .. "\r\n")
      .status)
  end)

  it("applies a range only to the file that If-Range means", function()
    local r = ask("a.txt")
    local etag, date = r.headers.etag, r.headers["last-modified"]
    assert.equal(206, ask("a.txt", "Range: bytes=0-1\r\nIf-Range: " .. date .. "\r\n").status)
    assert.equal(200, ask("a.txt",
      "Range: bytes=0-1\r\nIf-Range: Mon, 01 Jan 1990 00:00:00 GMT\r\n").status)
    -- A weak tag never matches there (RFC 9110 13.1.5).
    assert.equal(200, ask("a.txt", "Range: bytes=0-1\r\nIf-Range: " .. etag .. "\r\n").status)
  end)

  for _, path in ipairs({
    "no-such", "../secret.txt", "..%2Fsecret.txt", "deep/../../secret.txt", "%2e%2e/secret.txt",
    "out", "far", "up/secret.txt", "/etc/passwd", "%2Fetc%2Fpasswd", "deep", "deep/", "", ".",
    "a.txt/x", "pipe", ("a"):rep(300), "a.txt%0a",
  }) do
    it(("gives nothing for %q"):format(path:sub(1, 30)), function()
      local r = ask(path)
      assert.is_true(r.status == 404 or r.status == 403, r.status)
      assert.is_nil(r.body:find("secret", 1, true))
      assert.is_nil(r.body:find("root:", 1, true))
      assert.is_nil(r.body:find(folder, 1, true))
    end)
  end

  it("refuses what leads above the root of all paths", function()
    assert.equal(400, ask("../../secret.txt").status)
  end)

  it("breaks off when the file shrinks meanwhile, so that nobody takes it for whole", function()
    local path = folder .. "/root/shrinking.bin"
    local file = assert(io.open(path, "wb"))
    file:write(LARGE)
    file:close()
    local wire = assert(sockets.connect(server.port, { receive_bytes = 4096 }))
    wire:request("GET", "/file/shrinking.bin")
    assert(wire:receive_until("\r\n\r\n"))
    assert(io.open(path, "wb")):close()
    local count = 0
    local bytes, how
    repeat
      bytes, how = wire:receive()
      count = count + (bytes and #bytes or 0)
    until not bytes
    assert.is_true(count < #LARGE)
    assert.are_not.equal("timeout", how)
    wire:close()
    assert.equal(200, ask("a.txt").status)
  end)

  it("leaves no descriptor open", function()
    ask("a.txt")
    local _, workers = process.family(server.process.pid)
    local before = memory.descriptors(workers[1])
    for _ = 1, 30 do
      ask("a.txt")
      ask("no-such")
      ask("a.txt", "Range: bytes=99-\r\n")
      local wire = assert(sockets.connect(server.port, { receive_bytes = 4096 }))
      wire:request("GET", "/file/large.bin")
      wire:receive()
      wire:reset()
    end
    assert.is_true(posix.eventually(function()
      return memory.descriptors(workers[1]) <= before
    end, 5))
  end)
end)
