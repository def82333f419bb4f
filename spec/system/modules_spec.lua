-- The launcher and its Lua modules: found from where the program lies, and
-- refused when they were made for another one.

local process = require("spec.support.process")

local APP = [[
local P = require "perilune"
local app = P.app {}
app:get("/", function() return "hello" end)
return app
]]

--- A copy of the launcher as an installation has it: bin/perilune beside share/lua/5.1.
---@param edit? fun(folder: string) what to change in its modules
local function installation(edit)
  local folder = process.folder({ ["app/app.lua"] = APP })
  local launcher = process.launcher()
  local modules = launcher:gsub("/bin/[^/]*$", "/share/lua/5.1/perilune/.")
  for _, command in ipairs({
    { "mkdir", "-p", folder .. "/bin", folder .. "/share/lua/5.1/perilune" },
    { "cp", launcher, folder .. "/bin/perilune" },
    { "cp", "-rL", modules, folder .. "/share/lua/5.1/perilune" },
  }) do
    assert.equal(0, process.spawn(command):wait())
  end
  if edit then
    edit(folder .. "/share/lua/5.1/perilune")
  end
  return folder
end

local function run(folder, ...)
  local started = process.spawn({ folder .. "/bin/perilune", ... }, { cwd = "/" })
  local code = started:wait()
  return { code = code, out = started:out(), err = started:err() }
end

local function rewrite(path, pattern, replacement)
  local file = assert(io.open(path, "rb"))
  local text, count = file:read("*a"):gsub(pattern, replacement)
  file:close()
  assert.equal(1, count)
  file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

describe("an installation", function()
  after_each(process.cleanup)

  it("runs from any folder, with the modules beside it", function()
    local folder = installation()
    local r = run(folder, "request", "GET", "/", "--app", folder .. "/app")
    assert.equal("", r.err)
    assert.equal("hello", r.out)
    assert.equal(0, r.code)
  end)

  it("refuses Lua modules that were made for another version of the core", function()
    local folder = installation(function(modules)
      rewrite(modules .. "/ffi.lua", "local ABI = %d+", "local ABI = 9999")
    end)
    local r = run(folder, "check", folder .. "/app")
    assert.not_equal(0, r.code)
    assert.matches("the Lua modules %(ABI 9999%) do not fit this launcher", r.err)
  end)

  it("says where it has looked for its modules when they are not there", function()
    local folder = installation(function(modules)
      os.remove(modules .. "/init.lua")
    end)
    local r = run(folder, "check", folder .. "/app")
    assert.not_equal(0, r.code)
    assert.matches("no " .. folder:gsub("%p", "%%%0") .. "/share/lua/5%.1", r.err)
  end)
end)
