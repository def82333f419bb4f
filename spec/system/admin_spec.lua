--- The admin plane: health, probes, status, its token and its sockets.

local json = require("perilune.json")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local HEAD = 'local P = require "perilune"\nlocal app = P.app {}\n'
  .. 'app:get("/", function() return "hi" end)\n'
  .. 'app:get("/loop", function() P.atomic(function() while true do end end) end)\n'

local function start(text, opts)
  opts = opts or {}
  local folder = process.folder({ ["app.lua"] = HEAD .. (text or "") .. "return app\n" })
  local args = { opts.command or "run", folder, "--listen", "127.0.0.1:0", "--workers", "2",
    "--set", "admin.listen=" .. (opts.admin or "127.0.0.1:0") }
  for _, more in ipairs(opts.args or {}) do
    args[#args + 1] = more
  end
  local env = { XDG_RUNTIME_DIR = process.folder(), PERILUNE_ADMIN_TOKEN = opts.token }
  local p = process.start(args, { env = env })
  if opts.fails then
    return p
  end
  local line = p:wait_for("err", "serving ([^\n]*admin plane on [^\n]+)\n")
  assert.is_truthy(line, p:err())
  local port, admin = line:match("http://127%.0%.0%.1:(%d+).*admin plane on (.+)$")
  return { process = p, port = tonumber(port), app = folder, place = admin,
    admin = tonumber(admin:match(":(%d+)$")) }
end

local function get(s, target, headers)
  return wire.ask(s.admin, "GET", target, headers)
end

local function check(s, name)
  for _, one in ipairs(assert(json.decode(get(s, "/healthz?verbose").body)).checks) do
    if one.name == name then
      return one
    end
  end
end

local function becomes(s, name, state)
  return process.eventually(function()
    local one = check(s, name)
    return one and one.state == state and one
  end, 10)
end

local function stop(s)
  s.process:kill("TERM")
  return s.process:wait(20)
end

local function control_of(s)
  for _, pid in ipairs(process.children(s.process.pid)) do
    local file = io.open("/proc/" .. pid .. "/comm")
    if file and file:read("*l") == "perilune-ctl" then
      return pid
    end
  end
end

--- Waits until everything critical has been looked at once.
local function ready(s)
  assert(process.eventually(function()
    return get(s, "/readyz").status == 200
  end, 10))
  return s
end

describe("the admin plane", function()
  after_each(process.cleanup)

  it("answers probes, and says what there is", function()
    local s = ready(start())
    for _, path in ipairs({ "/livez", "/readyz", "/startupz" }) do
      local r = get(s, path)
      assert.equal(200, r.status)
      assert.equal("ok\n", r.body)
      assert.equal("no-store", r.headers["cache-control"])
    end
    assert(becomes(s, "workers", "healthy"))
    assert.equal("healthy\n", get(s, "/healthz").body)
    assert.matches("/readyz", get(s, "/").body)
    assert.equal(404, get(s, "/nothing").status)
    local status = assert(json.decode(get(s, "/status").body))
    assert.equal("serving", status.state)
    assert.equal(2, #status.workers)
    assert.equal(s.place, status.admin)
    local text = get(s, "/status?format=text").body
    assert.is_truthy(text:find("admin plane  " .. s.place, 1, true), text)
    assert.equal(404, wire.ask(s.port, "GET", "/livez").status) -- never on the public port
  end)

  it("is not there unless it is asked for", function()
    local folder = process.folder({ ["app.lua"] = HEAD .. "return app\n" })
    local p = process.start({ "run", folder, "--listen", "127.0.0.1:0" },
      { env = { XDG_RUNTIME_DIR = process.folder() } })
    local line = assert(p:wait_for("err", "(serving [^\n]*)"))
    assert.is_nil(line:find("admin", 1, true))
  end)

  it("runs the app's checks, with their times and thresholds", function()
    local flag = process.folder() .. "/bad"
    local text = [[
      app:health("db", { every = "50ms", timeout = "100ms", critical = true,
        failure_threshold = 3, success_threshold = 2 }, function()
        local file = io.open(%q)
        if file then file:close() return nil, "the database is away" end
        return true
      end)
      app:health("slow", { every = "1s", timeout = "50ms" }, function() P.sleep(60) end)
      app:health("spins", { every = "1s", timeout = "50ms" }, function() while true do end end)
      app:health("blocks", { every = "1s", timeout = "50ms" }, function()
        os.execute("sleep 0.1") return true
      end)
      app:health("raises", function() error("no luck") end)
      app:health("so-so", { every = "1s" }, function() return "degraded", "half of it" end)
      app:health("bytes", { every = "1s" }, function() return nil, "\255 is no text" end)
      app:health("long", { every = "1s" }, function() return nil, ("x\195\164"):rep(500) end)
    ]]
    local s = start(text:format(flag))
    assert(becomes(s, "db", "healthy"))
    assert.matches("longer than 0.05s", assert(becomes(s, "slow", "unhealthy")).reason)
    assert.matches("longer than 0.05s", assert(becomes(s, "spins", "unhealthy")).reason)
    assert.matches("longer than 0.05s", assert(becomes(s, "blocks", "unhealthy")).reason)
    assert.matches("app.lua:%d+: no luck", assert(becomes(s, "raises", "unhealthy")).reason)
    assert.equal("half of it", assert(becomes(s, "so-so", "degraded")).reason)
    assert.equal("? is no text", assert(becomes(s, "bytes", "unhealthy")).reason)
    assert.matches("^xä.*x%.%.%.$", assert(becomes(s, "long", "unhealthy")).reason)
    assert.equal("degraded\n", get(s, "/healthz").body)
    assert.equal(200, get(s, "/readyz").status)
    local file = assert(io.open(flag, "w"))
    file:close()
    local bad = assert(becomes(s, "db", "unhealthy"))
    assert.equal("the database is away", bad.reason)
    assert.is_true(bad.failures >= 3)
    assert.equal(503, get(s, "/readyz").status)
    assert.equal(503, get(s, "/healthz").status)
    assert.equal(200, get(s, "/livez").status)
    assert(os.remove(flag))
    assert(becomes(s, "db", "healthy"))
    assert.equal(200, get(s, "/readyz").status)
    assert.equal(0, stop(s))
    assert.matches("health: db is unhealthy", s.process:out())
    assert.matches("health: db is healthy", s.process:out())
  end)

  it("changes a state only by runs in a row that agree", function()
    local s = start([[
      local runs = { well = 0, ill = 0, mends = 0 }
      local function run_of(name)
        runs[name] = runs[name] + 1
        return runs[name]
      end
      app:health("well", { every = "20ms" }, function()
        return run_of("well") % 2 == 1 or "degraded", "now and then"
      end)
      app:health("ill", { every = "20ms", success_threshold = 2 }, function()
        return run_of("ill") % 2 == 0 or "degraded", "now and then"
      end)
      app:health("mends", { every = "20ms", success_threshold = 3 }, function()
        return run_of("mends") > 3 or "degraded", "at first"
      end)
    ]])
    assert(process.eventually(function()
      local ill, well = check(s, "ill"), check(s, "well")
      return ill and well and math.min(ill.runs, well.runs) > 20
    end, 10))
    assert(becomes(s, "mends", "healthy"))
    assert.equal(0, stop(s))
    local log = s.process:out()
    assert.is_nil(log:find("health: well is", 1, true))
    assert.matches("health: ill is degraded", log)
    assert.is_nil(log:find("health: ill is healthy", 1, true))
    assert.matches("health: mends is degraded.*health: mends is healthy", log)
  end)

  it("answers while every worker hangs, and says so", function()
    local s = start(nil, { args = { "--set", "vm.stuck_timeout=60s" } })
    local clients = {}
    for i = 1, 8 do -- both workers get some
      clients[i] = wire.connect(s.port)
      clients[i]:request("GET", "/loop")
    end
    local bad = assert(becomes(s, "workers", "unhealthy"))
    assert.matches("is silent", bad.reason)
    assert.equal(503, get(s, "/readyz").status)
    assert.equal(200, get(s, "/livez").status)
    for _, worker in ipairs(json.decode(get(s, "/status").body).workers) do
      assert.equal("silent", worker.state)
    end
    s.process:kill("INT")
    s.process:kill("INT")
    s.process:wait(10)
  end)

  it("follows reloads: checks of the new generation, states of the old one", function()
    local s = start('app:health("a", { every = "1h" }, function() return nil, "as ever" end)\n')
    local first = assert(becomes(s, "a", "unhealthy"))
    local file = assert(io.open(s.app .. "/app.lua", "w"))
    file:write(HEAD .. 'app:health("a", { every = "1h" }, function() return nil, "as ever" end)\n'
      .. 'app:health("b", function() end)\nreturn app\n')
    file:close()
    s.process:kill("HUP")
    assert(becomes(s, "b", "healthy"))
    local again = check(s, "a")
    assert.equal(first.since, again.since)
    assert.is_true(again.runs >= first.runs)
  end)

  it("serves on, without its checks, when the app does not load here", function()
    local s = start([[
      if require("perilune.core").report("watching") then error("not here") end
      app:health("a", function() end)
    ]])
    assert(process.eventually(function()
      local report = json.decode(get(s, "/healthz?verbose").body)
      return report.not_watched and report.not_watched:find("not here", 1, true)
    end, 10))
    assert.is_nil(check(s, "a"))
    assert.equal(200, get(s, "/livez").status)
    assert.equal(200, wire.ask(s.port, "GET", "/").status)
    assert.equal(0, stop(s))
    assert.matches("the app's health checks and rules are not run", s.process:out())
  end)

  it("leaves control's signals alone: USR1 does not end it, and TERM only in its time", function()
    local s = start('app:health("a", function() end)\n')
    assert(becomes(s, "a", "healthy"))
    local control = control_of(s)
    for _ = 1, 5 do -- the plane's thread sleeps in its poll, mostly
      s.process:kill("USR1")
      posix.sleep(0.05)
    end
    assert.equal(200, get(s, "/livez").status)
    assert.equal(control, control_of(s))
    process.signal(control, "TERM")
    assert(process.eventually(function()
      return control_of(s) ~= control
    end, 10))
    assert.equal(0, stop(s))
    assert.matches("control %d ended with code 0", s.process:out())
  end)

  it("gives up the checks that crash it again and again, and serves on", function()
    local s = start([[
      app:health("a", { every = "20ms" }, function() require("ffi").cast("int *", 8)[0] = 1 end)
    ]])
    assert(process.eventually(function()
      local ok, r = pcall(get, s, "/healthz?verbose")
      local report = ok and r and json.decode(r.body)
      local reason = report and report.not_watched
      return reason and reason:find("has crashed 3 times", 1, true)
    end, 20))
    assert.equal(200, get(s, "/livez").status)
    assert.equal(200, wire.ask(s.port, "GET", "/").status)
  end)

  it("answers probes beside clients that are slow to ask", function()
    local s = ready(start())
    local slow = {}
    for i = 1, 300 do
      slow[i] = wire.connect(s.admin)
      slow[i]:send("GET / HTTP/1.1\r\nHost: x\r\n")
    end
    assert(process.eventually(function()
      local r = get(s, "/livez")
      return r and r.status == 200
    end, 10))
    assert.equal(300, #slow)
  end)

  it("answers probes beside clients that say nothing, or nothing more", function()
    local s = ready(start())
    local silent = {}
    for i = 1, 600 do
      silent[i] = wire.connect(s.admin)
      if i % 2 == 0 then
        silent[i]:request("GET", "/livez")
      end
    end
    assert(process.eventually(function()
      local r = get(s, "/livez")
      return r and r.status == 200
    end, 20)) -- they may be silent for a minute
    assert.equal(600, #silent)
  end)

  it("answers probes beside clients that owe a body, or do not read what they asked for", function()
    local s = ready(start())
    local head = "POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    local asks = {
      head .. "Content-Length: 10\r\n\r\n",
      head .. "Transfer-Encoding: chunked\r\n\r\n",
      ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):rep(60),
    }
    for _, text in ipairs(asks) do
      local owing = {}
      for i = 1, 300 do
        owing[i] = wire.connect(s.admin, { receive_bytes = 4096 })
        owing[i]:send(text)
      end
      assert(process.eventually(function()
        local ok, r = pcall(get, s, "/livez")
        return ok and r and r.status == 200
      end, 20)) -- timeouts.body and timeouts.write would let them be for half a minute
      for _, one in ipairs(owing) do
        one:close()
      end
    end
  end)

  it("comes back when control is killed", function()
    local s = start('app:health("a", function() end)\n')
    assert(becomes(s, "a", "healthy"))
    process.signal(control_of(s), "KILL")
    assert(process.eventually(function()
      local ok, r = pcall(get, s, "/livez")
      return ok and r and r.status == 200
    end, 10))
    assert(becomes(s, "a", "healthy"))
  end)

  it("has metrics in two formats, and trends in the status", function()
    local s = ready(start())
    for _ = 1, 20 do
      wire.ask(s.port, "GET", "/")
    end
    wire.ask(s.port, "GET", "/fails")
    assert(process.eventually(function()
      local text = get(s, "/metrics").body
      local sent = '\nperilune_http_requests_total{route="/",method="GET",status="2xx"} 20\n'
      return text:find(sent, 1, true)
        and text:find('\nperilune_health{check="workers"} 1\n', 1, true)
    end, 10))
    local r = get(s, "/metrics")
    assert.equal("text/plain; version=0.0.4; charset=utf-8", r.headers["content-type"])
    r = get(s, "/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n")
    assert.equal("application/openmetrics-text; version=1.0.0; charset=utf-8",
      r.headers["content-type"])
    assert.equal("# EOF\n", r.body:sub(-6))
    assert.equal(r.headers["content-type"],
      get(s, "/metrics?format=openmetrics").headers["content-type"])
    local status = assert(json.decode(get(s, "/status").body))
    assert.equal("/", status.routes[1].route)
    assert.equal("GET", status.routes[1].method)
    assert.equal(20, status.routes[1].requests)
    assert.is_true(status.p99_ms >= status.p50_ms and status.p50_ms > 0)
    assert.is_true(status.window_s > 0)
    assert.same({ debug = 0, info = 0, warn = 0, error = 0 }, status.log.dropped)
    assert.is_true(status.workers[1].memory_bytes > 100000)
    assert.is_true(status.workers[1].lag_ms < 10000)
  end)

  it("says that many requests fail", function()
    local s = ready(start('app:get("/fails", function() return "no", 500 end)\n'))
    local due = process.now() + 20
    local state
    repeat
      for _ = 1, 10 do
        wire.ask(s.port, "GET", "/fails")
      end
      state = check(s, "errors")
    until state.state == "degraded" or process.now() > due
    assert.matches("%% of %d+ requests a second fail", state.reason)
    assert.equal(200, get(s, "/readyz").status)
  end)

  it("takes a token, which probes do not need", function()
    local s = start(nil, { token = "a-secret-of-16-and-more" })
    assert.equal(200, get(s, "/livez").status)
    for _, path in ipairs({ "/", "/healthz", "/healthz?verbose", "/status" }) do
      local r = get(s, path)
      assert.equal(401, r.status)
      assert.matches("^Bearer", r.headers["www-authenticate"])
      for _, wrong in ipairs({ "Bearer", "Bearer x", "Bearer a-secret-of-16-and-morf",
        "Basic a-secret-of-16-and-more", "Bearer a-secret-of-16-and-more-" }) do
        assert.equal(401, get(s, path, "Authorization: " .. wrong .. "\r\n").status)
      end
      r = get(s, path, "Authorization: Bearer a-secret-of-16-and-more\r\n")
      assert.equal(200, r.status)
    end
  end)

  it("answers without a token to loopback names alone, whoever they lead here", function()
    local s = ready(start())
    local function status(host, fields, method)
      local w = wire.connect(s.admin)
      w:send(("%s /status HTTP/1.1\r\n%s%s\r\n"):format(method or "GET",
        host and "Host: " .. host .. "\r\n" or "", fields or ""))
      local r = w:response({ method = method or "GET" })
      w:close()
      return r.status, r
    end
    for _, host in ipairs({ "127.0.0.1", "127.0.0.1:1", "127.9.8.7", "localhost", "LocalHost:80",
      "[::1]", "[::1]:9000" }) do
      assert.equal(200, status(host), host)
    end
    for _, host in ipairs({ "evil.example", "evil.example:" .. s.admin, "localhost.evil.example",
      "127.0.0.1.nip.io", "127.0.0.256", "0.0.0.0", "192.168.1.1", "[::2]" }) do
      local code, r = status(host)
      assert.equal(421, code, host)
      assert.matches("answers to loopback addresses and localhost", r.body)
      assert.is_nil(r.body:find("generation", 1, true))
    end
    for _, path in ipairs({ "/", "/livez", "/metrics", "/nothing" }) do
      local w = wire.connect(s.admin)
      w:send("GET " .. path .. " HTTP/1.1\r\nHost: evil.example\r\n\r\n")
      assert.equal(421, w:response({ method = "GET" }).status, path)
      w:close()
    end
    local w = wire.connect(s.admin) -- as load balancers ask
    w:send("GET /livez HTTP/1.0\r\n\r\n")
    assert.equal(200, w:response({ method = "GET" }).status)
    w:close()
    assert.equal(0, stop(s))
  end)

  it("does without a token nothing for pages of other sites", function()
    local s = ready(start())
    local own = "http://localhost"
    local function post(fields)
      return wire.ask(s.admin, "POST", "/debug/pprof/symbol", fields, "0x1").status
    end
    assert.equal(200, post())
    assert.equal(200, post("Origin: " .. own .. "\r\nSec-Fetch-Site: same-origin\r\n"))
    for _, fields in ipairs({ "Origin: http://evil.example\r\n", "Origin: null\r\n",
      "Origin: " .. own .. ":3000\r\n", "Sec-Fetch-Site: cross-site\r\n",
      "Sec-Fetch-Site: same-site\r\n",
      "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
    }) do
      assert.equal(403, post(fields), fields)
    end
    assert.equal(403, get(s, "/status", "Sec-Fetch-Site: cross-site\r\n").status)
    assert.equal(403, get(s, "/", "Sec-Fetch-Site: cross-site\r\n"
      .. "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n").status)
    assert.equal(200, get(s, "/", "Sec-Fetch-Site: cross-site\r\n"
      .. "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n").status)
    assert.equal(0, stop(s))
  end)

  it("lets browsers neither guess nor run what it answers", function()
    local s = ready(start())
    for path, policy in pairs({ ["/livez"] = "^default%-src 'none'; base%-uri",
      ["/"] = "^default%-src 'none'; base%-uri", ["/metrics"] = "^default%-src 'none'; base%-uri",
      ["/nothing"] = "^default%-src 'none'; base%-uri",
      ["/status"] = "^default%-src 'none'; base%-uri",
      ["/debug/spans"] = "^default%-src 'none'; base%-uri",
      ["/debug/trace"] = "^default%-src 'none'; base%-uri",
      ["/debug/pprof/heap"] = "^default%-src 'none'; base%-uri",
      ["/dashboard.js"] = "script%-src 'self'",
      ["/debug/pprof/profile?seconds=1&ago=0&format=svg"] =
        "^default%-src 'none'; style%-src 'unsafe%-inline'; base%-uri" }) do
      local r = get(s, path)
      assert.equal("nosniff", r.headers["x-content-type-options"], path)
      assert.matches(policy, r.headers["content-security-policy"], path)
    end
    assert.equal(0, stop(s))
  end)

  it("does not start where others can reach it without a token", function()
    local p = start(nil, { admin = "0.0.0.0:0", fails = true })
    assert.equal(78, p:wait(10))
    assert.matches("admin.listen is 0.0.0.0:0, which others can reach: set admin.token", p:err())
    p = start(nil, { token = "short", fails = true })
    assert.equal(78, p:wait(10))
    assert.matches("admin.token is shorter than 16", p:err())
    assert.is_nil(p:err():find("short\"", 1, true))
  end)

  it("says which address is taken", function()
    local s = start()
    local p = start(nil, { admin = "127.0.0.1:" .. s.admin, fails = true })
    assert.not_equal(0, p:wait(10))
    assert.matches("admin.listen: cannot listen on 127.0.0.1:%d+: the address is in use", p:err())
  end)

  it("does not start at an address that is the server's own", function()
    local port = wire.free_port()
    local p = start(nil, { admin = "127.0.0.1:" .. port, fails = true,
      args = { "--listen", "127.0.0.1:" .. port } })
    assert.equal(69, p:wait(10))
    assert.matches("admin.listen: 127.0.0.1:" .. port .. " is in listen, too", p:err(), 1, true)
  end)

  it("listens on a unix socket that is its own user's alone", function()
    local place = process.folder() .. "/admin.sock"
    local s = start(nil, { admin = "unix:" .. place })
    assert.equal("unix:" .. place, s.place)
    local mode = io.popen("stat -c %a " .. place):read("*l")
    assert.equal("600", mode)
    local body = io.popen("curl -s --unix-socket " .. place .. " http://admin/livez"):read("*a")
    assert.equal("ok\n", body)
    assert.equal(0, stop(s))
    assert.is_nil(io.open(place))
  end)

  it("goes over to the program that replaces this one", function()
    local s = ready(start())
    s.process:kill("USR2")
    local pid
    assert(process.eventually(function() -- no probe sees it
      local r, err = get(s, "/readyz")
      assert.equal(200, assert(r, err).status)
      pid = s.process:err():match("replaced by process (%d+)")
      return pid and not process.is_alive(s.process.pid)
    end, 20))
    local function who()
      local r, err = get(s, "/status")
      return assert(json.decode(assert(r, err).body)).pid
    end
    assert(process.eventually(function()
      return who() == tonumber(pid)
    end, 5))
    assert.equal(0, s.process:wait(20))
    assert.equal(tonumber(pid), who())
    ready(s)
    process.signal(tonumber(pid), "TERM")
    assert(process.eventually(function()
      return not process.is_alive(tonumber(pid))
    end, 10))
  end)

  it("tells probes that it is about to stop", function()
    local s = start(nil, { args = { "--set", "timeouts.pre_drain=2s" } })
    s.process:kill("TERM")
    assert(process.eventually(function()
      return get(s, "/readyz").status == 503
    end, 2))
    assert.equal(200, wire.ask(s.port, "GET", "/").status)
    assert.equal(200, get(s, "/livez").status)
    assert.equal(0, s.process:wait(10))
  end)

  it("refuses what is no health check", function()
    for text, message in pairs({
      ['app:health("a b", function() end)'] = "the name of a health check has up to 64",
      ['app:health("a")'] = "app:health takes a name, options and a function",
      ['app:health("a", {}, 1)'] = "a health check is a function, not a number",
      ['app:health("a", { evry = 1 }, print)'] = 'a health check has no option "evry"',
      ['app:health("a", { every = 0 }, print)'] = "every is a number of seconds",
      ['app:health("a", { critical = 1 }, print)'] = "critical is true or false",
      ['app:health("a", { failure_threshold = 0.5 }, print)'] = "failure_threshold is a whole",
      ['app:health("memory", print)'] = '"memory" is a health check of the server\'s own',
      ['app:health("live", print)'] = '"live" is a health check of the server\'s own',
      ['local b = P.app {} b:health("a", print) app:health("a", print) app:mount("/b", b)'] =
        'there is a health check "a" already',
      ['app:health("a", print) app:health("a", print)'] = 'there is a health check "a" already',
    }) do
      local p = start(text .. "\n", { fails = true })
      assert.equal(65, p:wait(10))
      assert.is_truthy(p:err():find("app.lua:5: " .. message, 1, true), p:err())
    end
  end)
end)
