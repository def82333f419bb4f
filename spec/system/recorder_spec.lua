-- The flight recorder of real servers: what it has when a worker is killed, when it
-- hangs, when deadlines are missed, and when somebody asks. Traces are read by
-- python3 (spec/support/trace.py), which also looks whether each beginning has its end.

local crashing = require("spec.support.crashing")
local disk = require("spec.support.disk")
local json = require("perilune").json
local process = require("spec.support.process")
local trace = require("spec.support.trace")
local wire = require("spec.support.wire")

local TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
local PARENT = "traceparent: 00-" .. TRACE_ID .. "-00f067aa0ba902b7-01\r\n"

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return "hi" end)
app:get("/nap", function() P.sleep(0.02) return "slept" end)
app:get("/hold/:ms<int>", function(_, ms) P.sleep(ms / 1000) return "held" end)
app:get("/late", { timeout = 0.02 }, function() P.sleep(5) end)
app:get("/spin", function()
  local x = 0
  for i = 1, 3e7 do x = x + i % 7 end
  return tostring(x)
end)
app:get("/mark", function() P.mark("half way: \"quoted\"") return "marked" end)
app:get("/task", function()
  local t = P.spawn(function() P.sleep(0.01) return 1 end)
  t:wait()
  return "done"
end)
return app
]]

local server, folder

local function serve(opts)
  opts = opts or {}
  folder = process.folder()
  local args = { "--set", "recorder.folder=" .. (opts.folder or folder),
    "--set", "log.format=json" }
  for _, pair in ipairs(opts) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = { ["app.lua"] = opts.app or APP }, workers = opts.workers,
    args = args, env = opts.env })
  server.admin = tonumber(server.ready:match("admin plane on http://127%.0%.0%.1:(%d+)"))
  return server
end

local function control_of(s)
  for _, pid in ipairs(process.children(s.process.pid)) do
    local file = io.open("/proc/" .. pid .. "/comm")
    if file and file:read("*l") == "perilune-ctl" then
      return pid
    end
  end
end

local function ask(target, headers)
  return wire.ask(server.port, "GET", target, headers)
end

local function written()
  return crashing.wait_record(server, "the flight recorder was written").file
end

--- Reads what the admin plane sends.
local function fetch(target)
  local response = wire.ask(server.admin, "GET", target)
  assert.equal(200, response.status, response.body)
  assert.equal("application/json", response.headers["content-type"])
  local path = process.folder() .. "/trace.json"
  local file = assert(io.open(path, "wb"))
  file:write(response.body)
  file:close()
  return trace.read(path)
end

