--- Reloads by HUP: generations that are taken, and those that are rejected.

local process = require("spec.support.process")
local wire = require("spec.support.wire")

local HEAD = [[
local P = require "perilune"
local app = P.app {}
]]

local function app_text(version, more)
  return HEAD .. (more or "") .. ([[
app:get("/", function() return "version %s" end)
app:get("/slow", function() P.sleep(0.6) return "slow %s" end)
app:get("/loop", { timeout = "400ms" }, function() while true do end end)
app:get("/spin/:n<int>", function(_, n)
  local sum = 0
  for i = 1, n do sum = (sum * 31 + i) %% 1000003 end
  return "spun %s " .. sum
end)
return app
]]):format(version, version, version)
end

local function write(folder, name, text)
  local file = assert(io.open(folder .. "/" .. name .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(folder .. "/" .. name .. ".new", folder .. "/" .. name))
end

local function start(files, opts)
  opts = opts or {}
  if type(files) == "string" then
    files = { ["app.lua"] = files }
  end
  local folder = process.folder(files)
  local s = process.server({ app = folder, workers = opts.workers or 2, args = opts.args,
    env = opts.env })
  s.app = folder
  s.ends = 1 -- the first generation's
  return s
end

--- The records of ended reloads so far, as { served = boolean, line = string }.
local function ends(s)
  local list = {}
  for line in s:log():gmatch("[^\n]+") do
    if line:find('"msg":"a generation is served"', 1, true) then
      list[#list + 1] = { served = true, line = line }
    elseif line:find('"msg":"a generation was rejected"', 1, true) then
      list[#list + 1] = { served = false, line = line }
    end
  end
  return list
end

--- Sends HUP and waits for how it went.
local function reload(s)
  s.ends = s.ends + 1
  s.process:kill("HUP")
  assert(process.eventually(function() return #ends(s) >= s.ends end), "no reload ended")
  return ends(s)[s.ends]
end

local function get(s, target)
  return wire.ask(s.port, "GET", target or "/")
end

describe("a reload", function()
  after_each(process.cleanup)

  it("serves the new version from then on, in all workers", function()
    local s = start(app_text("one"))
    assert.equal("version one", get(s).body)
    write(s.app, "app.lua", app_text("two"))
    local result = reload(s)
    assert.is_true(result.served)
    assert.matches('"generation":2', result.line)
    assert.matches('"hash":"%x+"', result.line)
    for _ = 1, 20 do
      assert.equal("version two", get(s).body)
    end
  end)

  it("says which generation answers, unless it is told not to", function()
    local s = start(app_text("one"))
    assert.matches("^1%-%x%x%x%x%x%x%x%x$", get(s).headers["perilune-generation"])
    write(s.app, "app.lua", app_text("two"))
    reload(s)
    assert.matches("^2%-%x+$", get(s).headers["perilune-generation"])
    assert.is_truthy(s:wait_log('"msg":"request"[^\n]*"generation":2'))
    local quiet = start(app_text("one"), { args = { "--set", "generation_header=false" } })
    assert.is_nil(get(quiet).headers["perilune-generation"])
  end)

  it("has the same hash for the same files, wherever they lie", function()
    local a, b = start(app_text("one")), start(app_text("one"))
    assert.equal(get(a).headers["perilune-generation"], get(b).headers["perilune-generation"])
  end)

  it("lets a request end on the version it began on, and its connection go on", function()
    local s = start(app_text("one"))
    local w = wire.connect(s.port)
    w:request("GET", "/slow")
    process.sleep(0.1)
    write(s.app, "app.lua", app_text("two"))
    reload(s)
    local response = w:response()
    assert.equal("slow one", response.body)
    assert.matches("^1%-", response.headers["perilune-generation"])
    w:request("GET", "/")
    assert.equal("version two", w:response().body)
  end)

  it("lets one that computes go on, which holds nobody up and has its deadline", function()
    local s = start(app_text("one"), { workers = 1 })
    local loops, spins = wire.connect(s.port), wire.connect(s.port)
    loops:request("GET", "/loop")
    spins:request("GET", "/spin/30000000")
    process.sleep(0.05)
    write(s.app, "app.lua", app_text("two"))
    reload(s)
    for _ = 1, 10 do
      local before = process.now()
      assert.equal("version two", get(s).body)
      assert.is_true(process.now() - before < 0.3)
    end
    assert.equal(503, loops:response().status)
    assert.matches("^spun one %d+$", spins:response().body)
  end)

  it("keeps a body that arrives meanwhile on the version that saw its head", function()
    local s = start(HEAD .. [[
app:post("/", function(c) return "one " .. #c:body() end)
return app
]])
    local w = wire.connect(s.port)
    w:send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
    process.sleep(0.05)
    write(s.app, "app.lua", HEAD .. 'app:post("/", function() return "two" end)\nreturn app\n')
    reload(s)
    w:send("67890")
    assert.equal("one 10", w:response().body)
    w:request("POST", "/", nil, "")
    assert.equal("two", w:response().body)
  end)

  local broken = {
    ["a syntax error"] = { "return app }", "app.lua:%d+: '<eof>' expected" },
    ["an exception"] = { HEAD .. "error('no such luck')", "app.lua:3: no such luck" },
    ["an error that is a table"] = {
      HEAD .. "error({ code = 7 })", "app.lua:1: an error that is a table" },
    ["a missing module"] = {
      HEAD .. "require('does.not.exist')", "module 'does.not.exist' not found" },
    ["no app"] = { "return 7", "returns a number, not an app" },
    ["an endless loop"] = { HEAD .. "while true do end", "longer than vm.load_timeout" },
    ["an endless loop that catches errors"] = {
      HEAD .. "while true do pcall(function() while true do end end) end", "vm.load_timeout" },
    ["a wait"] = { HEAD .. "P.sleep(1)", "app.lua:3" },
    ["a call that blocks"] = { HEAD .. "os.execute('sleep 30')", "longer than vm.load_timeout" },
    ["a duplicate route"] = {
      HEAD .. "app:get('/', print)\napp:get('/', print)\nreturn app",
      "app.lua:4: GET / is registered already" },
    ["os.exit"] = { HEAD .. "os.exit(3)", "ended its process while it loaded, with exit code 3" },
    ["a crash"] = {
      HEAD .. "require('ffi').cast('int *', 8)[0] = 1", "ended by SIG%u+ while" },
    ["too much memory"] = {
      HEAD .. "local t = {} for i = 1, 1e9 do t[i] = { i } end", "not enough memory" },
  }
  for name, case in pairs(broken) do
    it("is rejected for " .. name .. ", and the old version serves on", function()
      local s = start(app_text("one"), { args = { "--set", "vm.load_timeout=300ms", "--set",
        "vm.memory_hard=40M", "--set", "vm.memory_soft=30M" } })
      local _, workers = process.family(s.process.pid)
      write(s.app, "app.lua", case[1])
      local before = process.now()
      local result = reload(s)
      assert.is_false(result.served)
      assert.matches(case[2], result.line)
      assert.is_true(process.now() - before < 5)
      local response = get(s)
      assert.equal("version one", response.body)
      assert.is_nil(response.headers["perilune-reload"]) -- that is for `perilune dev`
      assert.matches("^1%-", response.headers["perilune-generation"])
      assert.same({ workers }, { select(2, process.family(s.process.pid)) })
      write(s.app, "app.lua", app_text("two"))
      assert.is_true(reload(s).served)
      response = get(s)
      assert.equal("version two", response.body)
    end)
  end

  it("of a file that is gone is rejected", function()
    local s = start({
      ["app.lua"] = "local m = require('part')\n" .. app_text("one"), ["part.lua"] = "return 1",
    })
    assert(os.remove(s.app .. "/part.lua"))
    local result = reload(s)
    assert.is_false(result.served)
    assert.matches("module 'part' not found", result.line)
    assert.equal("version one", get(s).body)
  end)

  it("never gives a worker that is started again what is on disk, but what is committed", function()
    local s = start({
      ["app.lua"] = "local m = require('part')\n" .. app_text("one"), ["part.lua"] = "return 1",
    })
    write(s.app, "app.lua", "return nothing that parses")
    assert(os.remove(s.app .. "/part.lua"))
    local _, workers = process.family(s.process.pid)
    for _, pid in ipairs(workers) do
      process.signal(pid, "KILL")
    end
    assert(process.eventually(function()
      local _, now = process.family(s.process.pid)
      return #now == 2 and now[1] ~= workers[1] and now[2] ~= workers[2]
    end))
    for _ = 1, 10 do
      assert.equal("version one", get(s).body)
    end
  end)

  it("gives a handler the module that lay there when its version was tried", function()
    local function lazy(version)
      return HEAD .. ([[
app:get("/", function() return "app %s" end)
app:get("/lazy", function() return require("parts.lazy") end)
return app
]]):format(version)
    end
    local s = start({ ["app.lua"] = lazy("one"), ["parts/lazy.lua"] = "return 'part one'" },
      { workers = 1 })
    write(s.app, "parts/lazy.lua", "return 'part two'")
    assert.equal("part one", get(s, "/lazy").body)
    reload(s)
    assert.equal("part two", get(s, "/lazy").body)
  end)

  it("takes the configuration along, and names what waits for a restart", function()
    local s = start({
      ["app.lua"] = HEAD .. 'app:get("/", function() return P.settings.greeting end)\nreturn app\n',
      ["config.lua"] = 'return { settings = { greeting = "hello" }, limits = { headers = "32K" } }',
    })
    assert.equal("hello", get(s).body)
    write(s.app, "config.lua", [[return { settings = { greeting = "welcome" },
      limits = { headers = "16K" }, timeouts = { idle = "100ms" }, log = { level = "debug" } }]])
    local result = reload(s)
    assert.is_true(result.served)
    assert.matches('"not_changed":"limits.headers"', result.line)
    local w = wire.connect(s.port)
    w:request("GET", "/")
    assert.equal("welcome", w:response().body)
    local before = process.now()
    local _, err = w:receive()
    assert.equal("closed", err)
    assert.is_true(process.now() - before < 2)
  end)

  it("is rejected for a wrong configuration", function()
    local s = start({ ["app.lua"] = app_text("one"), ["config.lua"] = "return {}" })
    write(s.app, "config.lua", "return { timeouts = { idel = 1 } }")
    local result = reload(s)
    assert.is_false(result.served)
    assert.matches("timeouts.idle", result.line)
    assert.equal("version one", get(s).body)
  end)

  it("hands on what the app keeps, with what has changed while it was prepared", function()
    local function counting(version, form, more)
      return HEAD .. ([[
local state = P.keep("counter", %d, function() return { n = 0 } end%s)
app:get("/", function() state.n = state.n + 1 return { version = %q, n = state.n } end)
app:get("/form", function() return state end)
return app
]]):format(form, more or "", version)
    end
    local s = start(counting("one", 1), { workers = 1 })
    for n = 1, 3 do
      assert.matches('"n":' .. n, get(s).body)
    end
    write(s.app, "app.lua", counting("two", 1))
    reload(s)
    local body = get(s).body
    assert.matches('"n":4', body)
    assert.matches('"version":"two"', body)
    write(s.app, "app.lua", counting("three", 2))
    local rejected = reload(s)
    assert.is_false(rejected.served)
    assert.matches("version 1, the code has version 2 and no function to migrate it", rejected.line)
    write(s.app, "app.lua", counting("four", 2,
      ", function(old, version) return { n = old.n * 100, from = version } end"))
    assert.is_true(reload(s).served)
    body = get(s, "/form").body
    assert.matches('"n":400', body)
    assert.matches('"from":1', body)
  end)

  it("ends the timers and detached tasks of the old version", function()
    local function ticking(version)
      return HEAD .. ([[
P.every("20ms", "tick", function() P.log.info("tick of %s") end)
P.detach("task", function() while true do P.sleep(0.02) P.log.info("task of %s") end end)
]]):format(version, version) .. app_text(version):sub(#HEAD + 1)
    end
    local s = start(ticking("one"), { workers = 1 })
    assert.is_truthy(s:wait_log("tick of one"))
    write(s.app, "app.lua", ticking("two"))
    reload(s)
    assert.is_truthy(s:wait_log("tick of two"))
    assert.is_truthy(s:wait_log("task of two"))
    process.sleep(0.1)
    local text = s:log()
    local _, last_old = text:find(".*of one")
    local _, first_new = text:find("tick of two")
    assert.is_true(last_old < first_new or not text:sub(first_new + 200):find("of one"))
  end)

  it("lets the clock of a timer go on that has the same name and interval", function()
    local s = start(app_text("x", 'P.every("1s", "tick", function() P.log.info("tick") end)\n'),
      { workers = 1 })
    local due = process.now() + 2.5
    while process.now() < due and not s:log():find('"msg":"tick"', 1, true) do
      process.sleep(0.1) -- never a second without a reload
      reload(s)
    end
    assert.is_truthy(s:log():find('"msg":"tick"', 1, true))
  end)

  it("several that are asked for at once become one", function()
    local s = start(app_text("one"))
    write(s.app, "app.lua", app_text("two"))
    for _ = 1, 10 do
      s.process:kill("HUP")
    end
    assert(process.eventually(function() return get(s).body == "version two" end))
    process.sleep(0.5)
    assert.is_true(#ends(s) <= 4)
  end)

  it("cuts what has not ended after timeouts.drain", function()
    local s = start(HEAD .. [[
app:get("/", function() return "one" end)
app:get("/long", function() P.sleep(25) return "never" end)
return app
]], { workers = 1, args = { "--set", "timeouts.drain=300ms" } })
    local w = wire.connect(s.port)
    w:request("GET", "/long")
    process.sleep(0.1)
    write(s.app, "app.lua", app_text("two"))
    reload(s)
    assert.equal(503, w:response().status)
    write(s.app, "app.lua", app_text("three"))
    assert.is_true(reload(s).served)
    assert.equal("version three", get(s).body)
  end)

  it("is not held up for ever by a client that sends its body byte by byte", function()
    local s = start(HEAD .. [[
app:post("/", function(c) return "one " .. #c:body() end)
return app
]], { workers = 1, args = { "--set", "timeouts.drain=300ms" } })
    local w = wire.connect(s.port)
    w:send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
    process.sleep(0.05)
    write(s.app, "app.lua", app_text("two"))
    assert.is_true(reload(s).served)
    local due = process.now() + 4
    while process.now() < due and w:send("x") do
      process.sleep(0.2)
    end
    assert.is_true(process.now() < due)
    write(s.app, "app.lua", app_text("three"))
    assert.is_true(reload(s).served)
    assert.equal("version three", get(s).body)
  end)

  it("does nothing once the server drains", function()
    local s = start(app_text("one"))
    local w = wire.connect(s.port)
    w:request("GET", "/slow")
    process.sleep(0.1)
    s.process:kill("TERM")
    assert.is_truthy(s.process:wait_for("err", "stopping"))
    s.process:kill("HUP")
    assert.equal("slow one", w:response().body)
    assert.equal(0, s.process:wait())
    assert.equal(1, #ends(s))
  end)
end)
