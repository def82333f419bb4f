local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return "hello" end)
app:get("/hello/:name", function(_, name) return { hello = name } end)
app:post("/echo", function(c) return c:json() end)
app:get("/fails", function() error("on purpose") end)
return app
]]

local function app_folder(source)
  return process.folder({ ["app.lua"] = source or APP })
end

local COMMANDS = {
  "run", "new", "dev", "check", "routes", "request", "repl", "test", "stop", "reload", "status",
  "drain", "config", "version", "help",
}

describe("perilune", function()
  after_each(process.cleanup)

  it("lists its commands in help, on stdout", function()
    local r = process.run({ "help" })
    assert.equal(0, r.code)
    assert.equal("", r.err)
    for _, command in ipairs(COMMANDS) do
      assert.matches("\n  " .. command .. " +%u", r.out)
    end
  end)

  it("does not list commands that do not exist yet", function()
    local r = process.run({ "help" })
    for _, command in ipairs({ "bench" }) do
      assert.is_nil(r.out:find("\n  " .. command .. " ", 1, true))
    end
  end)

  for _, command in ipairs(COMMANDS) do
    if command ~= "test" then -- its --help is busted's
      it("explains " .. command .. " with an example, by --help and by help", function()
        local r = process.run({ command, "--help" })
        assert.equal(0, r.code)
        assert.matches("Examples\n  perilune " .. command, r.out)
        assert.equal(r.out, process.run({ "help", command }).out)
        assert.equal(r.out, process.run({ command, "-h" }).out)
      end)
    end
  end

  it("names every key of the configuration in the help of run", function()
    local keys = json.decode(process.run({ "config", "--json" }).out).keys
    local help = process.run({ "help", "run" }).out
    assert.is_true(#keys > 20)
    for _, key in ipairs(keys) do
      assert.is_truthy(help:find("  " .. key.key .. " ", 1, true), key.key)
    end
  end)

  it("suggests the command that was meant, and exits with 2", function()
    local r = process.run({ "rnu" })
    assert.equal(2, r.code)
    assert.equal("", r.out)
    assert.matches("unknown command rnu, did you mean run%?", r.err)
  end)

  for _, args in ipairs({
    {}, { "run", "--wrkers", "2" }, { "run", "--workers" }, { "run", "a", "b" },
    { "version", "--json=1" }, { "request", "GET" }, { "help", "nothing" },
    { "request", "GET", "/", "-H", "no-colon" },
  }) do
    it("exits with 2 and says why: perilune " .. table.concat(args, " "), function()
      local r = process.run(args)
      assert.equal(2, r.code)
      assert.equal("", r.out)
      assert.is_true(#r.err > 0)
    end)
  end

  it("prints the versions of its parts", function()
    local r = process.run({ "version" })
    assert.matches("^perilune +%d+%.%d+%.%d+\nluajit +LuaJIT 2%.1", r.out)
    local parts = json.decode(process.run({ "version", "--json" }).out)
    assert.matches("^%d+%.%d+%.%d+$", parts.perilune)
    assert.matches("^%d+%.", parts.libuv)
    assert.equal(r.out, process.run({ "--version" }).out)
  end)

  it("colours help only where it is asked to", function()
    assert.is_nil(process.run({ "help" }).out:find("\27", 1, true))
    local forced = process.run({ "help" }, { env = { FORCE_COLOR = "1" } })
    assert.is_truthy(forced.out:find("\27", 1, true))
    local both = { FORCE_COLOR = "1", NO_COLOR = "1" }
    assert.is_nil(process.run({ "help" }, { env = both }).out:find("\27", 1, true))
  end)

  describe("run", function()
    it("exits with 65 and file:line when the app does not compile", function()
      local r = process.run({ "run", app_folder("local app = =\n"), "--listen", "127.0.0.1:0" })
      assert.equal(65, r.code)
      assert.matches("app%.lua:1: unexpected symbol", r.err)
      local _, times = r.err:gsub("unexpected symbol", "")
      assert.equal(1, times)
    end)

    it("exits with 65 and file:line when the app fails while it loads", function()
      local r = process.run({ "run", app_folder("\nrequire 'no.such'"), "--workers", "3",
        "--listen", "127.0.0.1:0" })
      assert.equal(65, r.code)
      assert.matches("app%.lua:2: module 'no.such' not found", r.err)
    end)

    it("exits with 65 when a module loops for ever", function()
      local r = process.run({ "run", app_folder("local n = 0\nwhile true do n = n + 1 end"),
        "--set", "vm.load_timeout=200ms", "--listen", "127.0.0.1:0" })
      assert.equal(65, r.code)
      assert.matches("app%.lua:2: ", r.err)
    end)

    it("exits with 65 where there is no app", function()
      local r = process.run({ "run", "/nonexistent/app" })
      assert.equal(65, r.code)
      assert.matches("/nonexistent/app: No such file", r.err)
    end)

    it("takes the app of the current folder", function()
      local folder = app_folder()
      local p = process.start({ "run", "--listen", "127.0.0.1:0" },
        { cwd = folder, env = { XDG_RUNTIME_DIR = folder } })
      local port = p:wait_for("err", "http://127%.0%.0%.1:(%d+)")
      assert.equal("hello", wire.ask(tonumber(port), "GET", "/").body)
    end)

    it("exits with 69 when the port is taken", function()
      local s = process.server({ app = { ["app.lua"] = APP } })
      local r = process.run({ "run", app_folder(), "--listen", "127.0.0.1:" .. s.port },
        { env = { XDG_RUNTIME_DIR = process.folder() } })
      assert.equal(69, r.code)
      assert.matches("cannot listen on 127%.0%.0%.1:" .. s.port .. ": the address is in use", r.err)
    end)

    it("exits with 78 when the configuration is wrong", function()
      local r = process.run({ "run", app_folder(), "--workers", "none" })
      assert.equal(78, r.code)
      assert.matches('workers is "none"; expected is auto or a whole number', r.err)
    end)

    it("refuses a second server of the same name", function()
      local app = app_folder()
      local s = process.server({ app = app })
      local r = process.run({ "run", app, "--listen", "127.0.0.1:0" },
        { env = { XDG_RUNTIME_DIR = s.folder } })
      assert.equal(1, r.code)
      assert.matches("runs already %(pid " .. s.process.pid, r.err)
    end)
  end)

  describe("stop", function()
    it("drains the server of that name, waits until it is gone, and exits with 0", function()
      local s = process.server({ app = { ["app.lua"] = APP }, args = { "--name", "notes" } })
      local r = process.run({ "stop", "--name", "notes" },
        { env = { XDG_RUNTIME_DIR = s.folder } })
      assert.equal(0, r.code)
      assert.equal("", r.out)
      assert.equal(0, s.process:wait(5))
    end)

    it("finds a server by its pid file, which holds its pid", function()
      local file = process.folder() .. "/web.pid"
      local s = process.server({ app = { ["app.lua"] = APP }, args = { "--pid-file", file } })
      assert.equal(s.process.pid .. "\n", process.slurp(file))
      assert.equal(0, process.run({ "stop", "--pid-file", file }).code)
      assert.is_nil(process.slurp(file))
    end)

    it("exits with 3 when nothing of that name runs", function()
      local r = process.run({ "stop", "--name", "nobody" })
      assert.equal(3, r.code)
      assert.matches("nobody is not running", r.err)
    end)

    it("does not believe the pid file of a server that was killed", function()
      local file = process.folder() .. "/web.pid"
      local s = process.server({ app = { ["app.lua"] = APP }, args = { "--pid-file", file } })
      s.process:kill("KILL")
      s.process:wait()
      assert.is_string(process.slurp(file))
      assert.equal(3, process.run({ "stop", "--pid-file", file }).code)
    end)
  end)

  describe("check", function()
    it("says nothing on stdout about an app that is fine", function()
      local r = process.run({ "check", app_folder() })
      assert.equal(0, r.code)
      assert.equal("", r.out)
    end)

    it("prints problems with file:line and exits with 65", function()
      local r = process.run({ "check", app_folder("local x = \n = 3") })
      assert.equal(65, r.code)
      assert.matches("app%.lua:2: ", r.out)
    end)

    it("finds all unknown keys of the configuration, with file:line, and exits with 78", function()
      local folder = process.folder({
        ["app.lua"] = APP,
        ["config.lua"] = "return {\n worker = 2,\n timeouts = { handlr = 3 } }",
      })
      local r = process.run({ "check", folder })
      assert.equal(78, r.code)
      assert.matches("config%.lua:2: unknown key worker, did you mean workers%?\n", r.out)
      assert.matches(
        "config%.lua:3: unknown key timeouts%.handlr, did you mean timeouts%.handler%?", r.out)
    end)
  end)

  describe("routes", function()
    it("lists method, pattern and the handler's place", function()
      local r = process.run({ "routes", app_folder() })
      assert.equal(0, r.code)
      assert.matches("GET +/hello/:name +%S*app%.lua:4", r.out)
    end)

    it("lists them as JSON, too", function()
      local list = json.decode(process.run({ "routes", app_folder(), "--json" }).out)
      assert.equal(4, #list)
      assert.equal("/hello/:name", list[2].pattern)
    end)
  end)

  describe("request", function()
    it("prints the body of the response", function()
      local r = process.run({ "request", "GET", "/hello/world", "--app", app_folder() })
      assert.equal(0, r.code)
      assert.equal('{"hello":"world"}', r.out)
    end)

    it("shows the head when it is asked to", function()
      local r = process.run({ "request", "-i", "GET", "/", "--app", app_folder() })
      assert.matches("^HTTP/1%.1 200 OK\r?\n.*\n\r?\nhello$", r.out)
    end)

    it("sends a body, as JSON if it looks like that", function()
      local r = process.run({ "request", "POST", "/echo", "-d", '{"a":[1]}', "--app",
        app_folder() })
      assert.equal('{"a":[1]}', r.out)
    end)

    it("sends the media type that was given", function()
      local r = process.run({ "request", "POST", "/echo", "-d", "{}", "-H",
        "content-type: text/plain", "--app", app_folder() })
      assert.equal(1, r.code)
      assert.matches("415", r.out)
    end)

    it("exits with 1 when the status is 400 or above", function()
      local r = process.run({ "request", "GET", "/nothing", "--app", app_folder() })
      assert.equal(1, r.code)
      assert.matches('"status":404', r.out)
    end)

    it("exits with 65 when the app does not load", function()
      local r = process.run({ "request", "GET", "/", "--app", app_folder("error('no')") })
      assert.equal(65, r.code)
      assert.matches("app%.lua:1: no", r.err)
    end)
  end)

  describe("test", function()
    it("exits with 0 when specs pass, and runs them in LuaJIT", function()
      local folder = process.folder({ ["a_spec.lua"] =
        "it('has jit', function() assert.is_table(jit) end)" })
      local r = process.run({ "test", folder .. "/a_spec.lua" })
      assert.equal(0, r.code)
      assert.matches("1 success", r.out)
    end)

    it("exits with 1 when one fails", function()
      local folder = process.folder({ ["a_spec.lua"] =
        "it('fails', function() assert.equal(1, 2) end)" })
      assert.equal(1, process.run({ "test", folder .. "/a_spec.lua" }).code)
    end)

    it("passes all arguments on to busted", function()
      local folder = process.folder({ ["a_spec.lua"] =
        "it('one', function() end) it('two', function() end)" })
      local r = process.run({ "test", "-o", "TAP", "--filter", "two", folder .. "/a_spec.lua" })
      assert.matches("1%.%.1", r.out)
    end)
  end)
end)
