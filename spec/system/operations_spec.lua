--- A running server is asked and told things: by its control socket, by the launcher, by signals.

local process = require("spec.support.process")
local wire = require("spec.support.wire")
local json = require("perilune.json")

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return "one" end)
app:get("/slow", function() P.sleep(0.6) return "slow" end)
app:get("/long", function() P.sleep(30) return "never" end)
return app
]]

local function start(opts)
  opts = opts or {}
  local folder = process.folder({ ["app.lua"] = opts.text or APP })
  local s = process.server({ app = folder, workers = opts.workers or 2, env = opts.env,
    args = { "--name", "ops", unpack(opts.args or {}) } })
  s.app, s.socket = folder, s.folder .. "/perilune/ops.sock"
  return s
end

local function ask(s, method, target)
  local response = assert(wire.ask(s.socket, method, target))
  return response.status, json.decode(response.body), response
end

local function launcher(s, command, ...)
  return process.run({ command, "--name", "ops", ... }, { env = { XDG_RUNTIME_DIR = s.folder } })
end

local function write(folder, text)
  local file = assert(io.open(folder .. "/app.lua", "wb"))
  file:write(text)
  file:close()
end

local function workers(s)
  local _, list = process.family(s.process.pid)
  return list
end

describe("the control socket", function()
  after_each(process.cleanup)

  it("is there when the server serves, for its user alone, and goes with it", function()
    local s = start()
    local mode = io.popen("stat -c %a " .. s.socket):read("*l")
    assert.equal("600", mode)
    assert.equal(0, s:stop())
    assert.is_nil(process.slurp(s.socket))
    assert.is_nil(wire.connect(s.socket))
  end)

  it("tells how the server is", function()
    local s = start()
    wire.ask(s.port, "GET", "/")
    local status, body = ask(s, "GET", "/status")
    assert.equal(200, status)
    assert.equal("ops", body.name)
    assert.equal("serving", body.state)
    assert.equal(s.process.pid, body.pid)
    assert.equal(1, body.generation)
    assert.equal(16, #body.hash)
    assert.same({ "http://127.0.0.1:" .. s.port }, body.addresses)
    assert.equal(2, #body.workers)
    for i, worker in ipairs(body.workers) do
      assert.equal(i - 1, worker.index)
      assert.equal("serving", worker.state)
      assert.equal(1, worker.generation)
    end
    assert.equal("committed", body.last_reload.result)
  end)

  it("reloads, and says how that went", function()
    local s = start()
    write(s.app, (APP:gsub("one", "two")))
    local status, body = ask(s, "POST", "/reload")
    assert.equal(200, status)
    assert.equal("committed", body.result)
    assert.equal(2, body.generation)
    assert.equal("two", wire.ask(s.port, "GET", "/").body)
    write(s.app, "\nerror('not today')")
    status, body = ask(s, "POST", "/reload")
    assert.equal(422, status)
    assert.equal("rejected", body.result)
    assert.equal("script", body.kind)
    assert.equal(2, body.generation)
    assert.matches("app.lua:2: not today", body.error)
    assert.equal("two", wire.ask(s.port, "GET", "/").body)
  end)

  it("answers a reload that is asked for during another one with the result of its own", function()
    local s = start()
    local first, second = wire.connect(s.socket), wire.connect(s.socket)
    write(s.app, "error('first')")
    first:request("POST", "/reload")
    process.sleep(0.002)
    second:request("POST", "/reload")
    local a, b = json.decode(first:response().body), json.decode(second:response().body)
    assert.matches("first", a.error)
    assert.matches("first", b.error)
    write(s.app, (APP:gsub("one", "two")))
    assert.equal("committed", select(2, ask(s, "POST", "/reload")).result)
  end)

  it("refuses what it does not know, and what is no HTTP", function()
    local s = start()
    assert.equal(404, (ask(s, "GET", "/nothing")))
    assert.equal(405, (ask(s, "GET", "/reload")))
    local w = wire.connect(s.socket)
    w:send("hello\r\n\r\n")
    assert.is_true(w:response().status >= 400)
    local large = wire.connect(s.socket)
    large:send("GET /status HTTP/1.1\r\nHost: a\r\nX: " .. ("x"):rep(9000) .. "\r\n\r\n")
    assert.is_true(large:response().status >= 400)
    assert.equal("one", wire.ask(s.port, "GET", "/").body)
  end)

  it("is not held up by clients that say nothing", function()
    local s = start()
    local mute = {}
    for i = 1, 40 do
      mute[i] = wire.connect(s.socket)
    end
    for i = 1, 20 do
      mute[i]:close()
    end
    assert.equal(200, (ask(s, "GET", "/status")))
    assert.equal("one", wire.ask(s.port, "GET", "/").body)
  end)

  it("drains: what runs is answered, nothing new comes in, and the master stays", function()
    local s = start()
    local running, drain = wire.connect(s.port), wire.connect(s.socket)
    running:request("GET", "/slow")
    process.sleep(0.1)
    drain:request("POST", "/drain")
    assert.equal("slow", running:response().body)
    local body = json.decode(drain:response().body)
    assert.equal("drained", body.result)
    assert.equal(0, body.cut_requests)
    assert.is_nil(wire.connect(s.port))
    assert.equal("drained", select(2, ask(s, "GET", "/status")).state)
    assert.equal(202, (ask(s, "POST", "/stop")))
    assert.equal(0, s.process:wait())
  end)

  it("stops at once when it is told so", function()
    local s = start()
    local running = wire.connect(s.port)
    running:request("GET", "/long")
    process.sleep(0.1)
    assert.equal(202, (ask(s, "POST", "/stop?now=true")))
    assert.equal(1, s.process:wait(5))
  end)
end)

describe("the launcher", function()
  after_each(process.cleanup)

  it("shows the status, for people and for programs", function()
    local s = start()
    local text = launcher(s, "status")
    assert.equal(0, text.code)
    assert.matches("ops +serving, pid " .. s.process.pid, text.out)
    assert.matches("WORKER +PID", text.out)
    local data = json.decode(launcher(s, "status", "--json").out)
    assert.equal("serving", data.state)
  end)

  it("reloads: 0, or 65 with the script's error, or 78 for the configuration", function()
    local s = start()
    write(s.app, (APP:gsub("one", "two")))
    local good = launcher(s, "reload")
    assert.equal(0, good.code)
    assert.matches("generation 2 %(%x+%) serves", good.out)
    assert.equal("two", wire.ask(s.port, "GET", "/").body)
    write(s.app, "\n\nlocal x = nil + 1")
    local bad = launcher(s, "reload")
    assert.equal(65, bad.code)
    assert.matches("app.lua:3: attempt to perform arithmetic", bad.err)
    assert.equal("", bad.out)
    local file = assert(io.open(s.app .. "/config.lua", "wb"))
    file:write("return { wokers = 3 }")
    file:close()
    local wrong = launcher(s, "reload", "--json")
    assert.equal(78, wrong.code)
    assert.matches("workers", json.decode(wrong.out).error)
    assert.equal("two", wire.ask(s.port, "GET", "/").body)
  end)

  it("says 3 when there is no such server", function()
    local folder = process.folder()
    for _, command in ipairs({ "status", "reload", "drain", "stop" }) do
      local r = process.run({ command, "--name", "nobody" }, { env = { XDG_RUNTIME_DIR = folder } })
      assert.equal(3, r.code)
      assert.matches("nobody is not running", r.err)
    end
  end)

  it("drains", function()
    local s = start()
    assert.equal(0, launcher(s, "drain").code)
    assert.equal("drained", json.decode(launcher(s, "status", "--json").out).state)
    assert.equal(0, launcher(s, "stop").code)
    assert.equal(0, s.process:wait())
  end)
end)

describe("signals", function()
  after_each(process.cleanup)

  it("TTIN adds a worker and TTOU takes one away, without losing a request", function()
    local s = start({ workers = 1 })
    s.process:kill("TTIN")
    assert(process.eventually(function() return #workers(s) == 2 end))
    assert(process.eventually(function()
      local _, body = ask(s, "GET", "/status")
      return #body.workers == 2 and body.workers[2].state == "serving"
    end))
    local busy = wire.connect(s.port)
    busy:request("GET", "/slow")
    process.sleep(0.05)
    s.process:kill("TTOU")
    assert(process.eventually(function() return #workers(s) == 1 end))
    assert.equal("slow", busy:response().body)
    for _ = 1, 30 do -- also those that the kernel queues at the socket of the one that left
      assert.equal("one", wire.ask(s.port, "GET", "/").body)
    end
    s.process:kill("TTOU")
    assert.is_truthy(s:wait_log("the last worker stays"))
    assert.equal("one", wire.ask(s.port, "GET", "/").body)
  end)

  it("TTIN stops where there is no room for more workers", function()
    local s = start({ workers = 2, args = { "--set", "workers_max=3" } })
    s.process:kill("TTIN")
    assert(process.eventually(function() return #workers(s) == 3 end))
    s.process:kill("TTIN")
    assert.is_truthy(s:wait_log("there can be no more workers"))
    assert.is_truthy(s:wait_log("there are 3 workers, and there is room for 3: see workers_max", 5))
    assert.equal(3, #workers(s))
  end)

  it("USR1 opens the log's file again", function()
    local folder = process.folder()
    local path = folder .. "/log"
    local s = start({ args = { "--set", "log.output=" .. path } })
    wire.ask(s.port, "GET", "/")
    assert(process.eventually(function()
      return (process.slurp(path) or ""):find('"/"', 1, true)
    end))
    assert(os.rename(path, path .. ".1"))
    s.process:kill("USR1")
    assert(process.eventually(function() return process.slurp(path) ~= nil end))
    wire.ask(s.port, "GET", "/slow")
    assert(process.eventually(function() return process.slurp(path):find("/slow", 1, true) end))
    assert.is_nil(process.slurp(path .. ".1"):find("/slow", 1, true))
  end)

  it("USR2 replaces the program: no request is lost, and name and socket go over", function()
    local s = start()
    local kept = wire.connect(s.port)
    kept:request("GET", "/slow")
    process.sleep(0.1)
    s.process:kill("USR2")
    assert.is_truthy(s.process:wait_for("err", "replaced by process (%d+), which serves"))
    local new = tonumber(s.process:err():match("replaced by process (%d+)"))
    assert.equal("slow", kept:response().body)
    assert.equal(0, s.process:wait())
    assert.equal(new, tonumber(process.slurp(s.folder .. "/perilune/ops.pid")))
    assert.equal("one", wire.ask(s.port, "GET", "/").body)
    local _, body = ask(s, "GET", "/status")
    assert.equal(new, body.pid)
    process.signal(new, "TERM")
    assert(process.eventually(function() return not process.is_alive(new) end))
    assert.is_nil(process.slurp(s.folder .. "/perilune/ops.pid"))
  end)

  it("USR2 with an app that does not load leaves everything as it was", function()
    local unix = process.folder() .. "/app.sock"
    local s = start({ args = { "--listen", "unix:" .. unix } })
    write(s.app, "error('half a deployment')")
    s.process:kill("USR2")
    assert.is_truthy(s.process:wait_for("err", "the program was not replaced, this one serves on"))
    assert.matches("half a deployment", s.process:err())
    assert.equal("one", wire.ask(s.port, "GET", "/").body)
    local _, body = ask(s, "GET", "/status")
    assert.equal(s.process.pid, body.pid)
    assert.is_false(body.upgrading)
    assert.equal("one", wire.ask(unix, "GET", "/").body)
    write(s.app, (APP:gsub("one", "two")))
    s.process:kill("USR2")
    assert.is_truthy(s.process:wait_for("err", "replaced by process (%d+)"))
    local new = tonumber(s.process:err():match("replaced by process (%d+)"))
    assert.equal(0, s.process:wait())
    assert.equal("two", wire.ask(s.port, "GET", "/").body)
    assert.equal("two", wire.ask(unix, "GET", "/").body)
    process.signal(new, "TERM")
    assert(process.eventually(function() return not process.is_alive(new) end))
    assert.is_nil(wire.connect(unix))
  end)

  it("TERM during USR2 ends both", function()
    local s = start({ text = APP:gsub("local app", "for _ = 1, 2e7 do end\nlocal app") })
    s.process:kill("USR2")
    process.sleep(0.03)
    local born = process.children(s.process.pid)
    s.process:kill("TERM")
    assert.equal(0, s.process:wait())
    assert(process.eventually(function()
      for _, pid in ipairs(born) do
        if process.is_alive(pid) then return false end
      end
      return true
    end))
    assert.is_nil(process.slurp(s.folder .. "/perilune/ops.pid"))
  end)
end)

describe("user and group", function()
  after_each(process.cleanup)

  local is_root = io.popen("id -u"):read("*l") == "0"
  local title = "run everything as that user, for good, once the sockets are bound"
  if not is_root then
    pending(title .. " (only root can try that)")
  else
    it(title, function()
      local app, state = process.folder({ ["app.lua"] = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return io.open("/proc/self/status"):read("*a") end)
return app
]] }), process.folder()
      os.execute(("chmod 755 %s && chown nobody %s"):format(app, state))
      local s = process.server({ app = app, workers = 1, args = { "--pid-file", state .. "/pid",
        "--set", "user=nobody", "--set", "log.output=" .. state .. "/log" } })
      local text = wire.ask(s.port, "GET", "/").body
      assert.matches("Uid:\t65534\t65534\t65534\t65534", text)
      assert.is_nil(text:match("Groups:\t[^\n]*%f[%d]0%f[%D]"))
      for _, pid in ipairs({ s.process.pid, unpack(process.children(s.process.pid)) }) do
        assert.matches("Uid:\t65534\t65534", process.slurp(("/proc/%d/status"):format(pid)))
      end
      local r = process.run({ "reload", "--pid-file", state .. "/pid" })
      assert.equal(0, r.code, r.err)
      assert(process.eventually(function()
        return (process.slurp(state .. "/log") or ""):find('"generation":2', 1, true)
      end))
      assert.equal(0, s:stop())
      assert.is_nil(process.slurp(state .. "/pid"))
    end)
  end

  it("refuse a user that does not exist, with 78", function()
    local r = process.run({ "run", "apps/hello", "--listen", "127.0.0.1:0", "--set",
      "user=nobody-of-that-name" }, { env = { XDG_RUNTIME_DIR = process.folder() } })
    assert.equal(78, r.code)
    assert.matches("there is no user nobody%-of%-that%-name", r.err)
  end)
end)

describe("systemd", function()
  after_each(process.cleanup)

  it("is told when the server is ready, reloads and stops, and that it lives", function()
    local folder = process.folder()
    local path = folder .. "/notify"
    local inbox = wire.inbox(path)
    local s = start({ env = { NOTIFY_SOCKET = path, WATCHDOG_USEC = "400000" } })
    assert.matches("^READY=1\nSTATUS=ops: generation 1, 2 workers$", inbox:take("READY"))
    assert.equal("WATCHDOG=1", inbox:take("WATCHDOG"))
    s.process:kill("HUP")
    assert.matches("^RELOADING=1\nMONOTONIC_USEC=%d+\nSTATUS=reloading$", inbox:take("RELOADING"))
    assert.matches("^READY=1\nSTATUS=ops: generation 2", inbox:take("READY"))
    process.signal(workers(s)[1], "STOP")
    assert.is_truthy(s:wait_log("a worker does not answer"))
    while inbox:take("WATCHDOG", 0) do end -- what came before that
    assert.is_nil(inbox:take("WATCHDOG", 0.6)) -- while one stands still
    process.signal(workers(s)[1], "CONT")
    assert.equal("WATCHDOG=1", inbox:take("WATCHDOG"))
    s.process:kill("TERM")
    assert.matches("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d+", inbox:take("STOPPING"))
    assert.equal(0, s.process:wait())
    inbox:close()
  end)

  it("hands sockets over, which stand in the place of listen", function()
    local socket, port = wire.listener()
    local folder = process.folder({ ["app.lua"] = APP })
    local p = process.start_activated(socket, { "run", folder, "--workers", "2", "--listen",
      "127.0.0.1:1" }, { env = { XDG_RUNTIME_DIR = process.folder() } })
    assert.is_truthy(p:wait_for("err", "serving [^\n]*:" .. port))
    for _ = 1, 10 do
      assert.equal("one", wire.ask(port, "GET", "/").body)
    end
    require("ffi").C.close(socket)
  end)
end)

describe("process 1 of a container", function()
  after_each(process.cleanup)

  local title = "serves, reloads, reaps what is left to it, refuses USR2, and ends on TERM"
  if os.execute("unshare -p -f --mount-proc --kill-child true 2>/dev/null") ~= 0 then
    pending(title .. " (unshare is not allowed to make a process namespace here)")
  else
    it(title, function()
      local folder, runtime = process.folder({ ["app.lua"] = [[
local P = require "perilune"
local app = P.app {}
app:get("/pid", function()
  return io.open("/proc/self/stat"):read("*a"):match("^%d+ %b() %a (%d+)")
end)
app:get("/orphan", function() os.execute("(sleep 0.2 & sleep 0) &") return "left" end)
return app
]] }), process.folder()
      local p = process.spawn({ "unshare", "-p", "-f", "--mount-proc", "--kill-child",
        process.launcher(), "run", folder, "--listen", "127.0.0.1:0", "--workers", "1",
        "--name", "one" }, { env = { XDG_RUNTIME_DIR = runtime } })
      local port = tonumber(p:wait_for("err", "serving [^\n]*:(%d+) %("))
      assert.equal("1", wire.ask(port, "GET", "/pid").body)
      local master = process.children(p.pid)[1]
      local _, before = process.family(master)
      assert.equal("left", wire.ask(port, "GET", "/orphan").body)
      assert(process.eventually(function()
        for _, pid in ipairs(process.children(master)) do
          if (process.slurp("/proc/" .. pid .. "/comm") or ""):find("^sleep") then
            return true
          end
        end
      end))
      assert(process.eventually(function()
        local _, now = process.family(master)
        return #now == #before
      end))
      process.signal(master, "USR2")
      assert.is_truthy(p:wait_for("err", "the first process of a container cannot be replaced"))
      local r = process.run({ "reload", "--name", "one" }, { env = { XDG_RUNTIME_DIR = runtime } })
      assert.equal(0, r.code, r.err)
      local status = json.decode(wire.ask(runtime .. "/perilune/one.sock", "GET", "/status").body)
      assert.equal(2, status.generation)
      assert.equal(1, status.pid)
      process.signal(master, "TERM")
      assert.equal(0, p:wait())
    end)
  end
end)
