local process = require("spec.support.process")
local wire = require("spec.support.wire")

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return "hello" end)
app:get("/slow", function() P.sleep(0.5) return "late" end)
app:get("/forever", function() P.sleep(60) return "never" end)
return app
]]

local function server(opts)
  opts = opts or {}
  opts.app = { ["app.lua"] = APP }
  return process.server(opts)
end

describe("a server", function()
  after_each(process.cleanup)

  for _, signal in ipairs({ "TERM", "INT" }) do
    it("drains on " .. signal .. ": a running request is answered, then it ends with 0", function()
      local s = server()
      local running = wire.connect(s.port)
      running:request("GET", "/slow")
      process.sleep(0.1)
      s.process:kill(signal)
      local response = running:response()
      assert.equal("late", response.body)
      assert.equal("close", response.headers.connection)
      assert.equal(0, s.process:wait())
    end)
  end

  it("closes idle connections when it drains", function()
    local s = server()
    local idle = wire.connect(s.port)
    idle:request("GET", "/")
    assert.equal(200, idle:response().status)
    s.process:kill("TERM")
    local _, err = idle:receive()
    assert.equal("closed", err)
    assert.equal(0, s.process:wait())
  end)

  it("takes no new connections once it drains", function()
    local s = server()
    local running = wire.connect(s.port)
    running:request("GET", "/slow")
    process.sleep(0.1)
    s.process:kill("TERM")
    assert.is_truthy(s.process:wait_for("err", "stopping"))
    local refused = process.eventually(function()
      local _, err = wire.connect(s.port)
      return err == "refused"
    end, 0.3)
    assert.is_true(refused)
    assert.equal("late", running:response().body)
  end)

  it("still serves during timeouts.pre_drain", function()
    local s = server({ args = { "--set", "timeouts.pre_drain=500ms" } })
    s.process:kill("TERM")
    assert.is_truthy(s.process:wait_for("err", "stopping"))
    assert.equal(200, wire.ask(s.port, "GET", "/").status)
    assert.equal(0, s.process:wait())
  end)

  it("stops at once on a second signal, and ends with 1", function()
    local s = server()
    local running = wire.connect(s.port)
    running:request("GET", "/forever")
    process.sleep(0.1)
    s.process:kill("TERM")
    assert.is_truthy(s.process:wait_for("err", "stopping"))
    s.process:kill("TERM")
    assert.equal(1, s.process:wait(10))
    assert.matches("stopped at once", s.process:err())
  end)

  it("cuts what lasts longer than timeouts.drain, and ends with 0 all the same", function()
    local s = server({ args = { "--set", "timeouts.drain=200ms" } })
    local running = wire.connect(s.port)
    running:request("GET", "/forever")
    process.sleep(0.1)
    s.process:kill("TERM")
    assert.equal(0, s.process:wait(10))
    local _, how = running:receive_all()
    assert.is_not.equal("timeout", how)
  end)

  it("ends well when a terminal interrupts the whole group", function()
    local s = server({ workers = 2 })
    local running = wire.connect(s.port)
    running:request("GET", "/slow")
    process.sleep(0.1)
    s.process:kill_group("INT")
    assert.equal("late", running:response().body)
    assert.equal(0, s.process:wait())
  end)

  for _, signal in ipairs({ "HUP", "USR1", "USR2", "TTIN", "TTOU", "PIPE" }) do
    it("goes on serving after " .. signal .. ", also in the whole group", function()
      local s = server()
      s.process:kill_group(signal)
      process.sleep(0.05)
      assert.equal(200, wire.ask(s.port, "GET", "/").status)
      assert.equal(0, s:stop())
    end)
  end

  it("ends when it is told to while it is starting", function()
    local app = process.folder({ ["app.lua"] = "local n = 0 while true do n = n + 1 end" })
    local p = process.start({ "run", app, "--listen", "127.0.0.1:0" },
      { env = { XDG_RUNTIME_DIR = process.folder() } })
    process.eventually(function()
      return #process.children(p.pid) > 1
    end)
    local family = process.children(p.pid)
    p:kill("TERM")
    assert.equal(1, p:wait(10))
    for _, pid in ipairs(family) do
      assert.is_false(process.is_alive(pid))
    end
  end)
end)
