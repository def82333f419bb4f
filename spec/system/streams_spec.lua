-- Bodies of any size in constant memory, both ways.

local bulk = require("spec.support.bulk")
local memory = require("spec.support.memory")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"
local MIB = 1048576
local UPLOAD = 50 * MIB

local server

local function connect(opts)
  return assert(sockets.connect(server.port, opts))
end

local function ask(path)
  return assert(sockets.ask(server.port, "GET", path))
end

local function worker()
  local _, workers = process.family(server.process.pid)
  return workers[1]
end

local PIECE = ("0123456789abcdef"):rep(65536) -- 1 MiB

describe("an upload", function()
  setup(function()
    server = process.server({ app = APP })
  end)
  teardown(process.cleanup)

  -- Sends 50 MiB by `send(piece)` and tells how much the worker grew meanwhile.
  local function upload(wire, send)
    ask("/text")
    local before, most = memory.pss(worker()), 0
    for _ = 1, UPLOAD / #PIECE do
      assert(send(PIECE))
      most = math.max(most, memory.pss(worker()))
    end
    return wire, most - before
  end

  it("with a length is read in pieces, in constant memory", function()
    local wire = connect()
    wire:send(("POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"):format(UPLOAD))
    local _, grown = upload(wire, function(piece)
      return wire:send(piece)
    end)
    local bytes, pieces, largest = assert(wire:response()).body:match("^(%d+) (%d+) (%d+)$")
    assert.equal(UPLOAD, tonumber(bytes))
    assert.is_true(tonumber(pieces) > 500, pieces)
    assert.is_true(tonumber(largest) <= 65536, largest)
    assert.is_true(grown < 16 * MIB, grown)
    wire:close()
  end)

  it("in chunks is read in pieces, in constant memory", function()
    local wire = connect()
    wire:send("POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    local _, grown = upload(wire, function(piece)
      return wire:send(("%x\r\n"):format(#piece) .. piece .. "\r\n")
    end)
    wire:send("0\r\n\r\n")
    local bytes, _, largest = assert(wire:response()).body:match("^(%d+) (%d+) (%d+)$")
    assert.equal(UPLOAD, tonumber(bytes))
    assert.is_true(tonumber(largest) <= 65536, largest)
    assert.is_true(grown < 16 * MIB, grown)
    wire:close()
  end)

  it("that is not read stops at the receive buffer", function()
    local wire = connect()
    wire:send("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
    assert.equal("unread", assert(wire:response()).body)
    wire:close()
  end)

  it("leaves the connection fit for the next request", function()
    local wire = connect()
    for _ = 1, 3 do
      wire:request("POST", "/count", "", PIECE)
      assert.matches("^1048576 ", assert(wire:response()).body)
      wire:request("POST", "/unread", "", PIECE:sub(1, 100000))
      assert.equal("unread", assert(wire:response()).body)
    end
    wire:close()
  end)

  it("comes back as it was sent", function()
    local wire = connect()
    wire:send("POST /mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    local sent = {}
    for i = 1, 40 do
      sent[i] = ("%d:"):format(i) .. PIECE:sub(1, i * 700)
      wire:send(("%x\r\n%s\r\n"):format(#sent[i], sent[i]))
    end
    wire:send("0\r\n\r\n")
    assert.is_true(table.concat(sent) == assert(wire:response()).body)
    wire:close()
  end)

  it("can be answered piece by piece while it comes", function()
    local wire = connect()
    wire:send("POST /mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i = 1, 5 do
      wire:send(("7\r\nping %02d\r\n"):format(i))
      assert.is_string(wire:receive_until(("ping %02d"):format(i)))
    end
    wire:send("0\r\n\r\n")
    assert.is_string(wire:receive_until("0\r\n\r\n"))
    wire:close()
  end)
end)

describe("a streamed response", function()
  local OUTPUT, SIZE = 65536, 30 * MIB
  -- What the kernel may buffer for both ends of a connection on this machine.
  local KERNEL = 12 * MIB

  setup(function()
    server = process.server({ app = APP, args = { "--set", "limits.output=64K" } })
  end)
  teardown(process.cleanup)

  it("waits for a client that does not read, past limits.output", function()
    local wire = connect({ receive_bytes = 4096 })
    wire:send("GET /stream/" .. SIZE .. " HTTP/1.1\r\nHost: x\r\n\r\n")
    wire:receive_bytes(10)
    posix.sleep(0.3)
    local first = tonumber(ask("/sent").body)
    posix.sleep(0.3)
    assert.equal(first, tonumber(ask("/sent").body))
    assert.is_true(first > 0 and first < OUTPUT + KERNEL, first)
    wire:close()
  end)

  it("arrives whole when the client takes its time", function()
    local before = memory.pss(worker())
    local wire = connect({ receive_bytes = 4096 })
    wire:send("GET /stream/" .. SIZE .. " HTTP/1.1\r\nHost: x\r\n\r\n")
    posix.sleep(0.2)
    local during = memory.pss(worker())
    local r = assert(wire:response())
    assert.equal(SIZE, #r.body)
    assert.is_true(r.body == PIECE:rep(SIZE / MIB))
    assert.is_true(during - before < 8 * MIB, during - before)
    wire:close()
  end)

  it("is not held up by another client that does not read", function()
    local slow = connect({ receive_bytes = 4096 })
    slow:send("GET /stream/" .. SIZE .. " HTTP/1.1\r\nHost: x\r\n\r\n")
    local r = ask("/stream/1000000")
    assert.equal(1000000, #r.body)
    slow:close()
  end)

  it("may be a whole body that is larger than limits.output", function()
    local wire = connect({ receive_bytes = 4096 })
    wire:send("GET /big/20000000 HTTP/1.1\r\nHost: x\r\n\r\n"
      .. "GET /text HTTP/1.1\r\nHost: x\r\n\r\n")
    posix.sleep(0.2)
    assert.equal(20000000, #assert(bulk.response(wire)).body)
    assert.equal("text", assert(wire:response()).body)
    wire:close()
  end)

  it("of events arrives as they happen", function()
    local wire = connect()
    wire:send("GET /endless-events HTTP/1.1\r\nHost: x\r\n\r\n")
    local head = wire:receive_until("\r\n\r\n")
    assert.matches("text/event-stream", head, 1, true)
    local from = posix.now()
    for _ = 1, 5 do
      assert.is_string(wire:receive_until("event: tick\ndata: now\n\n"))
    end
    local took = posix.now() - from
    assert.is_true(took > 0.05 and took < 1, took)
    wire:close()
  end)
end)
