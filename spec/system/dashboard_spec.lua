--- The dashboard of the admin plane, in a browser and by its data; and the compilation report.

local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local SECONDS = 60 -- for a story, of which a column of the heat map takes five

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/hello/:name", function(c) return "hello " .. c:param("name") end)
app:get("/say/:word", function(c)
  P.log.info("said " .. c:param("word"), { number = 42 })
  return "said"
end)
app:get("/fail", function() error("on purpose") end)
app:health("so-so", { every = "1s" }, function() return "degraded", "half of it" end)
app:get("/closures", function() -- line 10
  local sum = 0
  for i = 1, 2000 do
    local f = function() return i end
    sum = sum + f()
  end
  return tostring(sum)
end)
app:get("/fine", function()
  local sum = 0
  for i = 1, 2000 do sum = sum + i end
  return tostring(sum)
end)
local function make(x) -- line 23
  return function() return x end
end
app:get("/make", function()
  local sum = 0
  for i = 1, 2000 do sum = sum + make(i)() end
  return tostring(sum)
end)
return app
]]

local function start(opts)
  opts = opts or {}
  local env = { XDG_RUNTIME_DIR = process.folder(), PERILUNE_ADMIN_TOKEN = opts.token }
  local folder = opts.app or process.folder({ ["app.lua"] = APP })
  local p = process.start({ "run", folder, "--name", "shown", "--workers", "2",
    "--listen", "127.0.0.1:" .. (opts.port or 0),
    "--set", "admin.listen=127.0.0.1:" .. (opts.admin or 0), unpack(opts.args or {}) },
    { env = env })
  assert(p:wait_for("err", "serving ([^\n]+admin plane on [^\n]+)\n"), p:err())
  local port, admin = p:err():match("http://127%.0%.0%.1:(%d+).-admin plane on %S+:(%d+)")
  return { process = p, port = tonumber(port), admin = tonumber(admin), app = folder, env = env }
end

local function get(s, target, headers)
  return wire.ask(s.admin, "GET", target, headers)
end

local function lacking()
  for _, program in ipairs({ "chromium", "node" }) do
    local look = process.spawn({ "sh", "-c", "command -v " .. program })
    if look:wait() ~= 0 then
      process.cleanup()
      return program
    end
  end
  process.cleanup()
end

local function browse(s, story)
  return process.spawn({ "node", "spec/support/browser_dashboard.js", story,
    "http://127.0.0.1:" .. s.admin .. "/", "http://127.0.0.1:" .. s.port })
end

local function ends_well(browser, count)
  local code = browser:wait(SECONDS)
  assert.equal(0, code, browser:out() .. browser:err())
  local _, seen = browser:out():gsub("ok ", "")
  assert.equal(count, seen)
end

local missing = lacking()

