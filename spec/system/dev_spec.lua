--- `perilune dev`: reloads on save, and what is shown when that fails.

local process = require("spec.support.process")
local wire = require("spec.support.wire")

local HEAD = 'local P = require "perilune"\nlocal app = P.app {}\n'

local WITH_PART = "local m = require('parts.one')\n" .. HEAD
  .. "app:get('/', function() return m end)\nreturn app\n"

local function app_text(version, more)
  return HEAD .. (more or "") .. ([[
app:get("/", function() return "version %s" end)
app:get("/page", function(c) return c:html("<h1>%s</h1>") end)
app:get("/file", function(c) return c:file("page.html") end)
app:get("/stream", { timeout = false }, function(c)
  return c:sse(function(out) while true do out:send("tick", "%s") P.sleep(0.05) end end)
end)
return app
]]):format(version, version, version)
end

--- As vim saves: a new file takes the place of the old one.
local function save(folder, name, text)
  local file = assert(io.open(folder .. "/" .. name .. "~", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(folder .. "/" .. name .. "~", folder .. "/" .. name))
end

--- In place, as `echo >` does.
local function overwrite(folder, name, text)
  local file = assert(io.open(folder .. "/" .. name, "wb"))
  file:write(text)
  file:close()
end

local function start(files, opts)
  opts = opts or {}
  local folder = process.folder(files)
  local env = { XDG_RUNTIME_DIR = process.folder(), PERILUNE_DEV_POLL = opts.poll,
    FORCE_COLOR = opts.colour }
  local p = process.start({ "dev", folder, "--listen", "127.0.0.1:0", "--set",
    "admin.listen=127.0.0.1:" .. (opts.events or 0), "--set", "vm.load_timeout="
      .. (opts.load_timeout or process.is_sanitized() and "3s" or "800ms") }, { env = env })
  local port = assert(p:wait_for("err", "serving [^\n]-http://127%.0%.0%.1:(%d+)"), p:err())
  return { process = p, port = tonumber(port), app = folder }
end

local function get(s, target, headers)
  return wire.ask(s.port, "GET", target or "/", headers)
end

local function becomes(s, text, target)
  return process.eventually(function()
    local r = get(s, target)
    return r and r.body == text
  end, 10)
end

describe("perilune dev", function()
  after_each(process.cleanup)

  it("serves what was saved, however that was done", function()
    local s = start({ ["app.lua"] = app_text("one") })
    assert.equal("version one", get(s).body)
    save(s.app, "app.lua", app_text("two"))
    assert(becomes(s, "version two"))
    overwrite(s.app, "app.lua", app_text("three"))
    assert(becomes(s, "version three"))
    assert(os.remove(s.app .. "/app.lua"))
    process.sleep(0.2)
    assert.equal("version three", get(s).body)
    overwrite(s.app, "app.lua", app_text("four"))
    assert(becomes(s, "version four"))
    assert.is_truthy(s.process:wait_for("err", "reloaded in %d+ ms"))
  end)

  it("sees modules, also in folders that are made later", function()
    local s = start({ ["app.lua"] = app_text("one") })
    save(s.app, "app.lua", WITH_PART)
    assert.is_truthy(s.process:wait_for("err", "module 'parts.one' not found"))
    os.execute("mkdir " .. s.app .. "/parts")
    overwrite(s.app, "parts/one.lua", "return 'part one'")
    assert(becomes(s, "part one"))
    save(s.app, "parts/one.lua", "return 'part two'")
    assert(becomes(s, "part two"))
    os.execute(("cd %s && mv parts old && mkdir parts"):format(s.app))
    overwrite(s.app, "parts/one.lua", "return 'part three'")
    assert(becomes(s, "part three"))
  end)

  it("compares files where it is told to, also those that come later", function()
    local s = start({ ["app.lua"] = app_text("one") }, { poll = "1" })
    save(s.app, "app.lua", app_text("two"))
    assert(becomes(s, "version two"))
    save(s.app, "app.lua", WITH_PART)
    assert.is_truthy(s.process:wait_for("err", "module 'parts.one' not found"))
    os.execute("mkdir " .. s.app .. "/parts")
    overwrite(s.app, "parts/one.lua", "return 'part one'")
    assert(becomes(s, "part one"))
  end)

  it("loads nothing again for a touch, for specs, and for what is not of the app", function()
    local s = start({ ["app.lua"] = app_text("one"), ["page.html"] = "<p>",
      ["spec/x_spec.lua"] = "" })
    overwrite(s.app, "app.lua", app_text("one"))
    overwrite(s.app, "page.html", "<p>")
    overwrite(s.app, "spec/x_spec.lua", "return 1")
    overwrite(s.app, "notes.txt", "")
    os.execute("mkdir " .. s.app .. "/empty")
    process.sleep(0.3)
    assert.is_nil(s.process:err():find("reloaded", 1, true))
    overwrite(s.app, "page.html", "<b>")
    assert.is_truthy(s.process:wait_for("err", "reloaded in %d+ ms"))
  end)

  it("loads a changed config.lua", function()
    local text = HEAD .. "app:get('/', function() return P.settings.word end)\nreturn app\n"
    local s = start({ ["app.lua"] = text,
      ["config.lua"] = "return { settings = { word = 'one' } }" })
    assert.equal("one", get(s).body)
    save(s.app, "config.lua", "return { settings = { word = 'two' } }")
    assert(becomes(s, "two"))
    save(s.app, "config.lua", "return { setings = {} }")
    assert.is_truthy(s.process:wait_for("err", "config%.lua:1\n  unknown key setings"))
    assert.equal("two", get(s).body)
    save(s.app, "config.lua", "return { settings = { word = 'three' } }")
    assert(becomes(s, "three"))
  end)

  local broken = {
    ["a syntax error"] = HEAD .. "return app }",
    ["an exception"] = HEAD .. "error('no such luck')",
    ["an endless loop"] = HEAD .. "while true do end",
    ["os.exit"] = HEAD .. "os.exit(3)",
    ["a crash"] = HEAD .. "require('ffi').cast('int *', 8)[0] = 1",
    ["nothing at all"] = "",
    ["a call that blocks"] = HEAD .. "os.execute('sleep 20')",
    ["a missing module"] = HEAD .. "require('no.such.module')",
    ["an error in a module"] = HEAD .. "require('bad')",
    ["a global that is nil"] = HEAD .. "app:get('/', handler)\nreturn app",
    ["an error that is a table"] = HEAD .. "error({ code = 1 })",
    ["an error that is nil"] = HEAD .. "error()",
    ["an error whose __tostring fails"] = HEAD
      .. "error(setmetatable({}, { __tostring = function() error('no') end }))",
    ["a message of megabytes"] = HEAD .. "error(('x'):rep(5000000))",
    ["a message that would steer the terminal"] = HEAD .. "error('\\27[2J\\0\\r\\255')",
    ["a route that is there twice"] = HEAD
      .. "app:get('/', print)\napp:get('/', print)\nreturn app",
    ["too deep a recursion"] = HEAD .. "local function f() return 1 + f() end f()",
    ["too large an allocation"] = HEAD
      .. "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end",
    ["a yield"] = HEAD .. "coroutine.yield()",
    ["a signal"] = HEAD .. "local ffi = require('ffi')\n"
      .. "ffi.cdef('int raise(int)')\nffi.C.raise(15)",
    ["a thing that is no app"] = "return 42",
    ["a file that is no Lua"] = "\0\1\2\255",
    ["bytecode that is none"] = "\27LJ\2\0\0\0",
  }
  for name, text in pairs(broken) do
    it("survives " .. name .. ", says so once, and goes on when it is mended", function()
      local s = start({ ["app.lua"] = app_text("one"), ["bad.lua"] = "local x <" })
      save(s.app, "app.lua", text)
      assert.is_truthy(s.process:wait_for("err", "the last good version serves on", 10))
      local r = get(s)
      assert.equal("version one", r.body)
      assert.equal("failed", r.headers["perilune-reload"])
      save(s.app, "app.lua", text .. "\n")
      process.sleep(0.1)
      save(s.app, "app.lua", app_text("two"))
      assert(becomes(s, "version two"))
      local _, told = s.process:err():gsub("serves on; waiting for a change", "")
      assert.equal(1, told)
      assert.is_nil(s.process:err():find("[%z\1-\8\11-\31]"))
      assert.is_nil(get(s).headers["perilune-reload"])
    end)
  end

  it("frames the error: place, message, the lines around, traceback", function()
    local s = start({ ["app.lua"] = app_text("one") })
    save(s.app, "app.lua", HEAD .. "local function f()\n  local x = nil\n  return x.y\nend\n"
      .. "local z = f() + 1\nreturn app\n")
    local text = s.process:wait_for("err", "\n(app%.lua:5.-waiting for a change)")
    assert.is_truthy(text)
    assert.matches("attempt to index local 'x' %(a nil value%)", text)
    assert.matches("     4 |   local x = nil\n  >    5 |   return x.y\n       6 | end", text)
    assert.matches("app%.lua:7: in main chunk", text)
  end)

  it("begins with an app that does not load, and serves the reason", function()
    local s = start({ ["app.lua"] = HEAD .. "\nerror('not yet <b>')" })
    local r = get(s)
    assert.equal(500, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.matches("app.lua:4: not yet <b>", r.body)
    local page = get(s, "/any/thing", "Accept: text/html\r\n")
    assert.equal(500, page.status)
    assert.matches("not yet &lt;b&gt;", page.body)
    save(s.app, "app.lua", app_text("one"))
    assert(becomes(s, "version one"))
  end)

  it("gives pages a script, and nothing else", function()
    local s = start({ ["app.lua"] = app_text("one"), ["page.html"] = "<p>file</p>" })
    assert.matches("^<h1>one</h1><script async src=\"http://127.0.0.1:%d+/dev/client.js\" "
      .. "data%-generation=\"1\"></script>\n$", get(s, "/page").body)
    assert.matches("^<p>file</p><script async src=", get(s, "/file").body)
    assert.equal("version one", get(s).body)
    local run = process.server({ app = s.app })
    assert.equal("<h1>one</h1>", wire.ask(run.port, "GET", "/page").body)
    assert.equal("<p>file</p>", wire.ask(run.port, "GET", "/file").body)
  end)

  it("colours what it shows only where that is wanted", function()
    local s = start({ ["app.lua"] = HEAD .. "error('x')" }, { colour = "1" })
    assert.is_truthy(s.process:wait_for("err", "\27%[1;31mapp.lua:3\27%[0m"))
    local plain = start({ ["app.lua"] = HEAD .. "error('x')" })
    assert.is_nil(plain.process:err():find("\27", 1, true))
  end)

  it("misses no change that is made while it starts", function()
    for _, wait in ipairs({ 0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1 }) do
      local folder = process.folder({ ["app.lua"] = "return nil" })
      local p = process.start({ "dev", folder, "--listen", "127.0.0.1:0", "--set",
        "admin.listen=127.0.0.1:0" }, { env = { XDG_RUNTIME_DIR = process.folder() } })
      process.sleep(wait)
      save(folder, "app.lua", app_text("one"))
      local port = assert(p:wait_for("err", "serving [^\n]-http://127%.0%.0%.1:(%d+)"), p:err())
      assert(becomes({ port = tonumber(port) }, "version one"), "after " .. wait .. " s")
    end
  end)

  it("gives up what takes long to load for what is saved next", function()
    local s = start({ ["app.lua"] = app_text("one") }, { load_timeout = "20s" })
    save(s.app, "app.lua", HEAD .. "while true do end")
    process.sleep(0.5)
    local before = process.now()
    save(s.app, "app.lua", app_text("two"))
    assert(becomes(s, "version two"))
    assert.is_true(process.now() - before < 2)
    assert.is_nil(s.process:err():find("the last good version", 1, true))
  end)

  it("is not held up by streams of older versions", function()
    local s = start({ ["app.lua"] = app_text("one") })
    local times = {}
    for n = 1, 5 do
      local w = wire.connect(s.port)
      w:request("GET", "/stream")
      assert.is_truthy(w:receive_until("tick"))
      local before = process.now()
      save(s.app, "app.lua", app_text(n))
      assert(becomes(s, "version " .. n))
      times[n] = process.now() - before
    end
    table.sort(times)
    assert.is_true(times[3] < 0.5, times[3])
  end)

  it("needs no port of its own choice", function()
    local port = wire.free_port()
    local one = start({ ["app.lua"] = app_text("one") }, { events = port })
    local two = start({ ["app.lua"] = app_text("one") }, { events = port })
    local function events(s)
      return tonumber(get(s, "/page").body:match("127.0.0.1:(%d+)/dev"))
    end
    assert.is_truthy(one.process:err():find("admin plane on http://127.0.0.1:" .. port, 1, true))
    local other = tonumber(two.process:err():match("admin plane on http://127.0.0.1:(%d+)"))
    assert.is_true(other > port and other <= port + 10)
    assert.is_true(events(one) > port and events(one) <= port + 10)
    assert.is_true(events(two) > other and events(two) <= other + 10)
  end)

  describe("to browsers", function()
    local function events_of(s)
      return tonumber(get(s, "/page").body:match("127.0.0.1:(%d+)/dev"))
    end

    local function listen(port, headers)
      local w = wire.connect(port)
      w:send("GET /dev/events HTTP/1.1\r\nHost: localhost\r\n" .. (headers or "") .. "\r\n")
      return w, w:receive_until("\r\n\r\n")
    end

    it("tells what happens", function()
      local s = start({ ["app.lua"] = app_text("one") })
      local w, head = listen(events_of(s))
      assert.matches("^HTTP/1.1 200 OK\r\n.*text/event%-stream", head)
      assert.matches('event: served\ndata: {"run":"%x+","generation":1}', w:receive_until("}\n\n"))
      save(s.app, "app.lua", "error('\"quoted\"')")
      local failed = w:receive_until("]}\n\n")
      assert.matches("event: failed", failed)
      assert.matches('"serves":true,"line":1,"file":"app.lua"', failed)
      assert.matches('"message":"\\"quoted\\""', failed)
      save(s.app, "app.lua", app_text("two"))
      assert.matches('event: served\ndata: {"run":"%x+","generation":2}', w:receive_until("}\n\n"))
      overwrite(s.app, "style.css", "a {}")
      assert.matches('event: style\ndata: {"assets":1}', w:receive_until("}\n\n"))
      local late = listen(events_of(s))
      assert.matches('event: assets\ndata: {"assets":1}', late:receive_until('assets":1}\n\n'))
    end)

    it("lets only pages of the app read it", function()
      local s = start({ ["app.lua"] = app_text("one") })
      local events = events_of(s)
      local _, ours = listen(events, ("origin: http://localhost:%d\r\n"):format(s.port))
      assert.matches("Access%-Control%-Allow%-Origin: http://localhost:" .. s.port .. "\r\n", ours)
      for _, origin in ipairs({ "http://example.org", "http://localhost:1", "null",
        ("http://localhost:%d.example.org"):format(s.port) }) do
        local _, head = listen(events, ("Origin: %s\r\n"):format(origin))
        assert.is_nil(head:find("Allow-Origin", 1, true), origin)
      end
    end)

    it("answers to addresses and to localhost, not to names that lead here", function()
      local s = start({ ["app.lua"] = app_text("one") })
      local events = events_of(s)
      local function status(host)
        local w = wire.connect(events)
        w:send(("GET /dev/client.js HTTP/1.1\r\nHost: %s\r\n\r\n"):format(host))
        return w:receive_until("\r\n"):match(" (%d+) ")
      end
      for _, host in ipairs({ "127.0.0.1", "localhost:8081", "192.168.1.7:8081", "[::1]:8081" }) do
        assert.equal("200", status(host), host)
      end
      for _, host in ipairs({ "example.org", "localhost.example.org:8081", "127.0.0.1.nip.io" }) do
        assert.equal("404", status(host), host)
      end
    end)

    it("takes no more than it said, and drops who says nothing", function()
      local s = start({ ["app.lua"] = app_text("one") })
      local events = events_of(s)
      local large = wire.connect(events)
      pcall(large.send, large, "GET /" .. ("x"):rep(5000))
      assert.equal("", large:receive_all())
      local silent = {} -- stay open
      for i = 1, 70 do
        silent[i] = wire.connect(events)
      end
      local due = process.now() + 10
      local w, head
      repeat -- as soon as the silent ones are gone
        w, head = listen(events)
      until head or process.now() > due
      assert.matches("event%-stream", head)
      assert.is_truthy(w:receive_until("generation"))
      assert.equal("", silent[70]:receive_all())
      assert.equal("version one", get(s).body)
    end)

    it("serves nothing else", function()
      local s = start({ ["app.lua"] = app_text("one") })
      local events = events_of(s)
      local w = wire.connect(events)
      w:send("POST /dev/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.matches(" 404 ", w:receive_until("\r\n"))
      w = wire.connect(events)
      w:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.matches(" 404 ", w:receive_until("\r\n"))
    end)
  end)
end)
