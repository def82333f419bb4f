--- `perilune dev`: reloads on save, and what is shown when that fails.

local process = require("spec.support.process")
local wire = require("spec.support.wire")

local HEAD = 'local P = require "perilune"\nlocal app = P.app {}\n'

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
  local env = { XDG_RUNTIME_DIR = process.folder(), PERILUNE_DEV_POLL = opts.poll }
  local p = process.start({ "dev", folder, "--listen", "127.0.0.1:0", "--set",
    "admin.listen=127.0.0.1:0", "--set", "vm.load_timeout=300ms" }, { env = env })
  local port = assert(p:wait_for("err", "serving [^\n]*http://127%.0%.0%.1:(%d+)"), p:err())
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
    local with = "local m = require('parts.one')\n" .. HEAD
      .. "app:get('/', function() return m end)\nreturn app\n"
    local s = start({ ["app.lua"] = app_text("one") })
    save(s.app, "app.lua", with)
    assert.is_truthy(s.process:wait_for("err", "module 'parts.one' not found"))
    os.execute("mkdir " .. s.app .. "/parts")
    overwrite(s.app, "parts/one.lua", "return 'part one'")
    assert(becomes(s, "part one"))
    save(s.app, "parts/one.lua", "return 'part two'")
    assert(becomes(s, "part two"))
  end)

  it("compares files where it is told to", function()
    local s = start({ ["app.lua"] = app_text("one") }, { poll = "1" })
    save(s.app, "app.lua", app_text("two"))
    assert(becomes(s, "version two"))
  end)

  local broken = {
    ["a syntax error"] = HEAD .. "return app }",
    ["an exception"] = HEAD .. "error('no such luck')",
    ["an endless loop"] = HEAD .. "while true do end",
    ["os.exit"] = HEAD .. "os.exit(3)",
    ["a crash"] = HEAD .. "require('ffi').cast('int *', 8)[0] = 1",
    ["nothing at all"] = "",
    ["a call that blocks"] = HEAD .. "os.execute('sleep 20')",
  }
  for name, text in pairs(broken) do
    it("survives " .. name .. ", says so once, and goes on when it is mended", function()
      local s = start({ ["app.lua"] = app_text("one") })
      save(s.app, "app.lua", text)
      assert.is_truthy(s.process:wait_for("err", "the last good version serves on", 10))
      local r = get(s)
      assert.equal("version one", r.body)
      assert.equal("failed", r.headers["perilune-reload"])
      save(s.app, "app.lua", text .. "\n")
      save(s.app, "app.lua", app_text("two"))
      assert(becomes(s, "version two"))
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
    assert.matches("^<h1>one</h1><script src=\"http://127.0.0.1:%d+/dev/client.js\"></script>\n$",
      get(s, "/page").body)
    assert.matches("^<p>file</p><script src=", get(s, "/file").body)
    assert.equal("version one", get(s).body)
    local run = process.server({ app = s.app })
    assert.equal("<h1>one</h1>", wire.ask(run.port, "GET", "/page").body)
    assert.equal("<p>file</p>", wire.ask(run.port, "GET", "/file").body)
  end)

  it("tells browsers what happens, and only pages of the app", function()
    local s = start({ ["app.lua"] = app_text("one") })
    local events = tonumber(get(s, "/page").body:match("127.0.0.1:(%d+)/dev"))
    local w = wire.connect(events)
    w:send(("GET /dev/events HTTP/1.1\r\nHost: a\r\nOrigin: http://localhost:%d\r\n\r\n")
      :format(s.port))
    assert.matches("Access%-Control%-Allow%-Origin: http://localhost:" .. s.port,
      w:receive_until("\r\n\r\n"))
    assert.matches('event: served\ndata: {"generation":1}', w:receive_until("}\n\n"))
    save(s.app, "app.lua", "error('\"quoted\"')")
    local failed = w:receive_until("]}\n\n")
    assert.matches("event: failed", failed)
    assert.matches('"message":"\\"quoted\\""', failed)
    save(s.app, "app.lua", app_text("two"))
    assert.matches('event: served\ndata: {"generation":2}', w:receive_until("}\n\n"))
    local other = wire.connect(events)
    other:send("GET /dev/events HTTP/1.1\r\nHost: a\r\nOrigin: http://example.org\r\n\r\n")
    assert.is_nil(other:receive_until("\r\n\r\n"):find("Allow-Origin", 1, true))
    assert.equal(404, wire.ask(events, "GET", "/").status)
    local script = wire.ask(events, "GET", "/dev/client.js")
    assert.equal(200, script.status)
    assert.matches("EventSource", script.body)
  end)

  it("is not held up by streams of an older version", function()
    local s = start({ ["app.lua"] = app_text("one") })
    local w = wire.connect(s.port)
    w:request("GET", "/stream")
    assert.is_truthy(w:receive_until("tick"))
    save(s.app, "app.lua", app_text("two"))
    assert(becomes(s, "version two"))
    local before = process.now()
    save(s.app, "app.lua", app_text("three"))
    assert(becomes(s, "version three"))
    assert.is_true(process.now() - before < 5)
  end)

  it("shows the overlay in Chromium, takes it away, and loads pages again", function()
    local s = start({ ["app.lua"] = app_text("one") })
    local browser = process.spawn({ "node", "spec/support/browser_dev.js",
      "http://127.0.0.1:" .. s.port .. "/", s.app })
    local code = browser:wait(60)
    assert.equal(0, code, browser:out() .. browser:err())
    local _, seen = browser:out():gsub("ok ", "")
    assert.equal(9, seen)
  end)
end)