describe("the dashboard", function()
  after_each(process.cleanup)

  it("is a page for those who accept one, and a list for the others", function()
    local s = start()
    local page = get(s, "/", "Accept: text/html,*/*\r\n")
    assert.equal(200, page.status)
    assert.matches("^text/html", page.headers["content-type"])
    assert.matches("default%-src 'none'", page.headers["content-security-policy"])
    assert.is_nil(page.headers["content-security-policy"]:find("unsafe", 1, true))
    assert.matches("/readyz", get(s, "/").body)
    for name, kind in pairs({ css = "text/css", js = "text/javascript" }) do
      local file = get(s, "/dashboard." .. name)
      assert.equal(200, file.status)
      assert.is_truthy(file.headers["content-type"]:find(kind, 1, true))
      local again = get(s, "/dashboard." .. name, "If-None-Match: " .. file.headers.etag .. "\r\n")
      assert.equal(304, again.status)
      local text = file.body:gsub("http://www%.w3%.org/2000/svg", "") -- a name, not an address
      assert.is_nil(text:find("//[%w]+%.%w")) -- nothing from elsewhere
    end
  end)

  it("shows its data to those who have the token", function()
    local s = start({ token = "moonshine-at-noon" })
    assert.equal(200, get(s, "/", "Accept: text/html\r\n").status)
    assert.equal(200, get(s, "/dashboard.js").status)
    assert.equal(401, get(s, "/").status)
    assert.equal(401, get(s, "/dashboard/data").status)
    assert.equal(401, get(s, "/debug/jit").status)
    local allowed = get(s, "/dashboard/data", "Authorization: Bearer moonshine-at-noon\r\n")
    assert.equal(200, allowed.status)
    assert.equal("no-store", allowed.headers["cache-control"])
  end)

  it("tells what is new since the last time", function()
    local s = start()
    wire.ask(s.port, "GET", "/say/hello")
    local data
    assert(process.eventually(function()
      data = assert(json.decode(get(s, "/dashboard/data").body))
      return #data.heat.columns > 0 and json.encode(data.log.records):find("said hello", 1, true)
    end, 20))
    local column = data.heat.columns[#data.heat.columns]
    local requests = 0
    for _, one in ipairs(data.heat.columns) do
      for _, n in ipairs(one.classes) do
        requests = requests + n
      end
    end
    assert.equal(1, requests)
    assert.equal(column.number + 1, data.heat.next)
    assert.equal(37, #data.heat.ends_ms)
    local next_time = ("/dashboard/data?heat=%d&log=%d"):format(data.heat.next, data.log.next)
    local later = assert(json.decode(get(s, next_time).body))
    assert.is_true(#later.heat.columns < #data.heat.columns)
    assert.is_nil(json.encode(later.log.records):find("said hello", 1, true))
    local unknown = assert(json.decode(get(s, "/dashboard/data?heat=999999&log=999999").body))
    assert.is_true(#unknown.heat.columns > 0) -- asked of another server
    assert.is_truthy(json.encode(unknown.log.records):find("said hello", 1, true))
  end)

  it("keeps warnings and errors when others push the rest out", function()
    local s = start({ args = { "--set", "log.output=" .. process.folder() .. "/log" } })
    wire.ask(s.port, "GET", "/fail")
    for _ = 1, 300 do -- of two records each
      wire.ask(s.port, "GET", "/say/much")
    end
    assert(process.eventually(function()
      local records = assert(json.decode(get(s, "/dashboard/data").body)).log.records
      local failed = 0
      for _, one in ipairs(records) do
        failed = failed + (one.record.level == "error" and 1 or 0)
      end
      return failed == 1 and #records < 600 and records[#records].number > 600
    end, 10))
  end)

  if missing then
    pending(("is shown by a browser (no %s here: .ci/setup test installs it)"):format(missing))
    return
  end

  it("shows numbers that change, cells, checks; in light and dark, small and large", function()
    ends_well(browse(start(), "numbers"), 19)
  end)

  it("follows the log, and filters it", function()
    ends_well(browse(start(), "log"), 10)
  end)

  it("asks for the token, and keeps it in the tab", function()
    ends_well(browse(start({ token = "moonshine-at-noon" }), "token"), 9)
  end)

  it("says that the server is away, and goes on when it is back", function()
    local s = start()
    local browser = browse(s, "away")
    assert.is_truthy(browser:wait_for("out", "ok that it is live", 20), browser:out())
    s.process:stop()
    assert.is_truthy(browser:wait_for("out", "ok that the server is away", 20), browser:out())
    start({ app = s.app, port = s.port, admin = s.admin })
    ends_well(browser, 6)
  end)
end)

describe("the compilation report", function()
  local s

  setup(function()
    s = start()
    for _ = 1, 120 do
      wire.ask(s.port, "GET", "/closures")
      wire.ask(s.port, "GET", "/fine")
    end
  end)
  teardown(process.cleanup)

  local function entry(report, at)
    for _, one in ipairs(report.list) do
      if one.at:find(at, 1, true) then
        return one
      end
    end
  end

  it("names what is not compiled, with its place and what to do", function()
    local report
    assert(process.eventually(function()
      wire.ask(s.port, "GET", "/closures")
      report = assert(json.decode(get(s, "/debug/jit").body))
      local one = entry(report, "app.lua:13")
      return one and one.blacklisted and report.traces > 0
    end, 20))
    local one = entry(report, "app.lua:13")
    assert.equal("NYI: bytecode FNEW", one.reason)
    assert.equal("GET /closures", one.route)
    assert.is_truthy(one.advice:find("closure", 1, true), one.advice)
    assert.equal("costly", one.weight)
    assert.equal("loop", one.blacklisted)
    assert.is_truthy(one.from:find("app.lua:12", 1, true), one.from)
    assert.is_truthy(one.advice:find("app.lua:12 was given up for good", 1, true), one.advice)
    assert.is_nil(entry(report, "app.lua:20")) -- the loop of /fine
  end)

  it("names functions that were given up for good", function()
    local one
    assert(process.eventually(function()
      for _ = 1, 50 do
        wire.ask(s.port, "GET", "/make")
      end
      for _, each in ipairs(assert(json.decode(get(s, "/debug/jit").body)).list) do
        one = each.blacklisted == "function" and each or one
      end
      return one
    end, 20))
    assert.is_truthy(one.at:find("app.lua:24", 1, true), one.at)
    assert.is_truthy(one.advice:find("The function at ", 1, true), one.advice)
    assert.is_truthy(one.advice:find("app.lua:23 was given up for good", 1, true), one.advice)
  end)

  it("is printed by perilune jit", function()
    local text = process.run({ "jit", "--name", "shown" }, { env = s.env })
    assert.equal(0, text.code, text.err)
    assert.matches("BLACKLISTED loop  %S*app%.lua:13: NYI: bytecode FNEW", text.out)
    local report = assert(json.decode(process.run({ "jit", "--name", "shown", "--json" },
      { env = s.env }).out))
    assert.is_truthy(entry(report, "app.lua:13"))
    assert.is_truthy(get(s, "/debug/jit?format=text").body:find("BLACKLISTED loop", 1, true))
  end)

  it("begins anew with each generation", function()
    assert.equal(0, process.run({ "reload", "--name", "shown" }, { env = s.env }).code)
    assert(process.eventually(function()
      return not entry(assert(json.decode(get(s, "/debug/jit").body)), "app.lua:13")
    end, 10))
  end)

  it("says so when nothing runs", function()
    assert.equal(3, process.run({ "jit", "--name", "nobody" }, { env = s.env }).code)
  end)
end)
