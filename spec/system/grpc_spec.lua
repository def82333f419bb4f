--- grpc.health.v1 on the admin plane's port, asked by clients that others have written: grpcio
--- for Python, grpc-js for Node.

local process = require("spec.support.process")

local HEAD = 'local P = require "perilune"\nlocal app = P.app {}\n'
  .. 'app:get("/loop", function() P.atomic(function() while true do end end) end)\n'
local DB = [[
  app:health("db", { every = "20ms", failure_threshold = 1 }, function()
    local file = io.open(%q)
    if file then file:close() return nil, "the database is away" end
    return true
  end)
]]
local TOKEN = "a-secret-of-16-and-more"

-- python3 may be one that Debian's packages are not for.
local CLIENTS = {
  { name = "grpcio", argv = { "/usr/bin/python3", "spec/support/grpc/client.py" },
    look = { "/usr/bin/python3", "-c", "import grpc" } },
  { name = "grpc-js", argv = { "node", "spec/support/grpc/client.js" },
    look = { "node", "-e", "require('./spec/support/grpc/node_modules/@grpc/grpc-js')" } },
}

local function is_there(argv)
  local look = process.spawn({ "sh", "-c", 'exec "$@" 2>/dev/null', "sh", unpack(argv) })
  local code = look:wait()
  process.cleanup()
  return code == 0
end

