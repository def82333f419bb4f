-- What clients do wrong: each gets its status or a clean close, nobody else
-- notices, and memory goes back to where it was.

local memory = require("spec.support.memory")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"
local GET = "GET /text HTTP/1.1\r\nHost: x\r\n\r\n"
local MIB = 1048576

local server

local function serve(args)
  local list = {}
  for _, pair in ipairs(args) do
    list[#list + 1] = "--set"
    list[#list + 1] = pair
  end
  server = process.server({ app = APP, args = list })
end

local function connect(opts)
  return assert(sockets.connect(server.port, opts))
end

local function worker()
  local _, workers = process.family(server.process.pid)
  return workers[1]
end

local function ask(path, method, headers, body)
  return assert(sockets.ask(server.port, method or "GET", path, headers, body))
end

local function still_serves()
  local r = ask("/text")
  assert.equal(200, r.status)
  assert.equal("text", r.body)
end

--- Seconds until the server has closed, and what it said before.
local function until_closed(wire, seconds)
  local from = posix.now()
  local bytes, how = wire:receive_all(seconds or 5)
  assert.equal("closed", how)
  return posix.now() - from, bytes
end

local function times_out(wire, status)
  local took, bytes = until_closed(wire)
  assert.matches("^HTTP/1.1 " .. status .. " ", bytes)
  assert.matches("\r\nConnection: close\r\n", bytes, 1, true)
  assert.matches("application/problem+json", bytes, 1, true)
  wire:close()
  return took
end

describe("a client that is slow", function()
  setup(function()
    serve({ "timeouts.header=300ms", "timeouts.body=300ms", "timeouts.idle=400ms" })
  end)
  teardown(process.cleanup)

  it("gets 408 for half a request line and silence", function()
    local wire = connect()
    wire:send("GET /te")
    local took = times_out(wire, 408)
    assert.is_true(took > 0.25 and took < 1, took)
  end)

  it("gets 408 for half a head and silence", function()
    local wire = connect()
    wire:send("GET /text HTTP/1.1\r\nHost: x\r\nX-Y: ")
    times_out(wire, 408)
  end)

  it("gets 408 for half of a second request", function()
    local wire = connect()
    wire:send(GET .. "GET /te")
    assert.equal("text", wire:response().body)
    times_out(wire, 408)
  end)

  it("gets 408 although it sends a byte now and then", function()
    local wire, from = connect(), posix.now()
    local request = "GET /text HTTP/1.1\r\nHost: x\r\nX-Y: slow\r\n\r\n"
    for i = 1, 20 do
      if not wire:send(request:sub(i, i)) or wire:receive(0.05) then
        break
      end
    end
    assert.is_true(posix.now() - from < 0.9)
    wire:close()
    still_serves()
  end)

  it("is served when all bytes come in time, one by one", function()
    local wire = connect()
    wire:send_bytewise(GET, 0.002)
    assert.equal("text", wire:response().body)
    wire:close()
  end)

  it("is closed without a word when it sends nothing", function()
    local wire = connect()
    local took, bytes = until_closed(wire)
    assert.equal("", bytes)
    assert.is_true(took > 0.35 and took < 1, took)
    wire:close()
  end)

  it("is closed without a word when no second request comes", function()
    local wire = connect()
    wire:send(GET)
    assert.equal(200, wire:response().status)
    local took, bytes = until_closed(wire)
    assert.equal("", bytes)
    assert.is_true(took > 0.3 and took < 1, took)
    wire:close()
  end)

  it("gets 408 for half a small body and silence", function()
    local wire = connect()
    wire:send("POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    times_out(wire, 408)
  end)

  it("gets 408 for half a large body and silence", function()
    local wire = connect()
    wire:send("POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nhalf")
    times_out(wire, 408)
  end)

  it("gets 408 for half a chunk and silence", function()
    local wire = connect()
    wire:send("POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha")
    times_out(wire, 408)
  end)

  it("may take its time for a body as long as pieces keep coming", function()
    local wire = connect()
    wire:send("POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ = 1, 6 do
      wire:send("5\r\nhello\r\n")
      posix.sleep(0.15)
    end
    wire:send("0\r\n\r\n")
    assert.matches("^30 ", wire:response().body)
    wire:close()
  end)
end)

describe("a client that asks for too much", function()
  setup(function()
    serve({ "limits.body=1M" })
  end)
  teardown(process.cleanup)
  after_each(still_serves)

  local function refused(status, bytes)
    local wire = connect()
    wire:send(bytes)
    local r = assert(wire:response())
    assert.equal(status, r.status)
    assert.equal("close", r.headers.connection)
    local rest, how = wire:receive_all()
    assert.equal("", rest)
    assert.equal("closed", how)
    wire:close()
  end

  it("gets 414 for a target of 9 KB", function()
    refused(414, "GET /" .. ("a"):rep(9000) .. " HTTP/1.1\r\nHost: x\r\n\r\n")
  end)

  it("gets 431 for fields of 33 KB", function()
    refused(431, "GET /text HTTP/1.1\r\nHost: x\r\nX: " .. ("a"):rep(33000) .. "\r\n\r\n")
  end)

  it("gets 431 for 101 fields", function()
    refused(431, "GET /text HTTP/1.1\r\nHost: x\r\n" .. ("X: y\r\n"):rep(100) .. "\r\n")
  end)

  it("can read the 413 although it goes on sending a declared body", function()
    local wire = connect()
    wire:send("POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n")
    wire:send(("a"):rep(8 * MIB)) -- all of it, before it reads
    local r = assert(wire:response())
    assert.equal(413, r.status)
    assert.equal("close", r.headers.connection)
    local rest, how = wire:receive_all()
    assert.equal("", rest)
    assert.equal("closed", how)
    wire:close()
  end)

  it("can read the 413 although it goes on sending chunks", function()
    local wire = connect()
    local chunk = "10000\r\n" .. ("a"):rep(65536) .. "\r\n"
    wire:send("POST /text HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ = 1, 128 do
      if not wire:send(chunk) then
        break
      end
    end
    local r = assert(wire:response())
    assert.equal(413, r.status)
    assert.equal("close", r.headers.connection)
    wire:close()
  end)
end)

describe("a client that goes away", function()
  setup(function()
    serve({})
  end)
  teardown(process.cleanup)
  after_each(still_serves)

  it("may reset in the middle of a response", function()
    for _ = 1, 20 do
      local wire = connect({ receive_bytes = 4096 })
      wire:send("GET /big/20000000 HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.is_string(wire:receive())
      wire:reset()
    end
    for _ = 1, 20 do
      local wire = connect({ receive_bytes = 4096 })
      wire:send("GET /stream/20000000 HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.is_string(wire:receive())
      wire:reset()
    end
  end)

  it("may reset in the middle of a request", function()
    for i = 1, #GET - 1, 3 do
      local wire = connect()
      wire:send(GET:sub(1, i))
      wire:reset()
    end
  end)

  it("may reset in the middle of a body", function()
    for _ = 1, 20 do
      local wire = connect()
      wire:send("POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" ..
        ("a"):rep(100000))
      wire:reset()
    end
  end)

  it("ends the wait of its handler", function()
    local before = tonumber(ask("/gone").body)
    local wires = {}
    for i = 1, 10 do
      wires[i] = connect()
      wires[i]:send("GET /patient HTTP/1.1\r\nHost: x\r\n\r\n")
    end
    still_serves()
    for _, wire in ipairs(wires) do
      wire:reset()
    end
    assert.is_true(posix.eventually(function()
      return tonumber(ask("/gone").body) == before + 10
    end, 5))
  end)

  it("ends a stream of events", function()
    local wire = connect()
    wire:send("GET /endless-events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.is_string(wire:receive_until("data: now"))
    local busy = memory.descriptors(worker())
    wire:close()
    assert.is_true(posix.eventually(function()
      return memory.descriptors(worker()) < busy
    end, 5))
  end)

  it("leaves no descriptor behind", function()
    still_serves()
    local before = memory.descriptors(worker())
    for _ = 1, 50 do
      local wire = connect()
      wire:send("GET /big/1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
      wire:reset()
    end
    assert.is_true(posix.eventually(function()
      return memory.descriptors(worker()) <= before
    end, 5))
  end)
end)

describe("clients that never read", function()
  local COUNT, OUTPUT = 500, 65536

  setup(function()
    serve({ "limits.output=64K", "timeouts.write=2s" })
  end)
  teardown(process.cleanup)

  it("hold no more than limits.output each, are closed, and leave no memory behind", function()
    for _ = 1, 50 do
      ask("/stream/1000000")
    end
    posix.sleep(2.5) -- free slabs go back
    local before = memory.pss(worker())
    local wires = {}
    for i = 1, COUNT do
      wires[i] = connect({ receive_bytes = 4096 })
      wires[i]:send("GET /stream/100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    end
    still_serves()
    local during = memory.pss(worker())
    local plain = memory.is_plain(worker())
    if plain then
      -- The slab's touched pages and the output; the kernel's buffers aren't ours.
      assert.is_true(during - before < COUNT * (OUTPUT + 131072), during - before)
    end
    for _, wire in ipairs(wires) do
      assert.is_true(posix.eventually(function()
        return not wire:send("x") -- reset by the server
      end, 30))
      wire:close()
    end
    assert.is_true(posix.eventually(function() -- freed pages go back within seconds
      return not plain or memory.pss(worker()) - before < 4 * MIB
    end, 20), memory.pss(worker()) - before)
    still_serves()
  end)
end)

describe("more connections than limits.connections", function()
  local LIMIT = 50

  setup(function()
    serve({ "limits.connections=" .. LIMIT })
  end)
  teardown(process.cleanup)

  it("wait, and are served when others end", function()
    local wires = {}
    for i = 1, 2 * LIMIT do
      wires[i] = connect()
      wires[i]:send(GET)
    end
    local served = 0
    for i = 1, 2 * LIMIT do
      served = served + (wires[i]:receive(0.02) and 1 or 0)
    end
    assert.equal(LIMIT, served)
    for i = 1, LIMIT do
      wires[i]:close()
    end
    for i = LIMIT + 1, 2 * LIMIT do
      assert.equal("text", assert(wires[i]:response()).body)
      wires[i]:close()
    end
    still_serves()
  end)

  it("that come and go by the thousand leave no memory behind", function()
    still_serves()
    posix.sleep(2.5)
    local before = memory.pss(worker())
    for _ = 1, 2000 do
      local wire = connect()
      wire:send(GET)
      wire:close()
    end
    still_serves()
    assert.is_true(posix.eventually(function()
      return memory.pss(worker()) - before < 2 * MIB
    end, 5), memory.pss(worker()) - before)
  end)
end)

describe("descriptors that are used up", function()
  setup(function()
    serve({})
  end)
  teardown(process.cleanup)

  it("make connections wait until there are some again", function()
    still_serves()
    local pid = worker()
    local limit = memory.descriptors(pid) + 20
    assert.equal(0, os.execute(("prlimit --pid %d --nofile=%d"):format(pid, limit)))
    local wires = {}
    for i = 1, 60 do
      wires[i] = connect()
      wires[i]:send(GET)
    end
    local served = 0
    for i = 1, 60 do
      served = served + (wires[i]:receive(0.02) and 1 or 0)
    end
    assert.is_true(served >= 10 and served <= 22, served)
    for _, wire in ipairs(wires) do
      wire:close()
    end
    assert.is_true(posix.eventually(function()
      local r = sockets.ask(server.port, "GET", "/text")
      return r and r.status == 200
    end, 5))
    assert.equal(pid, worker())
  end)
end)

describe("a handler that fails", function()
  setup(function()
    serve({})
  end)
  teardown(process.cleanup)

  it("is a 500 problem without internals, and one log record with all of them", function()
    local r = ask("/boom")
    assert.equal(500, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.is_nil(r.body:find("secret", 1, true))
    assert.is_nil(r.body:find("app.lua", 1, true))
    local line = server:wait_log('([^\n]*secret of the handler[^\n]*)\n')
    local record = require("perilune").json.decode(line)
    assert.equal("error", record.level)
    assert.matches("app.lua:%d+: secret of the handler", record.msg)
    assert.matches("app.lua:%d+:", record.traceback)
    assert.matches("^%x+$", record.req_id)
    posix.sleep(0.3)
    local _, count = server:log():gsub("secret of the handler", "")
    assert.equal(1, count)
    -- The access record of the same request has the same id.
    assert.is_truthy(server:wait_log('"req_id":"' .. record.req_id .. '"[^\n]*"status":500'))
    still_serves()
  end)

  it("in the middle of a stream is a reset, so that nobody takes a part for the whole", function()
    local wire = connect()
    wire:send("GET /boom-late HTTP/1.1\r\nHost: x\r\n\r\n")
    local bytes, how = wire:receive_all()
    assert.equal("reset", how)
    assert.is_nil(bytes:find("secret", 1, true))
    assert.is_nil(bytes:find("\r\n0\r\n", 1, true))
    wire:close()
    still_serves()
  end)
end)
