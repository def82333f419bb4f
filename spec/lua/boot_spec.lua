local boot = require("perilune.boot")
local check = require("perilune.check")
local json = require("perilune.json")
local test = require("perilune.test")

--- A folder with these files, removed behind `use(folder)`.
local function with_files(files, use)
  local folder = os.tmpname()
  os.remove(folder)
  assert(os.execute("mkdir -p '" .. folder .. "'") == 0)
  for name, text in pairs(files) do
    local file = assert(io.open(folder .. "/" .. name, "w"))
    file:write(text)
    file:close()
  end
  local ok, err = pcall(use, folder)
  for name in pairs(files) do
    os.remove(folder .. "/" .. name)
  end
  os.remove(folder)
  if not ok then
    error(err, 0)
  end
end

local HEAD = "local P = require('perilune')\nlocal app = P.app()\n"

describe("loading an app", function()
  it("takes a file, or a folder with app.lua in it", function()
    assert.equal("apps/hello/app.lua", boot.locate("apps/hello").file)
    assert.equal("apps/hello", boot.locate("apps/hello/").folder)
    assert.equal("apps/hello", boot.locate("apps/hello/app.lua").folder)
    assert.matches("no such file", select(2, boot.locate("apps/none")))
  end)

  it("puts the app's folder first on package.path", function()
    with_files({
      ["app.lua"] = HEAD .. "app:get('/', function() return require('own_name').x end)\nreturn app",
      ["own_name.lua"] = "return { x = 'own' }",
    }, function(folder)
      assert.equal("own", test.app(folder):get("/").body)
    end)
  end)

  it("gives a fresh app each time in specs", function()
    with_files({
      ["app.lua"] = HEAD .. "local s = require('state_name')\n"
        .. "app:get('/', function() s.n = s.n + 1 return tostring(s.n) end)\nreturn app",
      ["state_name.lua"] = "return { n = 0 }",
    }, function(folder)
      local api = test.app(folder)
      api:get("/")
      assert.equal("2", api:get("/").body)
      assert.equal("1", test.app(folder):get("/").body)
    end)
  end)

  it("fails with file:line of the module where a module has a syntax error", function()
    with_files({ ["app.lua"] = "\nrequire('wrong')", ["wrong.lua"] = "\n\nx = = 1" },
      function(folder)
        local ok, err = pcall(boot.load, folder)
        assert.is_false(ok)
        assert.equal(1, (err:find(folder .. "/wrong.lua:3: unexpected symbol", 1, true)), err)
        assert.is_truthy(err:find(folder .. "/app.lua:2: in main chunk", 1, true), err)
        assert.is_nil(err:find("boot.lua", 1, true), err)
      end)
  end)

  for what, case in pairs({
    ["a syntax error"] = { "local x = = 1", "app.lua:1: unexpected symbol" },
    ["an error at the top level"] = { "\n\nerror('top')", "app.lua:3: top" },
    ["a file that returns no app"] = { "return 5", "app.lua:1: the file returns a number" },
  }) do
    it("fails with file:line for " .. what, function()
      with_files({ ["app.lua"] = case[1] }, function(folder)
        local ok, err = pcall(boot.load, folder)
        assert.is_false(ok)
        assert.equal(1, (err:find(folder .. "/" .. case[2], 1, true)), err)
      end)
    end)
  end

  it("starts what P.every and P.detach have registered when it serves", function()
    with_files({
      ["app.lua"] = HEAD .. [[
local ticks, started = 0, false
P.every("1m", "tick", function() ticks = ticks + 1 end)
P.every("1m", "fails", function() error("every") end)
P.detach("once", function() started = true end)
app:get("/", function() return { ticks, started } end)
return app]],
    }, function(folder)
      local api = test.app(folder, { timers = true })
      assert.same({ 0, true }, (function() api:advance(0) return api:get("/"):json() end)())
      api:advance("61s")
      api:advance("61s")
      assert.same({ 2, true }, api:get("/", { allow_error = true }):json())
      local still = test.app(folder)
      still:advance("61s")
      assert.same({ 0, false }, still:get("/", { allow_error = true }):json())
    end)
  end)
end)

describe("perilune check", function()
  local function faults_of(files)
    local faults
    with_files(files, function(folder)
      faults = check.run(folder)
      for i, fault in ipairs(faults) do
        faults[i] = fault:gsub("^" .. folder:gsub("%p", "%%%0") .. "/", "")
      end
    end)
    return faults
  end

  it("finds nothing wrong with the apps of this project", function()
    for _, app in ipairs({ "apps/hello", "apps/notes", "apps/files" }) do
      assert.same({}, check.run(app))
    end
  end)

  it("finds syntax errors, also in modules, and missing modules", function()
    local faults = faults_of({
      ["app.lua"] = HEAD .. "require('broken_name')\n-- require('commented')\n"
        .. "local x = require 'missing_name'\nreturn app",
      ["broken_name.lua"] = "\nlocal = 5",
    })
    assert.equal(2, #faults)
    assert.matches("^broken_name.lua:2: ", faults[1])
    assert.equal('app.lua:5: there is no module "missing_name"', faults[2])
  end)

  it("finds all route conflicts, naming both places", function()
    local faults = faults_of({
      ["app.lua"] = HEAD .. "local function h() end\n"
        .. "app:get('/a', h)\napp:get('/a', h)\n"
        .. "app:get('/b/:x', h)\napp:get('/b/:y', h)\nreturn app",
    })
    assert.equal(2, #faults)
    assert.matches("^app.lua:5: GET /a is registered already, at .*app.lua:4$", faults[1])
    assert.matches("^app.lua:7: GET /b/:y is registered already, at .*app.lua:6$", faults[2])
  end)

  it("finds a handler that is no function", function()
    local faults = faults_of({ ["app.lua"] = HEAD .. "app:get('/a', nil)\nreturn app" })
    assert.matches("^app.lua:3: the handler of a route is a function, not a nil", faults[1])
  end)
end)

describe("perilune routes", function()
  it("lists method, pattern, the handler's place and the middleware", function()
    local text = boot.routes("apps/notes")
    assert.matches("METHOD%s+PATTERN%s+HANDLER%s+MIDDLEWARE\n", text)
    assert.matches("GET%s+/notes/:id<int>%s+apps/notes/app.lua:%d+%s+apps/notes/app.lua:%d+ ",
      text)
  end)

  it("is JSON on demand", function()
    local list = json.decode(boot.routes("apps/hello", "json"))
    assert.equal(2, #list)
    assert.equal("/", list[1].pattern)
    assert.equal("GET", list[1].method)
    assert.matches("^apps/hello/app.lua:%d+$", list[1].handler)
  end)
end)