describe("the flight recorder", function()
  after_each(process.cleanup)

  it("shows the last request of a worker that was killed with -9", function()
    serve()
    assert.equal(200, ask("/nap").status)
    local held = assert(wire.connect(server.port))
    held:request("GET", "/hold/60000", PARENT)
    local _, workers = process.family(server.process.pid)
    process.sleep(0.3)
    process.signal(workers[1], "KILL")
    local path = written()
    assert.equal(trace.wait(folder, "crash-0"), path)
    local t = trace.read(path)
    assert.same({ "worker 0", "worker 1", "master" }, { t.threads[1], t.threads[2],
      t.threads[#t.threads] })
    local begun = trace.find(t, { ph = "b", name = "GET /hold/:ms<int>" })
    assert.equal(1, #begun)
    assert.equal(TRACE_ID, begun[1].args.trace)
    local ends = trace.find(t, { ph = "e", id = begun[1].id })
    assert.is_truthy(ends[1].args["end"])
    assert.is_nil(ends[1].args.status)
    assert.equal(1, #trace.find(t, { name = "a worker was ended by a signal",
      args = { signal = 9, pid = workers[1] } }))
    local record = crashing.wait_record(server, "a worker was killed")
    assert.equal(begun[1].args.request, record.req_id or begun[1].args.request)
  end)

  it("still shows it once another worker has taken the place", function()
    serve({ "admin.listen=127.0.0.1:0" })
    local held = assert(wire.connect(server.port))
    held:request("GET", "/hold/60000", PARENT)
    process.sleep(0.3)
    local _, workers = process.family(server.process.pid)
    process.signal(workers[1], "KILL")
    assert.is_truthy(process.eventually(function()
      local _, now = process.family(server.process.pid)
      return now[1] and now[1] ~= workers[1] and wire.connect(server.port)
    end, 10))
    assert.equal(200, ask("/nap").status)
    local t = fetch("/debug/trace?ago=1h")
    local gone = trace.find(t, { ph = "e", name = "GET /hold/:ms<int>" })
    assert.equal("the worker is gone", gone[1].args["end"])
    assert.equal(2, #trace.find(t, { name = "a process begins", tid = 0 }))
    assert.equal(1, #trace.find(t, { ph = "e", name = "GET /nap", args = { status = 200 } }))
  end)

  it("names traces that somebody else can look up: of callers, and kept ones", function()
    serve({ "admin.listen=127.0.0.1:0", "trace.sample=0" })
    assert.equal(200, ask("/nap").status)
    assert.equal(503, ask("/late").status)
    local t = fetch("/debug/trace")
    local function traces(name)
      local n = 0
      for _, phase in ipairs({ "b", "e" }) do
        for _, event in ipairs(trace.find(t, { ph = phase, name = name })) do
          n = n + (event.args.trace and 1 or 0)
        end
      end
      return n
    end
    assert.equal(1, #trace.find(t, { ph = "e", name = "GET /nap", args = { status = 200 } }))
    assert.equal(0, traces("GET /nap"))
    assert.equal(1, traces("GET /late"))
  end)

  it("tells why a handler waits, that it was preempted, and what it says itself", function()
    serve({ "admin.listen=127.0.0.1:0", "vm.slice=5ms" })
    for _, target in ipairs({ "/nap", "/spin", "/mark", "/task" }) do
      assert.equal(200, ask(target).status)
    end
    local t = fetch("/debug/trace")
    assert.is_true(#trace.find(t, { ph = "E", args = { ["end"] = "sleeps" } }) >= 2)
    assert.is_true(#trace.find(t, { ph = "E", args = { ["end"] = "preempted" } }) >= 1)
    assert.is_true(#trace.find(t, { ph = "i", name = "preempted",
      args = { route = "GET /spin" } }) >= 1)
    assert.equal(1, #trace.find(t, { ph = "i", name = "half way: \"quoted\"" }))
    assert.is_true(#trace.find(t, { ph = "B", name = "task", args = { why = "begun" } }) >= 1)
    local naps = trace.find(t, { ph = "b", name = "GET /nap" })
    local runs = trace.find(t, { ph = "B", name = "GET /nap",
      args = { request = naps[1].args.request } })
    assert.equal(2, #runs)
    assert.is_true(runs[2].ts - runs[1].ts >= 20000, "it slept for 20 ms")
  end)

  it("is written on SIGQUIT", function()
    serve()
    ask("/nap")
    server.process:kill("QUIT")
    local path = written()
    assert.matches("@signal%-%d+T%d+%.%d+Z%.json$", path)
    assert.equal(1, #trace.find(trace.read(path), { ph = "b", name = "GET /nap" }))
    assert.equal(200, ask("/").status)
  end)

  it("is written for a worker that is stuck, before that is ended", function()
    serve({ "vm.stuck_timeout=11s", app = crashing.APP }) -- a record goes back for 10
    local wires = assert(wire.connect(server.port))
    wires:request("GET", "/hang/60")
    local path = trace.wait(folder, "stuck-0")
    local t = trace.read(path)
    local runs = trace.find(t, { ph = "B", name = "GET /hang/:s<int>" })
    assert.equal(1, #runs)
    assert.equal(1, #trace.find(t, { name = "a worker is stuck" }))
    crashing.wait_record(server, "a worker stood still and was killed")
    assert.equal(0, #trace.files(folder, "crash"))
  end)

  it("is written when many requests miss their deadlines, and once only", function()
    serve({ "recorder.storm=5" })
    process.sleep(1.5)
    for _ = 1, 12 do
      assert.equal(503, ask("/late").status)
    end
    local t = trace.read(trace.wait(folder, "deadlines"))
    assert.is_true(#trace.find(t, { name = "deadline", args = { route = "GET /late" } }) >= 5)
    for _ = 1, 12 do
      ask("/late")
    end
    process.sleep(2.5)
    assert.equal(1, #trace.files(folder, "deadlines"))
  end)

  it("streams what comes, for as long as it is asked to", function()
    serve({ "admin.listen=127.0.0.1:0" })
    ask("/hold/1")
    local reader = assert(wire.connect(server.admin))
    reader:request("GET", "/debug/trace?seconds=1")
    process.sleep(0.3)
    ask("/nap")
    local response = assert(reader:response({ seconds = 15 }))
    local path = process.folder() .. "/trace.json"
    local file = assert(io.open(path, "wb"))
    file:write(response.body)
    file:close()
    local t = trace.read(path)
    assert.equal(1, #trace.find(t, { ph = "e", name = "GET /nap", args = { status = 200 } }))
    assert.equal(0, #trace.find(t, { ph = "e", name = "GET /hold/:ms<int>" }))
    assert.equal(400, wire.ask(server.admin, "GET", "/debug/trace?seconds=x").status)
  end)

  it("is brought by perilune trace", function()
    serve()
    ask("/nap")
    local env = { XDG_RUNTIME_DIR = server.folder }
    local name = server.app:match("[^/]+$")
    local path = process.folder() .. "/mine.json"
    local r = process.run({ "trace", "--name", name, "--output", path }, { env = env })
    assert.equal(0, r.code, r.err)
    assert.equal("", r.out)
    assert.equal(1, #trace.find(trace.read(path), { ph = "b", name = "GET /nap" }))
    assert.same({}, trace.files(folder))
    r = process.run({ "trace", "--name", name }, { env = env })
    assert.equal(trace.files(folder)[1] .. "\n", r.out)
    r = process.run({ "trace", "--name", name, "--seconds", "1", "-o", "-" }, { env = env })
    assert.is_truthy(json.decode(r.out))
    r = process.run({ "trace", "--name", "nobody" }, { env = env })
    assert.equal(3, r.code)
    r = process.run({ "trace", "--seconds", "0" }, { env = env })
    assert.equal(2, r.code)
  end)

  it("is not waited for once the process that writes it has been killed", function()
    serve()
    local env = { XDG_RUNTIME_DIR = server.folder }
    local reader = assert(wire.connect(server.folder .. "/perilune/"
      .. server.app:match("[^/]+$") .. ".sock"))
    reader:request("POST", "/record?seconds=60")
    assert(process.eventually(function()
      return io.popen("ls " .. folder):read("*a"):find("%.part\n")
    end, 15))
    process.signal(control_of(server), "KILL")
    local response = assert(reader:response({ seconds = 15 }))
    assert.equal(500, response.status)
    assert.matches("has ended", response.body)
    assert.is_truthy(process.eventually(function()
      return process.run({ "trace", "--name", server.app:match("[^/]+$") }, { env = env }).code == 0
    end, 15))
  end)

  it("keeps the newest files only", function()
    serve({ "recorder.keep=2" })
    local env = { XDG_RUNTIME_DIR = server.folder }
    local last
    local name = server.app:match("[^/]+$")
    local left = ("%s/perilune-%s@crash-0-20260101T000000.000Z.json.part"):format(folder, name)
    assert(io.open(left, "w")):close()
    os.execute("touch -d '1 hour ago' " .. left)
    for _ = 1, 4 do
      local r = process.run({ "trace", "--name", name }, { env = env })
      last = r.out:gsub("\n", "")
      process.sleep(0.02)
    end
    local files = trace.files(folder)
    assert.equal(2, #files)
    assert.equal(last, files[2])
    assert.is_nil(io.open(left)) -- of one that was killed while it wrote
  end)

  it("says so when there is no folder to write to, and serves on", function()
    serve({ folder = "/proc/no/such/folder" })
    server.process:kill("QUIT")
    local record = crashing.wait_record(server, "the flight recorder was not written")
    assert.equal("warn", record.level)
    assert.matches("/proc/no/such/folder", record.reason, 1, true)
    assert.equal(200, ask("/").status)
  end)

  local can_mount = process.spawn({ "unshare", "-m", "true" }):wait() == 0
  process.cleanup()
  local it_or_not = can_mount and it or pending

  it_or_not("takes a full disk for an ordinary event, and leaves nothing half written", function()
    local full = process.folder()
    local app, runtime = process.folder({ ["app.lua"] = APP }), process.folder()
    local script = ([[
      mount -t tmpfs -o size=16k none %s && dd if=/dev/zero of=%s/filler bs=4k 2>/dev/null
      exec %s run %s --listen 127.0.0.1:0 --workers 1 --set recorder.folder=%s \
        --set log.format=json]])
      :format(full, full, process.launcher(), app, full)
    local p = process.spawn({ "unshare", "-m", "sh", "-c", script },
      { env = { XDG_RUNTIME_DIR = runtime } })
    server = { port = tonumber(p:wait_for("err", "http://127%.0%.0%.1:(%d+)")) }
    assert.is_truthy(server.port, p:err())
    p:kill("QUIT")
    local line = p:wait_for("out", '([^\n]*the flight recorder was not written[^\n]*)\n', 10)
    assert.matches("no space left on device", assert(line, p:out()), 1, true)
    p:kill("QUIT")
    process.sleep(1)
    assert.equal(1, select(2, p:out():gsub("the flight recorder was not written", "")))
    assert.equal(200, ask("/").status)
    local seen = ("/proc/%d/root%s"):format(p.pid, full)
    for name in require("lfs").dir(seen) do
      assert.is_true(name == "." or name == ".." or name == "filler", name)
    end
  end)

  it_or_not = disk.can_hang() and it or pending

  local function result(name)
    local text = wire.ask(server.admin, "GET", "/metrics").body
    return tonumber(text:match('perilune_records_total{result="' .. name .. '"} (%d+)'))
  end

  it_or_not("holds up neither log nor admin plane while its disk hangs, and comes in the end",
    function()
    serve({ "admin.listen=127.0.0.1:0", "recorder.keep=100", "recorder.storm=0" })
    local hanging = disk.hang(folder)
    for _ = 1, 9 do -- one is written, eight wait
      server.process:kill("QUIT")
      process.sleep(0.2)
    end
    assert.equal("marked", ask("/mark").body)
    assert.is_truthy(server:wait_log('"target":"/mark"', 20), server:log())
    assert.equal(0, result("dropped"))
    server.process:kill("QUIT")
    local record = crashing.wait_record(server, "the flight recorder was not written")
    assert.equal("signal: too many records are waiting to be written", record.reason)
    assert.equal(1, result("dropped"))
    assert.equal(0, result("written"))
    assert.is_truthy(server:wait_log("recorder.folder has not answered for 10 s", 30))
    assert.same({}, trace.files(folder))
    assert.is_nil(server:log():find("the flight recorder was written", 1, true))
    hanging:kill("KILL")
    assert.is_truthy(process.eventually(function()
      return result("written") == 9
    end, 20))
    local files = trace.files(folder, "signal")
    assert.equal(9, #files)
    assert.equal(1, #trace.find(trace.read(files[9]), { ph = "i", name = "half way: \"quoted\"" }))
    assert.equal(0, result("failed"))
  end)

  it_or_not("does not keep the server from ending while its disk hangs", function()
    serve()
    local hanging = disk.hang(folder)
    server.process:kill("QUIT")
    process.sleep(0.5)
    server.process:kill("TERM")
    assert.equal(0, server.process:wait(20))
    assert.same({}, trace.files(folder))
    hanging:kill("KILL")
  end)

  it("is complete when the server ends while it follows what comes", function()
    serve()
    local env = { XDG_RUNTIME_DIR = server.folder }
    local name = server.app:match("[^/]+$")
    process.spawn({ process.launcher(), "trace", "--name", name, "--seconds", "200" },
      { env = env })
    process.sleep(1)
    ask("/nap")
    process.sleep(0.5)
    server.process:kill("TERM")
    assert.equal(0, server.process:wait(20))
    local t = trace.read(trace.wait(folder, "asked"))
    assert.equal(1, #trace.find(t, { ph = "b", name = "GET /nap" }))
  end)

  it("is off when it is told to", function()
    serve({ "recorder.on=false", "admin.listen=127.0.0.1:0" })
    ask("/nap")
    assert.equal(404, wire.ask(server.admin, "GET", "/debug/trace").status)
    local r = process.run({ "trace", "--name", server.app:match("[^/]+$") },
      { env = { XDG_RUNTIME_DIR = server.folder } })
    assert.equal(1, r.code)
    assert.matches("recorder.on is false", r.err, 1, true)
    server.process:kill("QUIT")
    process.sleep(0.3)
    assert.equal(200, ask("/").status)
  end)
end)
