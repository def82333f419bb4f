--- `perilune new` and what it makes: all of it works at once.

local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

local function make(name)
  local place = process.folder()
  local r = process.run({ "new", name or "notes" }, { cwd = place })
  return r, place .. "/" .. (name or "notes")
end

local function has(program)
  return os.execute("command -v " .. program .. " >/dev/null 2>&1") == 0
end

describe("perilune new", function()
  after_each(process.cleanup)

  it("makes an app whose checks and specs pass, and that serves", function()
    local r, app = make()
    assert.equal(0, r.code, r.err)
    assert.matches("next:\n  cd notes", r.out)
    local check = process.run({ "check" }, { cwd = app })
    assert.equal(0, check.code, check.out .. check.err)
    local specs = process.run({ "test" }, { cwd = app })
    assert.equal(0, specs.code, specs.out .. specs.err)
    assert.matches("4 successes / 0 failures / 0 errors", specs.out)
    local s = process.server({ app = app })
    assert.matches(" notes", s.ready, 1, true)
    assert.matches("<h1>notes</h1>", wire.ask(s.port, "GET", "/").body)
    assert.equal(42, json.decode(wire.ask(s.port, "GET", "/double/21").body).double)
  end)

  it("leaves no placeholder behind", function()
    local _, app = make("my-app_2")
    local seen = 0
    for name in io.popen("find " .. app .. " -type f"):lines() do
      assert.is_nil(process.slurp(name):find("@%u+@"), name)
      seen = seen + 1
    end
    assert.equal(9, seen)
  end)

  it("points editors at annotations that are there", function()
    local _, app = make()
    local settings = assert(json.decode(process.slurp(app .. "/.luarc.json")))
    assert.equal("LuaJIT", settings["runtime.version"])
    local library = settings["workspace.library"][1]
    assert.matches("@meta perilune", process.slurp(library .. "/perilune.lua"))
  end)

  it("makes a unit that systemd of Debian 12 takes", function()
    local _, app = make()
    local unit = process.slurp(app .. "/notes.service")
    for _, line in ipairs({ "Type=notify", "NotifyAccess=main", "WatchdogSec=15",
      "RestartPreventExitStatus=65 78", "MemoryDenyWriteExecute=no" }) do
      assert.is_truthy(unit:find("\n" .. line .. "\n", 1, true), line)
    end
    assert.matches("\nExecReload=/[^\n]*/perilune reload %-%-pid%-file %%t/notes/pid\n", unit)
    if has("systemd-analyze") then
      local pipe = io.popen("systemd-analyze verify " .. app .. "/notes.service 2>&1; echo code $?")
      local said = pipe:read("*a")
      assert.matches("code 0", said)
    end
  end)

  it("makes a Containerfile whose commands are in exec form and whose sources are there", function()
    local _, app = make()
    local file = process.slurp(app .. "/Containerfile")
    local commands = 0
    for command in file:gmatch("CMD (%b[])") do
      assert.equal("perilune", assert(json.decode(command))[1])
      commands = commands + 1
    end
    assert.equal(2, commands)
    assert.matches("\nUSER app\n", file)
    assert.matches("PERILUNE_LISTEN=0.0.0.0:8080", file)
    assert.matches("\nFROM debian:bookworm%-slim\n", file)
    local sources = 0
    for source in file:gmatch("\nCOPY ([^%-%s]%S*) ") do
      assert.equal(".", source)
      sources = sources + 1
    end
    assert.equal(1, sources)
  end)

  it("refuses a folder that is not empty, and takes one that is", function()
    for _, name in ipairs({ "app.lua", "mine.txt", ".hidden" }) do
      local place = process.folder({ ["notes/" .. name] = "mine" })
      local r = process.run({ "new", "notes" }, { cwd = place })
      assert.equal(1, r.code)
      assert.matches("notes is there and not empty", r.err)
      assert.equal("mine", process.slurp(place .. "/notes/" .. name))
      assert.equal("notes\nnotes/" .. name .. "\n",
        io.popen("cd " .. place .. " && find notes | sort"):read("*a"))
    end
    local place = process.folder({ file = "" })
    assert(os.execute("mkdir " .. place .. "/empty") == 0)
    assert.equal(0, process.run({ "new", "empty" }, { cwd = place }).code)
    local file = process.run({ "new", "file" }, { cwd = place })
    assert.equal(1, file.code)
    assert.matches("file: Not a directory", file.err)
  end)

  it("makes settings for busted that name LuaJIT, and specs stay in the runtime", function()
    local _, app = make()
    local settings = loadstring(process.slurp(app .. "/.busted"))()
    assert.equal("luajit", settings.default.lua)
    local r = process.run({ "test" }, { cwd = app, env = { PATH = "/nowhere" } })
    assert.equal(0, r.code, r.out .. r.err)
  end)

  it("refuses names that are none", function()
    for _, name in ipairs({ "1st", "a b", "x/..", "ü", ("a"):rep(50) }) do
      local bad = process.run({ "new", name }, { cwd = process.folder() })
      assert.equal(1, bad.code, name)
      assert.matches("is no name for an app", bad.err)
    end
    assert.equal(2, process.run({ "new" }).code)
  end)
end)