local function start(text, opts)
  opts = opts or {}
  local folder = process.folder({ ["app.lua"] = HEAD .. (text or "") .. "return app\n" })
  local args = { "run", folder, "--listen", "127.0.0.1:0", "--workers", "2",
    "--set", "admin.listen=127.0.0.1:0" }
  for _, more in ipairs(opts.args or {}) do
    args[#args + 1] = more
  end
  local p = process.start(args, { env = { XDG_RUNTIME_DIR = process.folder(),
    PERILUNE_ADMIN_TOKEN = opts.token } })
  local line = assert(p:wait_for("err", "serving ([^\n]*admin plane on [^\n]+)\n"), p:err())
  return { process = p, app = folder, port = line:match(":(%d+)"), admin = line:match(":(%d+)$") }
end

local function spawn(client, port, commands, env)
  local argv = { unpack(client.argv) }
  argv[#argv + 1] = "127.0.0.1:" .. port
  for _, command in ipairs(commands) do
    argv[#argv + 1] = command
  end
  return process.spawn(argv, { env = env })
end

--- What a client prints, as a list of lines.
local function ask(client, port, commands, env)
  local p = spawn(client, port, commands, env)
  assert.equal(0, p:wait(30), p:out() .. p:err())
  local lines = {}
  for line in p:out():gmatch("[^\n]+") do
    lines[#lines + 1] = line
  end
  return lines
end

--- What List tells, without the rules of our own but `workers`.
---@return table<string, string> statuses
---@return string? state the trailer
local function list(client, port, env)
  local line = assert(ask(client, port, { "list" }, env)[1]:match("^list (.*)$"))
  local found = {}
  for name, status in line:gmatch("'([^']*)'=(%S+)") do
    found[name] = status
  end
  for _, name in ipairs({ "errors", "loop", "memory" }) do
    assert.is_string(found[name], name)
    found[name] = nil
  end
  return found, line:match(" (%u+)$")
end

--- Waits until readiness is what is wanted.
local function becomes(client, s, line)
  assert(process.eventually(function()
    return ask(client, s.admin, { "check:" })[1] == line
  end, 20), line)
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

for _, client in ipairs(CLIENTS) do
  describe("grpc.health.v1, asked with " .. client.name .. ",", function()
    after_each(process.cleanup)

    if not is_there(client.look) then
      pending("is not tested (no " .. client.name .. " here: .ci/setup test installs it)")
      return
    end

    it("tells Check and List", function()
      local s = start(DB:format("/nowhere"))
      becomes(client, s, "check '' SERVING HEALTHY")
      assert.same({
        "check 'db' SERVING HEALTHY",
        "check 'live' SERVING HEALTHY",
        "check 'ready' SERVING HEALTHY",
        "check 'nobody' NOT_FOUND",
      }, ask(client, s.admin, { "check:db", "check:live", "check:ready", "check:nobody" }))
      local statuses, state = list(client, s.admin)
      assert.same({ [""] = "SERVING", db = "SERVING", live = "SERVING", ready = "SERVING",
        workers = "SERVING" }, statuses)
      assert.equal("HEALTHY", state)
    end)

    it("tells Watch of changes, and of the end", function()
      local flag = process.folder() .. "/bad"
      local s = start(DB:format(flag))
      becomes(client, s, "check '' SERVING HEALTHY")
      local watch = spawn(client, s.admin, { "watch:db" })
      assert.equal("watch 'db' SERVING", watch:line("out"))
      write(flag, "")
      assert.equal("watch 'db' NOT_SERVING", watch:line("out"))
      assert(os.remove(flag))
      assert.equal("watch 'db' SERVING", watch:line("out"))
      s.process:kill("TERM")
      assert.equal("watch 'db' UNAVAILABLE", watch:line("out"))
      assert.equal(0, s.process:wait(20))
    end)

    it("keeps a Watch of what is unknown open, until its deadline", function()
      local s = start()
      assert.same({ "watch 'later' SERVICE_UNKNOWN", "watch 'later' DEADLINE_EXCEEDED" },
        ask(client, s.admin, { "watch:later:0.3" }))
    end)

    it("tells a Watch of a check that comes with a reload", function()
      local s = start()
      local watch = spawn(client, s.admin, { "watch:db" })
      assert.equal("watch 'db' SERVICE_UNKNOWN", watch:line("out"))
      write(s.app .. "/app.lua", HEAD .. DB:format("/nowhere") .. "return app\n")
      s.process:kill("HUP")
      local line = watch:line("out")
      if line == "watch 'db' NOT_SERVING" then -- it has not been run yet
        line = watch:line("out")
      end
      assert.equal("watch 'db' SERVING", line)
    end)

    it("asks for the token, but for Check", function()
      local s = start(nil, { token = TOKEN })
      becomes(client, s, "check '' SERVING")
      assert.same({ "list UNAUTHENTICATED", "watch '' UNAUTHENTICATED" },
        ask(client, s.admin, { "list", "watch:" }))
      assert.same({ "list UNAUTHENTICATED" },
        ask(client, s.admin, { "list" }, { TOKEN = TOKEN .. "." }))
      local shown = { TOKEN = TOKEN }
      assert.same({ "check '' SERVING HEALTHY" }, ask(client, s.admin, { "check:" }, shown))
      assert.equal("SERVING", list(client, s.admin, shown).workers)
    end)

    it("answers while every worker hangs, and says so", function()
      local s = start(nil, { args = { "--set", "vm.stuck_timeout=60s" } })
      becomes(client, s, "check '' SERVING HEALTHY")
      for _ = 1, 8 do -- both workers get some
        process.spawn({ "curl", "-s", "http://127.0.0.1:" .. s.port .. "/loop" })
      end
      becomes(client, s, "check '' NOT_SERVING UNHEALTHY")
      local statuses, state = list(client, s.admin)
      assert.same({ [""] = "NOT_SERVING", live = "SERVING", ready = "NOT_SERVING",
        workers = "NOT_SERVING" }, statuses)
      assert.equal("UNHEALTHY", state)
      s.process:kill("INT")
      s.process:kill("INT")
      s.process:wait(10)
    end)

    it("sends clients over to the program that replaces this one", function()
      local s = start()
      becomes(client, s, "check '' SERVING HEALTHY")
      local watch = spawn(client, s.admin, { "watch:live" })
      assert.equal("watch 'live' SERVING", watch:line("out"))
      s.process:kill("USR2")
      local pid = tonumber(assert(s.process:wait_for("err", "replaced by process (%d+)")))
      assert.equal("watch 'live' UNAVAILABLE", watch:line("out"))
      assert.equal(0, s.process:wait(20))
      becomes(client, s, "check '' SERVING HEALTHY")
      process.signal(pid, "TERM")
      assert(process.eventually(function()
        return not process.is_alive(pid)
      end, 10))
    end)

    it("is never on the public port", function()
      local s = start()
      assert.same({ "check '' UNAVAILABLE" }, ask(client, s.port, { "check:" }))
    end)
  end)
end
