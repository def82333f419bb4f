-- What a running server writes, and what it does when nothing can be written.

local json = require("perilune.json")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"

local function serve(settings)
  local args = {}
  for _, pair in ipairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  return process.server({ app = APP, args = args })
end

local function records(text)
  local list = {}
  for line in text:gmatch("([^\n]+)\n") do
    list[#list + 1] = assert(json.decode(line), line)
  end
  return list
end

local function find(list, key, value)
  for _, record in ipairs(list) do
    if record[key] == value then
      return record
    end
  end
end

describe("the log", function()
  after_each(process.cleanup)

  it("has one access record for each request", function()
    local server = serve()
    local wire = assert(sockets.connect(server.port))
    wire:send(("GET /text HTTP/1.1\r\nHost: x\r\n\r\n"):rep(2000))
    for _ = 1, 2000 do
      assert(wire:response())
    end
    assert.equal(0, server:stop())
    local _, count = server:log():gsub('"target":"/text"', "")
    assert.equal(2000, count)
  end)

  it("tells of a request what one wants to know", function()
    local server = serve()
    assert(sockets.ask(server.port, "POST", "/text?a=1", "", "hello"))
    assert.equal(0, server:stop())
    local r = find(records(server:log()), "target", "/text?a=1")
    assert.equal("POST", r.method)
    assert.equal(200, r.status)
    assert.equal(5, r.bytes_in)
    assert.equal(5, r.bytes_out)
    assert.equal("127.0.0.1", r.remote)
    assert.equal("1.1", r.http)
    assert.equal("POST /text", r.route)
    assert.equal(0, r.worker)
    assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$", r.req_id)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d+Z$", r.time)
    assert.is_number(r.duration_ms)
  end)

  it("names no route of a request that none has matched", function()
    local server = serve()
    assert(sockets.ask(server.port, "GET", "/nowhere"))
    assert(sockets.ask(server.port, "DELETE", "/text"))
    assert.equal(0, server:stop())
    for _, target in ipairs({ "/nowhere", "/text" }) do
      assert.is_nil(find(records(server:log()), "target", target).route)
    end
  end)

  it("has the records of handlers, with the id of their request", function()
    local server = serve()
    assert(sockets.ask(server.port, "POST", "/log", "", 'a "quoted" line\nand \0 another'))
    assert.equal(0, server:stop())
    local list = records(server:log())
    local said = find(list, "msg", 'a "quoted" line\nand \0 another')
    assert.is_table(said)
    assert.equal("info", said.level)
    assert.equal(42, said.answer)
    assert.equal(find(list, "target", "/log").req_id, said.req_id)
  end)

  it("has refused requests too", function()
    local server = serve()
    local wire = assert(sockets.connect(server.port))
    wire:send("GET /text HTTP/1.1\r\n\r\n")
    assert.equal(400, wire:response().status)
    wire:close()
    assert.equal(0, server:stop())
    assert.equal(400, find(records(server:log()), "target", "/text").status)
  end)

  it("escapes what a client sends", function()
    local server = serve()
    assert(sockets.ask(server.port, "GET", '/echo/%22%0a"x'))
    assert.equal(0, server:stop())
    assert.is_table(find(records(server:log()), "target", '/echo/%22%0a"x'))
  end)

  it("has no access records with log.access=false", function()
    local server = serve({ "log.access=false" })
    assert(sockets.ask(server.port, "GET", "/text"))
    assert.equal(0, server:stop())
    assert.is_nil(server:log():find('"target"', 1, true))
  end)

  it("has nothing below log.level", function()
    local server = serve({ "log.level=error" })
    assert(sockets.ask(server.port, "POST", "/log", "", "quiet"))
    assert(sockets.ask(server.port, "GET", "/boom"))
    assert.equal(0, server:stop())
    for _, record in ipairs(records(server:log())) do
      assert.equal("error", record.level)
    end
    assert.matches("secret of the handler", server:log(), 1, true)
    assert.is_nil(server:log():find("quiet", 1, true))
  end)

  it("goes to a file when it is told to", function()
    local path = process.folder() .. "/log"
    local server = serve({ "log.output=" .. path })
    assert(sockets.ask(server.port, "GET", "/text"))
    assert.equal(0, server:stop())
    assert.is_table(find(records(process.slurp(path)), "target", "/text"))
    assert.equal("", server:log())
  end)

  it("does not hold up requests when its disk is full", function()
    local server = serve({ "log.output=/dev/full" })
    local wire = assert(sockets.connect(server.port))
    local from = posix.now()
    for _ = 1, 50 do
      wire:send(("GET /text HTTP/1.1\r\nHost: x\r\n\r\n"):rep(500))
      for _ = 1, 500 do
        assert.equal(200, assert(wire:response()).status)
      end
    end
    assert.is_true(posix.now() - from < 10)
    assert.equal(0, server:stop())
  end)

  it("that has nowhere to go keeps a server from starting, with a line that says so", function()
    local shell = process.spawn({ "sh", "-c",
      ('exec "%s" run %s --listen 127.0.0.1:0 >&-'):format(process.launcher(), APP) },
      { env = { XDG_RUNTIME_DIR = process.folder() } })
    assert.equal(78, shell:wait())
    assert.matches("log.output", shell:err(), 1, true)
  end)

  it("does not end the server when its reader goes away", function()
    local runtime = process.folder()
    local shell = process.spawn({ "sh", "-c",
      ('exec "%s" run %s --listen 127.0.0.1:0 --workers 1 | head -n 1'):format(
        process.launcher(), APP) }, { env = { XDG_RUNTIME_DIR = runtime } })
    local port = tonumber(shell:wait_for("err", "serving [^\n]*:(%d+)[^\n]*\n"))
    assert.is_number(port)
    for _ = 1, 20 do
      assert.equal(200, assert(sockets.ask(port, "GET", "/text")).status)
      posix.sleep(0.01)
    end
    local master
    for _, pid in ipairs(process.children(shell.pid)) do
      if (process.slurp("/proc/" .. pid .. "/comm") or ""):find("perilune", 1, true) then
        master = pid
      end
    end
    process.signal(master or shell.pid, "TERM")
    assert.is_true(posix.eventually(function()
      return not sockets.connect(port)
    end, 5))
  end)

  it("takes fields as a table, or as names and values in turn", function()
    local server = process.server({ app = { ["app.lua"] = [[
      local P = require("perilune")
      local app = P.app()
      app:get("/", function()
        for i = 1, 200 do -- compiled, from some time on
          P.log.info("pairs", "i", i, "text", "t" .. i, "yes", true, "no", false,
            "none", nil, "half", 0.5, "seven", 7, "eight", "8")
          P.log.info("table", { i = i, text = "t" .. i, yes = true, no = false,
            half = 0.5, seven = 7, eight = "8", [1] = "without a name" })
        end
        P.log.info("nothing else")
        P.log.warn("odd", "f", print, "c", 1LL, "nil")
        return "ok"
      end)
      return app
    ]] } })
    assert(sockets.ask(server.port, "GET", "/"))
    assert.equal(0, server:stop())
    local count = { pairs = 0, table = 0 }
    for _, r in ipairs(records(server:log())) do
      if count[r.msg] then
        count[r.msg] = count[r.msg] + 1
        assert.same({ r.i, "t" .. r.i, true, false, 0.5, 7, "8" },
          { count[r.msg], r.text, r.yes, r.no, r.half, r.seven, r.eight })
        assert.same({ "info", "GET /", 0, 1 }, { r.level, r.route, r.worker, r.generation })
        assert.is_nil(r.none)
      end
    end
    assert.same({ pairs = 200, table = 200 }, count)
    local odd = find(records(server:log()), "msg", "odd")
    assert.same({ "warn", "function", "cdata" }, { odd.level, odd.f, odd.c })
    assert.is_table(find(records(server:log()), "msg", "nothing else"))
  end)

  it("does not mix the records of handlers that preempt each other", function()
    local server = process.server({ args = { "--set", "vm.slice=1ms" }, app = { ["app.lua"] = [[
      local P = require("perilune")
      local app = P.app()
      app:get("/:name", function(_, name)
        for i = 1, 3000 do
          P.log.info(name, "a", name, "b", i, "c", name)
          P.log.info(name, { a = name, b = i, c = name })
        end
        return "ok"
      end)
      return app
    ]] } })
    local wires = {}
    for i = 1, 4 do
      wires[i] = assert(sockets.connect(server.port))
      wires[i]:send(("GET /name%d HTTP/1.1\r\nHost: x\r\n\r\n"):format(i))
    end
    for i = 1, 4 do
      assert.equal(200, assert(wires[i]:response()).status)
    end
    assert.equal(0, server:stop())
    local count = 0
    for _, r in ipairs(records(server:log())) do
      if r.msg:find("^name") then
        count = count + 1
        assert.same({ r.msg, r.msg }, { r.a, r.c })
      elseif r.msg:find("dropped", 1, true) then
        count = count + r.info
      end
    end
    assert.equal(24000, count)
  end)

  it("loses no error while nobody takes records: stderr has what no room is for", function()
    local path = process.folder() .. "/log"
    local server = process.server({ args = { "--set", "log.output=" .. path }, app = {
      ["app.lua"] = [[
        local P = require("perilune")
        local app = P.app()
        local i, text = 0, ("x"):rep(3000)
        app:get("/", function()
          for _ = 1, 10 do
            i = i + 1
            P.log.error("failed", "i", i, "text", text)
            P.log.info("as well", "i", i)
          end
          return "ok"
        end)
        return app
      ]] } })
    local control = process.family(server.process.pid)
    process.signal(control, "STOP")
    for _ = 1, 200 do
      assert.equal("ok", assert(sockets.ask(server.port, "GET", "/")).body)
      server.process:err()
    end
    local count = select(2, server.process:err():gsub('"msg":"failed"', ""))
    assert.is_true(count > 100, count)
    process.signal(control, "CONT")
    assert.equal(0, server:stop())
    local seen, info, dropped, told = {}, 0, { info = 0 }, 0
    for line in (server.process:err() .. process.slurp(path)):gmatch("(%b{})\n") do
      local r = json.decode(line)
      if r.msg == "failed" then
        assert.is_nil(seen[r.i])
        seen[r.i] = true
        assert.same({ "GET /", "error", 3000 }, { r.route, r.level, #r.text })
      elseif r.msg == "as well" or r.target then
        info = info + 1
      elseif r.msg:find("dropped", 1, true) then
        dropped = r
      elseif r.msg:find("written to stderr", 1, true) then
        told = told + r.error
      end
    end
    assert.equal(count, told)
    assert.equal(2000, #seen)
    assert.equal(2000 + 200, info + dropped.info)
    assert.is_nil(dropped.error)
  end)

  it("samples what is logged too often, and tells how much was left out", function()
    local server = process.server({
      args = { "--set", "log.sample_first=5", "--set", "log.sample_then=100" },
      app = { ["app.lua"] = [[
        local P = require("perilune")
        local app = P.app()
        app:get("/", function()
          for i = 1, 1000 do
            P.log.info("often", "i", i)
            P.log.error("never", "i", i)
          end
          P.log.info("once")
          return "ok"
        end)
        return app
      ]] } })
    for _ = 1, 3 do
      assert(sockets.ask(server.port, "GET", "/"))
    end
    assert.equal(0, server:stop())
    local count, away = { often = 0, never = 0, once = 0 }, {}
    for _, r in ipairs(records(server:log())) do
      if count[r.msg] then
        count[r.msg] = count[r.msg] + 1
      elseif r.msg == "log records sampled away" then
        assert.equal("info", r.level)
        away[r.of] = (away[r.of] or 0) + r.count
      end
    end
    assert.same({ 3000, 3 }, { count.never, count.once })
    assert.is_true(count.often < 150, count.often)
    assert.same({ often = 3000 - count.often }, away)
  end)

  it("has that share of requests that log.access_sample says, and all that failed", function()
    local server = process.server({ args = { "--set", "log.access_sample=25%" }, app = {
      ["app.lua"] = [[
        local P = require("perilune")
        local app = P.app()
        app:get("/fine", function() return "ok" end)
        app:get("/failed", function(c) return c:problem(503) end)
        return app
      ]] } })
    local wire = assert(sockets.connect(server.port))
    for _, name in ipairs({ "fine", "failed" }) do
      wire:send(("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(name):rep(2000))
      for _ = 1, 2000 do
        assert(wire:response())
      end
    end
    assert.equal(0, server:stop())
    local count = { ["/fine"] = 0, ["/failed"] = 0 }
    for _, r in ipairs(records(server:log())) do
      if r.target then
        count[r.target] = count[r.target] + 1
      end
    end
    assert.equal(2000, count["/failed"])
    assert.is_true(count["/fine"] > 300 and count["/fine"] < 700, count["/fine"])
  end)

  it("shows those fields of a request that log.access_fields names, also after a reload", function()
    local server = process.server({ app = {
      ["config.lua"] = 'return { log = { access_fields = { "status", "target" } } }',
      ["app.lua"] = [[
        local app = require("perilune").app()
        app:get("/a", function() return "ok" end)
        return app
      ]] } })
    assert(sockets.ask(server.port, "GET", "/a"))
    assert.matches('"msg":"request","target":"/a","status":200}',
      server:wait_log('("msg":"request"[^\n]*)\n'), 1, true)
    local function change(generation, log)
      local config = assert(io.open(server.app .. "/config.lua", "w"))
      config:write("return { log = " .. log .. " }")
      config:close()
      server.process:kill("HUP")
      assert(server:wait_log('(a generation is served)[^\n]*"generation":' .. generation))
      assert(sockets.ask(server.port, "GET", "/a"))
    end
    change(2, '{ access_fields = "method" }')
    assert(server:wait_log('("msg":"request","method":"GET"})'))
    change(3, "{ access_sample = 0 }")
    assert.equal(0, server:stop())
    assert.equal(2, select(2, server:log():gsub('"msg":"request"', "")))
  end)

  it("name the same route in all workers, in whatever order an app registers", function()
    local server = process.server({ workers = 2, app = { ["app.lua"] = [[
      local P = require("perilune")
      local app = P.app()
      local names = {}
      for i = 1, 50 do
        names["route" .. i] = true
      end
      for name in pairs(names) do -- in an order of each process's own
        app:get("/" .. name, function() return name end)
      end
      return app
    ]] } })
    for i = 1, 50 do
      assert.equal("route" .. i, assert(sockets.ask(server.port, "GET", "/route" .. i)).body)
    end
    server:stop()
    local seen = {}
    for route, target in server:log():gmatch('"route":"GET (/%w+)"[^\n]-"target":"(/%w+)"') do
      assert.equal(target, route)
      seen[#seen + 1] = route
    end
    assert.equal(50, #seen)
  end)
end)
