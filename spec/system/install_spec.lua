--- `make install`: what lies where, and that it works from there.

local process = require("spec.support.process")

local build = process.launcher():match("^(.*)/bin/perilune$")
local cache = build and process.slurp(build .. "/CMakeCache.txt")

--- Installs the build below a new folder, as if it were `prefix`.
local function install(prefix)
  local root = process.folder()
  local p = process.spawn({ "cmake", "--install", build, "--prefix", prefix },
    { env = { DESTDIR = root } })
  assert.equal(0, p:wait(60), p:err())
  return root .. prefix
end

local function run(program, args, opts)
  local p = process.spawn({ program, unpack(args) }, opts)
  return { code = p:wait(), out = p:out(), err = p:err() }
end

describe("what is installed", function()
  after_each(process.cleanup)

  if not cache then
    pending("(this launcher does not lie in a build)")
    return
  end

  it("makes apps that work, with its own template and annotations", function()
    local place = install("/opt/perilune")
    local home = process.folder()
    local made = run(place .. "/bin/perilune", { "new", "notes" }, { cwd = home })
    assert.equal(0, made.code, made.err)
    local app = home .. "/notes"
    assert.matches(place .. "/share/lua/5.1/perilune/library", process.slurp(app .. "/.luarc.json"),
      1, true)
    assert.matches("\nExecStart=" .. place .. "/bin/perilune run", process.slurp(app
      .. "/notes.service"), 1, true)
    local specs = run(place .. "/bin/perilune", { "test" }, { cwd = app })
    assert.equal(0, specs.code, specs.out .. specs.err)
  end)

  it("has a unit that starts the launcher of its prefix, and that systemd takes", function()
    local place = install("/usr")
    local unit = assert(process.slurp(place .. "/lib/systemd/system/perilune@.service"))
    assert.matches("\nExecStart=/usr/bin/perilune run /srv/%i ", unit, 1, true)
    assert.matches("\nExecReload=/usr/bin/perilune reload ", unit, 1, true)
    assert.is_nil(unit:find("@PERILUNE", 1, true))
    for _, line in ipairs({ "Type=notify", "WatchdogSec=15", "RestartPreventExitStatus=65 78",
      "DynamicUser=yes", "RuntimeDirectory=perilune/%i", "MemoryDenyWriteExecute=no" }) do
      assert.is_truthy(unit:find("\n" .. line .. "\n", 1, true), line)
    end
    if os.execute("command -v systemd-analyze >/dev/null 2>&1") == 0 then
      -- With a program that is there: this one is not installed really.
      local folder = process.folder({
        ["perilune@notes.service"] = unit:gsub("/usr/bin/perilune", process.launcher()),
      })
      local pipe = io.popen("systemd-analyze verify " .. folder
        .. "/perilune@notes.service 2>&1; echo code $?")
      assert.equal("code 0\n", pipe:read("*a"))
    end
  end)

  it("has a drop-in that does nothing before its comments are taken away", function()
    local place = install("/usr")
    local text = assert(process.slurp(place
      .. "/lib/systemd/system/perilune@.service.d/notify-reload.conf"))
    for line in text:gmatch("[^\n]+") do
      assert.equal("#", line:sub(1, 1))
    end
    assert.matches("\n#[Service]\n#Type=notify-reload\n#ExecReload=\n", text, 1, true)
  end)
end)
