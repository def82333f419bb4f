-- How a server ends, and what survives the end of one of its processes.

local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"

local server

local function serve(settings, workers)
  local args = {}
  for _, pair in ipairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = APP, args = args, workers = workers })
end

local function connect()
  return assert(sockets.connect(server.port))
end

local function get(path)
  return "GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n"
end

local function is_served()
  local r = sockets.ask(server.port, "GET", "/text")
  return r and r.status == 200
end

describe("on TERM a server", function()
  after_each(process.cleanup)

  it("finishes what runs, says Connection: close, and exits with 0", function()
    serve()
    local wire = connect()
    wire:send(get("/slow/600"))
    posix.sleep(0.1)
    server.process:kill("TERM")
    local r = assert(wire:response())
    assert.equal("slow 600", r.body)
    assert.equal("close", r.headers.connection)
    local rest, how = wire:receive_all()
    assert.equal("", rest)
    assert.equal("closed", how)
    wire:close()
    assert.equal(0, server.process:wait())
  end)

  it("does not wait for a client that keeps its side open", function()
    serve()
    local wire = connect()
    wire:send(get("/slow/300"))
    posix.sleep(0.1)
    local from = posix.now()
    server.process:kill("TERM")
    assert(wire:response())
    assert.equal(0, server.process:wait())
    assert.is_true(posix.now() - from < 5)
  end)

  it("finishes a stream that runs", function()
    serve()
    local wire = connect()
    wire:send(get("/halves/500"))
    wire:receive_until("first ")
    server.process:kill("TERM")
    assert.is_string(wire:receive_until("second\r\n0\r\n\r\n"))
    wire:close()
    assert.equal(0, server.process:wait())
  end)

  it("finishes a request whose body is still coming", function()
    serve()
    local wire = connect()
    wire:send("POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    posix.sleep(0.1)
    server.process:kill("TERM")
    posix.sleep(0.2)
    wire:send("56789")
    local r = assert(wire:response())
    assert.equal("0123456789", r.body)
    assert.equal("close", r.headers.connection)
    wire:close()
    assert.equal(0, server.process:wait())
  end)

  it("closes idle connections at once", function()
    serve()
    local fresh, used = connect(), connect()
    used:send(get("/text"))
    assert.equal(200, used:response().status)
    posix.sleep(0.05)
    local from = posix.now()
    server.process:kill("TERM")
    for _, wire in ipairs({ fresh, used }) do
      local rest, how = wire:receive_all()
      assert.equal("", rest)
      assert.equal("closed", how)
    end
    assert.equal(0, server.process:wait())
    assert.is_true(posix.now() - from < 2)
  end)

  it("accepts no more", function()
    serve()
    local wire = connect()
    wire:send(get("/slow/800"))
    posix.sleep(0.1)
    server.process:kill("TERM")
    assert.is_true(posix.eventually(function()
      local other, err = sockets.connect(server.port)
      if other then
        other:close()
      end
      return err == "refused"
    end, 0.6))
    assert.equal("slow 800", assert(wire:response()).body)
    wire:close()
    assert.equal(0, server.process:wait())
  end)

  it("cuts what still runs after timeouts.drain", function()
    serve({ "timeouts.drain=400ms" })
    local wire = connect()
    wire:send(get("/slow/20000"))
    posix.sleep(0.1)
    local from = posix.now()
    server.process:kill("TERM")
    assert.is_nil(wire:response())
    assert.is_not_nil(server.process:wait(5))
    local took = posix.now() - from
    assert.is_true(took > 0.35 and took < 3, took)
  end)

  it("serves on for timeouts.pre_drain", function()
    serve({ "timeouts.pre_drain=800ms" })
    local from = posix.now()
    server.process:kill("TERM")
    posix.sleep(0.3)
    assert.is_true(is_served())
    assert.equal(0, server.process:wait())
    local took = posix.now() - from
    assert.is_true(took > 0.75 and took < 3, took)
  end)

  it("stops at once at the second one", function()
    serve()
    local _, workers = process.family(server.process.pid)
    local wire = connect()
    wire:send(get("/slow/20000"))
    posix.sleep(0.1)
    server.process:kill("TERM")
    posix.sleep(0.1)
    local from = posix.now()
    server.process:kill("TERM")
    assert.equal(1, server.process:wait())
    assert.is_true(posix.now() - from < 2)
    assert.is_false(process.is_alive(workers[1]))
  end)

  it("writes the records of what ran last", function()
    serve()
    local wire = connect()
    wire:send(get("/slow/300"))
    posix.sleep(0.1)
    server.process:kill("TERM")
    assert(wire:response())
    wire:close()
    assert.equal(0, server.process:wait())
    assert.matches('"target":"/slow/300","status":200', server:log(), 1, true)
  end)
end)

describe("when a process is killed", function()
  after_each(process.cleanup)

  local function all_gone(list)
    return posix.eventually(function()
      for _, pid in ipairs(list) do
        if process.is_alive(pid) then
          return false
        end
      end
      return true
    end, 5)
  end

  it("the master's end ends all others", function()
    serve({}, 2)
    local control, workers = process.family(server.process.pid)
    local list = { control, unpack(workers) }
    assert.equal(3, #list)
    server.process:kill("KILL")
    server.process:wait()
    assert.is_true(all_gone(list))
    local _, err = sockets.connect(server.port)
    assert.equal("refused", err)
  end)

  it("a worker is replaced, and its last records come out", function()
    serve()
    local _, workers = process.family(server.process.pid)
    for i = 1, 20 do
      assert(sockets.ask(server.port, "GET", "/echo/before" .. i))
    end
    process.signal(workers[1], "KILL")
    assert.is_true(posix.eventually(is_served, 5))
    local _, after = process.family(server.process.pid)
    assert.equal(1, #after)
    assert.are_not.equal(workers[1], after[1])
    for i = 1, 20 do
      assert.is_truthy(server:wait_log('"target":"/echo/before' .. i .. '"', 5), i)
    end
  end)

  it("requests of other workers go on", function()
    serve({}, 2)
    local wires = {}
    for i = 1, 16 do -- some on each
      wires[i] = connect()
      wires[i]:send(get("/slow/700"))
    end
    posix.sleep(0.1)
    local _, workers = process.family(server.process.pid)
    process.signal(workers[1], "KILL")
    local answered = 0
    for _, wire in ipairs(wires) do
      local r = wire:response()
      answered = answered + (r and r.body == "slow 700" and 1 or 0)
    end
    assert.is_true(answered > 0 and answered < 16, answered)
  end)

  it("control is replaced, and no record is lost", function()
    serve()
    for i = 1, 100 do
      assert(sockets.ask(server.port, "GET", "/echo/r" .. i))
      if i == 50 then
        local control = process.family(server.process.pid)
        process.signal(control, "KILL")
      end
    end
    assert.equal(0, server:stop())
    local log, seen = server:log(), 0
    for i = 1, 100 do
      seen = seen + (log:find('"target":"/echo/r' .. i .. '"', 1, true) and 1 or 0)
    end
    assert.equal(100, seen)
  end)
end)
