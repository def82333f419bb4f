-- Every limit and timeout of the configuration (API.md, section 4), one fact
-- or more each, on a real server. Those of slow clients are in faults_spec,
-- limits.output in streams_spec, the drain's in drain_spec.

local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"

local function serve(settings, app)
  local args = {}
  for _, pair in ipairs(settings) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  return process.server({ app = app or APP, args = args })
end

local function ask(server, path, method, headers, body)
  return assert(sockets.ask(server.port, method or "GET", path, headers, body))
end

local function worker_of(server)
  local _, workers = process.family(server.process.pid)
  return workers[1]
end

describe("the configuration key", function()
  after_each(process.cleanup)

  it("timeouts.handler answers 503 when a handler waits past it", function()
    local server = serve({ "timeouts.handler=300ms" })
    local from = posix.now()
    local r = ask(server, "/slow/10000")
    local took = posix.now() - from
    assert.equal(503, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.is_true(took > 0.25 and took < 1, took)
    assert.equal("slow 50", ask(server, "/slow/50").body)
  end)

  it("timeouts.handler gives way to the timeout of a route", function()
    local server = serve({ "timeouts.handler=100ms" })
    assert.equal("own 300", ask(server, "/own/300").body)
  end)

  it("timeouts.handler ends a wait for the body", function()
    local server = serve({ "timeouts.handler=300ms", "timeouts.body=10s" })
    local wire = assert(sockets.connect(server.port))
    wire:send("POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\nhalf")
    local r = assert(wire:response({ seconds = 2 }))
    assert.equal(503, r.status)
  end)

  it("timeouts.write closes a connection whose client reads nothing", function()
    local server = serve({ "timeouts.write=500ms" })
    local wire = assert(sockets.connect(server.port, { receive_bytes = 4096 }))
    local from = posix.now()
    wire:send("GET /big/50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.is_true(posix.eventually(function()
      return not wire:send("x")
    end, 5))
    local took = posix.now() - from
    assert.is_true(took > 0.4 and took < 2, took)
  end)

  it("timeouts.write lets a client live that reads a little now and then", function()
    local server = serve({ "timeouts.write=500ms" })
    local wire = assert(sockets.connect(server.port, { receive_bytes = 4096 }))
    wire:send("GET /stream/3000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ = 1, 6 do
      posix.sleep(0.2)
      assert.is_string(wire:receive_bytes(100000))
    end
    assert.is_string(wire:receive_until("\r\n0\r\n\r\n"))
  end)

  it("limits.target answers 414 past it", function()
    local server = serve({ "limits.target=20" })
    assert.equal(200, ask(server, "/echo/89012345678901").status)
    assert.equal(414, ask(server, "/echo/890123456789012").status)
  end)

  it("limits.headers answers 431 past it", function()
    local server = serve({ "limits.headers=100" })
    assert.equal(200, ask(server, "/text", "GET", "X: " .. ("a"):rep(60) .. "\r\n").status)
    assert.equal(431, ask(server, "/text", "GET", "X: " .. ("a"):rep(100) .. "\r\n").status)
  end)

  it("limits.headers may be larger than the usual receive buffer", function()
    local server = serve({ "limits.headers=256K", "limits.target=64K" })
    local target = "/echo/" .. ("a"):rep(60000)
    assert.equal(200, ask(server, target, "GET", "X: " .. ("a"):rep(250000) .. "\r\n").status)
  end)

  it("limits.header_count answers 431 past it", function()
    local server = serve({ "limits.header_count=5" })
    assert.equal(200, ask(server, "/text", "GET", ("X: y\r\n"):rep(4)).status)
    assert.equal(431, ask(server, "/text", "GET", ("X: y\r\n"):rep(5)).status)
  end)

  it("limits.body answers 413 past it, declared or in chunks", function()
    local server = serve({ "limits.body=10" })
    assert.equal("0123456789", ask(server, "/text", "POST", "", "0123456789").body)
    assert.equal(413, ask(server, "/text", "POST", "", "0123456789a").status)
    local wire = assert(sockets.connect(server.port))
    wire:request("POST", "/text", "Transfer-Encoding: chunked\r\n")
    wire:send("b\r\n0123456789a\r\n0\r\n\r\n")
    assert.equal(413, wire:response().status)
  end)

  it("limits.body holds for a body that comes while the handler reads it", function()
    local server = serve({ "limits.body=100000" })
    local wire = assert(sockets.connect(server.port))
    wire:request("POST", "/text", "Transfer-Encoding: chunked\r\n")
    for _ = 1, 11 do
      wire:send("2710\r\n" .. ("a"):rep(10000) .. "\r\n")
      posix.sleep(0.03)
    end
    local r = assert(wire:response())
    assert.equal(413, r.status)
    assert.equal("close", r.headers.connection)
  end)

  it("limits.requests_per_connection closes after so many", function()
    local server = serve({ "limits.requests_per_connection=2" })
    local wire = assert(sockets.connect(server.port))
    local one = "GET /text HTTP/1.1\r\nHost: x\r\n\r\n"
    wire:send(one)
    assert.is_nil(wire:response().headers.connection)
    wire:send(one .. one)
    assert.equal("close", wire:response().headers.connection)
    local rest, how = wire:receive_all()
    assert.equal("", rest)
    assert.equal("closed", how)
  end)

  it("limits.tasks refuses more tasks of one request", function()
    local server = serve({ "limits.tasks=5" })
    assert.equal("5 too many tasks", ask(server, "/tasks/9").body)
    assert.equal("5 none refused", ask(server, "/tasks/5").body)
  end)

  it("limits.tasks_per_worker refuses more tasks of all requests", function()
    local server = serve({ "limits.tasks_per_worker=7" })
    assert.equal("7 too many tasks", ask(server, "/tasks/9").body)
    assert.equal("7 too many tasks", ask(server, "/tasks/9").body) -- the first ones are gone
  end)

  it("vm.load_timeout ends an app that does not finish loading", function()
    local from = posix.now()
    local r = process.run({ "run", process.folder({ ["app.lua"] = "while true do end" }),
      "--listen", "127.0.0.1:0", "--set", "vm.load_timeout=300ms" }, {
      env = { XDG_RUNTIME_DIR = process.folder() },
    })
    local took = posix.now() - from
    assert.equal(65, r.code)
    assert.matches("app.lua:1", r.err, 1, true)
    assert.is_true(took > 0.25 and took < 3, took)
  end)

  it("vm.memory_hard fails the handler that wants more at once, and the worker lives on", function()
    local server = serve({ "vm.memory_hard=64M", "vm.memory_soft=32M" })
    ask(server, "/text")
    local pid = worker_of(server)
    for _ = 1, 3 do
      assert.equal(500, ask(server, "/huge").status)
      assert.equal("text", ask(server, "/text").body)
    end
    assert.equal(pid, worker_of(server))
    assert.is_truthy(server:wait_log("not enough memory"))
  end)

  it("vm.memory_soft is the affair of the handler that passes it, not of those after it", function()
    local server = serve({ "vm.memory_hard=256M", "vm.memory_soft=256M" })
    for _ = 1, 3 do
      assert.equal(503, ask(server, "/hoard-tables").status)
      assert.equal(503, ask(server, "/hoard").status)
      for i = 1, 20 do
        assert.equal(200, ask(server, "/echo/" .. i).status)
      end
    end
  end)

  it("vm.load_timeout ends an app that does not finish loading in tools, too", function()
    local folder = process.folder({ ["app.lua"] = "while true do end" })
    for _, args in ipairs({ { "check", folder }, { "routes", folder },
      { "request", "GET", "/", "--app", folder } }) do
      local from = posix.now()
      args[#args + 1] = "--set"
      args[#args + 1] = "vm.load_timeout=300ms"
      local r = process.run(args)
      assert.equal(65, r.code)
      assert.matches("app%.lua:1: loading took longer", r.out .. r.err)
      assert.is_true(posix.now() - from < 3)
    end
  end)

  it("vm.stuck_timeout replaces a worker that no longer turns", function()
    local server = serve({ "vm.stuck_timeout=500ms", "vm.preempt=off" })
    ask(server, "/text")
    local pid = worker_of(server)
    local wire = assert(sockets.connect(server.port))
    wire:send("GET /spin HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.is_true(posix.eventually(function()
      local now = worker_of(server)
      return now and now ~= pid
    end, 5))
    assert.equal("text", ask(server, "/text").body)
  end)
end)
