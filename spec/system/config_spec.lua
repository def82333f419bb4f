local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/settings", function() return { greeting = P.settings.greeting, n = P.settings.n } end)
return app
]]

local function folder(config)
  return process.folder({ ["app.lua"] = APP, ["config.lua"] = config })
end

--- key -> { value, source } of `perilune config`.
local function config(args, env)
  local all = { "config", "--json" }
  for _, arg in ipairs(args) do
    all[#all + 1] = arg
  end
  local r = process.run(all, { env = env })
  assert.equal(0, r.code, r.err)
  local keys = {}
  for _, key in ipairs(json.decode(r.out).keys) do
    keys[key.key] = key
  end
  return keys, r
end

describe("the configuration", function()
  after_each(process.cleanup)

  it("prefers flags to the environment to the file to defaults", function()
    local app = folder("return {\n  workers = 2,\n  timeouts = { idle = '5s' },\n}\n")
    local env = { PERILUNE_WORKERS = "3" }
    local keys = config({ app })
    assert.equal("2", keys.workers.value)
    assert.equal(app .. "/config.lua:2", keys.workers.source)
    assert.equal("5s", keys["timeouts.idle"].value)
    assert.equal(app .. "/config.lua:3", keys["timeouts.idle"].source)
    assert.equal("default", keys["timeouts.body"].source)
    keys = config({ app }, env)
    assert.equal("3", keys.workers.value)
    assert.equal("PERILUNE_WORKERS", keys.workers.source)
    keys = config({ app, "--workers", "4" }, env)
    assert.equal("4", keys.workers.value)
    assert.equal("flag", keys.workers.source)
  end)

  it("takes --config instead of the file beside the app", function()
    local other = process.folder({ ["other.lua"] = "return { workers = 7 }" })
    local app = folder("return { workers = 2 }")
    assert.equal("7", config({ app, "--config", other .. "/other.lua" }).workers.value)
  end)

  it("serves all addresses on PORT, with WEB_CONCURRENCY workers", function()
    local keys = config({ folder("return {}") }, { PORT = "9000", WEB_CONCURRENCY = "3" })
    assert.equal("0.0.0.0:9000", keys.listen.value)
    assert.equal("3", keys.workers.value)
  end)

  it("only warns of variables it does not know, as Kubernetes sets some", function()
    local _, r = config({ folder("return {}") }, { PERILUNE_PORT = "tcp://10.0.0.1:80",
      PERILUNE_WORKRES = "3" })
    assert.matches("PERILUNE_PORT is no key", r.err)
    assert.matches("did you mean PERILUNE_WORKERS%?", r.err)
  end)

  it("joins several --listen", function()
    local keys = config({ folder("return {}"), "--listen", "127.0.0.1:1", "--listen", "[::1]:2" })
    assert.equal("127.0.0.1:1,[::1]:2", keys.listen.value)
  end)

  for what, case in pairs({
    ["an unknown key"] = { "return {\n  timeouts = {\n    idel = 1 } }",
      "config%.lua:3: unknown key timeouts%.idel, did you mean timeouts%.idle%?" },
    ["a bad value"] = { "return {\n  log = { level = 'loud' } }",
      'config%.lua:2: log%.level is "loud"; expected is debug, info, warn or error' },
    ["a syntax error"] = { "return {\n  =\n}", "config%.lua:2: " },
    ["an error"] = { "\nerror('no good')", "config%.lua:2: no good" },
    ["something that is no table"] = { "return 7", "config%.lua: returns a number" },
    ["a use of io"] = { "return { name = io.read() }", "config%.lua:1: .*'io'" },
    ["a use of os"] = { "return { name = os.getenv('HOME') }", "config%.lua:1: .*'os'" },
    ["a use of require"] = { "return require('ffi')", "config%.lua:1: .*'require'" },
    ["an endless loop"] = { "while true do end", "config%.lua:1: takes too long" },
  }) do
    it("is refused with its place: " .. what, function()
      local r = process.run({ "config", folder(case[1]), "--set", "vm.load_timeout=200ms" })
      assert.equal(78, r.code)
      assert.equal("", r.out)
      assert.matches(case[2], r.err)
    end)
  end

  it("gives the app its settings, with --set on top of the file", function()
    local app = folder("return { settings = { greeting = 'hi', n = 1 } }")
    local s = process.server({ app = app, args = { "--set", "settings.n=2.5" } })
    local body = json.decode(wire.ask(s.port, "GET", "/settings").body)
    assert.same({ greeting = "hi", n = 2.5 }, body)
  end)

  it("writes no access records with log.access = false", function()
    local s = process.server({ app = folder("return { log = { access = false } }") })
    assert.equal(200, wire.ask(s.port, "GET", "/settings").status)
    s:stop()
    assert.is_nil(s:log():find("/settings", 1, true))
  end)

  it("writes only records of log.level and above", function()
    local s = process.server({ app = folder("return {}"), args = { "--set", "log.level=error" } })
    assert.equal(200, wire.ask(s.port, "GET", "/settings").status)
    s:stop()
    assert.equal("", s:log())
  end)

  it("writes the log to log.output, as console lines with log.format = console", function()
    local file = process.folder() .. "/log"
    local s = process.server({ app = folder("return {}"),
      args = { "--set", "log.output=" .. file, "--set", "log.format=console" } })
    assert.equal(200, wire.ask(s.port, "GET", "/settings").status)
    s:stop()
    assert.equal("", s:log())
    local text = process.slurp(file)
    assert.is_truthy(text:find("/settings", 1, true))
    assert.is_nil(text:find('"msg"', 1, true))
  end)
end)
