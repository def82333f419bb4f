-- README.md and the LuaLS library say what is there, all of it, and nothing
-- else: the snippets are loaded and their requests sent, the tables compared
-- with the launcher, the annotations with the functions that they describe.
--
-- What a fence of README.md means:
--   lua app      a whole app
--   lua          registrations, between `local app = P.app {}` and `return app`
--   lua config   a configuration file
--   lua spec     a spec, for `perilune test`
--   text         requests to the app above: METHOD PATH [BODY]  →  STATUS [BODY]

local json = require("perilune.json")
local lfs = require("lfs")
local process = require("spec.support.process")
local test = require("perilune.test")

local function slurp(path)
  return assert(process.slurp(path), path .. " is not there")
end

local README = slurp("README.md")

-- Snippets -----------------------------------------------------------------------------

---@return { kind: string, text: string, line: integer }[]
local function blocks_of(text)
  local list, block, number = {}, nil, 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    local kind = line:match("^```(.*)$")
    if kind and block then
      block.text = table.concat(block, "\n") .. "\n"
      list[#list + 1], block = block, nil
    elseif kind then
      block = { kind = kind, line = number }
    elseif block then
      block[#block + 1] = line
    end
  end
  assert(not block, "the last block does not end")
  return list
end

local BEFORE = 'local P = require "perilune"\nlocal app = P.app {}\n'
local AFTER = "return app\n"

local BLOCKS = blocks_of(README)

local function files_of(block)
  local text = block.kind == "lua" and BEFORE .. block.text .. AFTER or block.text
  return { ["app.lua"] = text }
end

--- Reads one line of a `text` block.
---@return { method: string, path: string, body: string?, status: integer, answer: string }
local function parse_request(line)
  local left, status, answer = line:match("^(.-)%s+→%s+(%d%d%d)%s*(.*)$")
  assert(left, "not a request: " .. line)
  local method, path, body = left:match("^(%u+) (%S+)%s*(.*)$")
  assert(method, "not a request: " .. line)
  return { method = method, path = path, body = body ~= "" and body or nil,
    status = tonumber(status), answer = answer }
end

local function send(api, line)
  local want = parse_request(line)
  local is_json = want.body and want.body:find("^[{%[]")
  local r = api:request(want.method, want.path, {
    body = want.body, headers = is_json and { ["content-type"] = "application/json" } or nil,
    allow_error = true,
  })
  assert.equal(want.status, r.status, line)
  if want.answer:find("^[{%[]") then
    assert.same(json.decode(want.answer), r:json(), line)
  elseif want.answer ~= "" then
    assert.equal(want.answer, r.body, line)
  end
end

describe("a snippet of README.md", function()
  after_each(process.cleanup)

  local app_block
  local counts = { app = 0, request = 0, config = 0, spec = 0 }

  for _, block in ipairs(BLOCKS) do
    local at = ("(line %d)"):format(block.line)
    if block.kind == "lua" or block.kind == "lua app" then
      app_block = block
      counts.app = counts.app + 1
      it("is an app that perilune check finds nothing wrong with " .. at, function()
        local r = process.run({ "check", process.folder(files_of(block)) })
        assert.equal("", r.out .. r.err)
        assert.equal(0, r.code)
      end)
    elseif block.kind == "text" then
      local app = assert(app_block, "requests without an app " .. at)
      counts.request = counts.request + 1
      it("is answered as it says " .. at, function()
        local api = test.app(process.folder(files_of(app)))
        for line in block.text:gmatch("[^\n]+") do
          send(api, line)
        end
      end)
    elseif block.kind == "lua config" then
      counts.config = counts.config + 1
      it("is a configuration that is accepted " .. at, function()
        local folder = process.folder({ ["app.lua"] = BEFORE .. AFTER,
          ["config.lua"] = block.text })
        local r = process.run({ "config", folder, "--json" })
        assert.equal("", r.err)
        assert.equal(0, r.code)
      end)
    elseif block.kind == "lua spec" then
      counts.spec = counts.spec + 1
      it("is a spec that passes " .. at, function()
        local folder = process.folder({ ["readme_spec.lua"] = block.text })
        local r = process.run({ "test", folder .. "/readme_spec.lua" })
        assert.equal(0, r.code, r.out .. r.err)
        assert.matches("[1-9]%d* success", r.out)
      end)
    else
      it("is of a kind that this spec knows " .. at, function()
        assert.is_truthy(block.kind == "sh" or block.kind == "json", block.kind)
      end)
    end
  end

  it("is there for each kind", function()
    for kind, count in pairs(counts) do
      assert.is_true(count > 0, kind)
    end
  end)

  it("is refused by this spec where its answer differs", function()
    local api = test.app("apps/hello")
    send(api, 'GET /hello/x  →  200 {"hello":"x"}')
    assert.has_error(function() send(api, 'GET /hello/x  →  200 {"hello":"y"}') end)
    assert.has_error(function() send(api, "GET /hello/x  →  404") end)
    assert.has_error(function() send(api, "GET /hello/x") end)
  end)
end)

describe("the commands for the shell in README.md", function()
  local makefile = slurp("Makefile")

  it("name targets that the Makefile has", function()
    local seen = 0
    for target in README:gmatch("make (%l+)[ `\n]") do
      seen = seen + 1
      assert.is_truthy(makefile:find("\n" .. target .. ":", 1, true), "make " .. target)
    end
    assert.is_true(seen >= 8)
  end)

  it("name commands that the launcher has, but for those that are not there yet", function()
    local help, later = process.run({ "help" }).out, README:match("\n## Not there yet\n(.-)\n## ")
    local seen = 0
    for command in README:gmatch("[`\n]perilune (%l+)") do
      seen = seen + 1
      local is_there = help:find("\n  " .. command .. " ", 1, true)
      local comes = later:find("`perilune " .. command .. "`", 1, true)
      assert.is_true((is_there ~= nil) ~= (comes ~= nil), "perilune " .. command)
    end
    assert.is_true(seen > 10)
  end)
end)

-- Tables -------------------------------------------------------------------------------

--- The rows of the table whose head begins with `head`: cells by number.
local function rows_of(text, head)
  local from = assert(text:find("\n| " .. head .. " |", 1, true), "no table of " .. head)
  local rows, number = {}, 0
  for line in text:sub(from + 1):gmatch("([^\n]*)\n") do
    if line:sub(1, 1) ~= "|" then
      break
    end
    number = number + 1
    if number > 2 then -- behind the head and its rule
      local cells = {}
      for cell in line:gmatch("| ([^|]*) %f[|]") do
        cells[#cells + 1] = cell
      end
      rows[#rows + 1] = cells
    end
  end
  return rows
end

describe("the table of the configuration in README.md", function()
  -- What depends on the app, or on who starts it; README tells them in words.
  local IN_WORDS = { name = true, pid_file = true, user = true, group = true }
  local keys = json.decode(process.run({ "config", "--json" }).out).keys
  local rows, by_name = rows_of(README, "key"), {}

  for _, row in ipairs(rows) do
    by_name[row[1]:match("^`(.*)`$")] = row
  end

  it("has each key once, and no other", function()
    local wanted, named = {}, {}
    for i, key in ipairs(keys) do
      wanted[i] = key.key
    end
    for i, row in ipairs(rows) do
      named[i] = row[1]:match("^`(.*)`$")
    end
    table.sort(wanted)
    table.sort(named)
    assert.is_true(#wanted > 20)
    assert.same(wanted, named)
  end)

  for _, key in ipairs(keys) do
    it("tells the default of " .. key.key, function()
      local cell = by_name[key.key][2]
      if IN_WORDS[key.key] then
        assert.is_nil(cell:find("`", 1, true))
      else
        assert.equal((key.value:gsub("^auto %(%d+%)$", "auto")), cell:match("^`(.*)`$"))
      end
      assert.equal("default", key.source)
    end)
  end
end)

describe("the tables of the launcher in README.md", function()
  local help = process.run({ "help" }).out

  it("have each command once, and no other", function()
    local wanted, named = {}, {}
    for command in help:match("Commands\n(.-)\n\n"):gmatch("  (%l+) +%u[^\n]*") do
      wanted[#wanted + 1] = command
    end
    for _, row in ipairs(rows_of(README, "command")) do
      named[#named + 1] = row[1]:match("^`perilune (%l+)")
    end
    assert.is_true(#wanted > 5)
    assert.same(wanted, named)
  end)

  it("have each exit code, and no other", function()
    local wanted, named = {}, {}
    for code in help:match("Exit codes\n(.*)"):gmatch("(%d+) %l") do
      wanted[#wanted + 1] = code
    end
    for _, row in ipairs(rows_of(README, "exit code")) do
      named[#named + 1] = row[1]
    end
    assert.is_true(#wanted > 5)
    assert.same(wanted, named)
  end)

  it("name all options of run", function()
    for option in process.run({ "help", "run" }).out:gmatch("\n  (%-%-%l[%l-]*)") do
      assert.is_truthy(README:find("`" .. option .. " ", 1, true), option)
    end
  end)
end)

-- The library ---------------------------------------------------------------------------

local LIBRARY = "lua/perilune/library"

--- What the library says, class -> { methods, fields, undocumented }, and its files.
local function read_library()
  local classes, texts = {}, {}
  for name in lfs.dir(LIBRARY) do
    if name:find("%.lua$") then
      texts[name] = slurp(LIBRARY .. "/" .. name)
    end
  end
  for name, text in pairs(texts) do
    local of_local, class, comment = {}, nil, false
    for line in text:gmatch("([^\n]*)\n") do
      local declared = line:match("^%-%-%-@class ([%w_.]+)")
      if declared then
        class = { fields = {}, methods = {}, undocumented = {}, file = name }
        assert(not classes[declared], declared .. " is there twice")
        classes[declared] = class
      end
      local field = line:match("^%-%-%-@field ([%w_]+)")
      if field then
        class.fields[field:gsub("%?$", "")] = true
      end
      local variable = line:match("^local ([%w_]+) = {}$")
      if variable then
        of_local[variable] = class
      end
      local owner, colon, method, parameters =
        line:match("^function (%w+)([.:])([%w_]+)(%b()) end$")
      if owner then
        local said = of_local[owner]
        local count = select(2, parameters:gsub("[%w_]+", "")) + (colon == ":" and 1 or 0)
        said.methods[method] = {
          count = count, is_vararg = parameters:find("...", 1, true) ~= nil,
        }
        said.undocumented[method] = not comment or nil
      else
        assert(not line:find("^function"), name .. ": " .. line)
      end
      comment = line:sub(1, 3) == "---"
    end
  end
  return classes, texts
end

--- The value of a local that a function uses.
local function upvalue(fn, wanted)
  for i = 1, 250 do
    local name, value = debug.getupvalue(fn, i)
    if name == wanted then
      return value
    elseif not name then
      error("no upvalue " .. wanted)
    end
  end
end

--- The public names of the code: class -> { methods, fields }.
local function read_code()
  local P = require("perilune")
  local context = require("perilune.context")
  local respond = require("perilune.respond")
  local app = P.app()
  local api = test.app(P.app())
  local response = api:get("/")
  local connection = api:connect()
  connection:close()
  local inner = context.Context.__index
  local function index_of(object)
    return getmetatable(object).__index
  end
  local code = {}
  local function add(class, methods, fields)
    code[class] = { methods = {}, fields = {} }
    for name, value in pairs(methods) do
      local public = not tostring(name):find("^_")
      if public and type(value) == "function" then
        code[class].methods[name] = value
      elseif public then
        code[class].fields[name] = true
      end
    end
    for name in pairs(fields or {}) do
      code[class].fields[name] = true
    end
  end
  add("perilune", P)
  add("perilune.json", P.json)
  add("perilune.log", P.log)
  add("perilune.shared", P.shared)
  add("perilune.config", P.config)
  add("perilune.Dict", index_of(P.shared.dict("docs", { capacity = "64K" })), { name = true })
  add("perilune.Counter", index_of(P.shared.counter("docs")), { name = true })
  add("perilune.App", index_of(app), { title = true })
  add("perilune.Scope", index_of(app:group("/x")))
  add("perilune.Context", upvalue(inner, "Methods"), upvalue(inner, "readers"))
  add("perilune.Out", upvalue(respond.send_stream, "Out"))
  add("perilune.Events", upvalue(respond.send_events, "Events"))
  add("perilune.Task", index_of(P.detach("none", function() end)), { name = true })
  add("perilune.test", test)
  add("perilune.test.Api", index_of(api))
  local seen = {}
  for name in pairs(response) do
    seen[name] = true
  end
  add("perilune.test.Response", index_of(response), seen)
  add("perilune.test.Connection", index_of(connection), { closed = true })
  return code
end

describe("the LuaLS library", function()
  local classes, texts = read_library()
  local code

  lazy_setup(function()
    code = read_code()
  end)

  local function names_of(set)
    local list = {}
    for name in pairs(set) do
      list[#list + 1] = name
    end
    table.sort(list)
    return list
  end

  it("is Lua that loads, marked as annotations", function()
    local count = 0
    for name, text in pairs(texts) do
      count = count + 1
      assert(loadstring(text, "@" .. name))
      assert.matches("^%-%-%-@meta [%w_.]+\n", text)
    end
    assert.is_true(count > 5)
  end)

  it("has the public names of each class, and no others", function()
    for class, is in pairs(code) do
      local said = assert(classes[class], class .. " is missing")
      assert.same(names_of(is.methods), names_of(said.methods), class)
      assert.same(names_of(is.fields), names_of(said.fields), class)
    end
  end)

  it("has no class with methods that the code does not have", function()
    for class, said in pairs(classes) do
      assert.is_true(next(said.methods) == nil or code[class] ~= nil, class)
    end
  end)

  it("has the parameters that the functions have", function()
    local seen = 0
    for class, is in pairs(code) do
      for name, fn in pairs(is.methods) do
        local info, said = debug.getinfo(fn, "uS"), classes[class].methods[name]
        if info.what ~= "C" then
          seen = seen + 1
          local at = class .. "." .. name
          assert.equal(info.nparams, said.count, at)
          assert.equal(info.isvararg, said.is_vararg, at)
        end
      end
    end
    assert.is_true(seen > 60)
  end)

  it("says something about each function", function()
    for class, said in pairs(classes) do
      assert.same({}, names_of(said.undocumented), class)
    end
  end)

  it("is told of in README.md, function by function", function()
    local PREFIX = {
      ["perilune"] = "P.", ["perilune.json"] = "P.json.", ["perilune.Scope"] = "app:",
      ["perilune.App"] = "app:", ["perilune.Context"] = "c:", ["perilune.Out"] = "out:",
      ["perilune.Events"] = "out:", ["perilune.Task"] = "task:", ["perilune.log"] = "P.log.",
      ["perilune.shared"] = "P.shared.", ["perilune.config"] = "P.config.",
      ["perilune.Dict"] = "dict:", ["perilune.Counter"] = "counter:",
      ["perilune.test"] = "test.", ["perilune.test.Api"] = "api:",
      ["perilune.test.Response"] = "r:",
    }
    for class, prefix in pairs(PREFIX) do
      for name in pairs(code[class].methods) do
        local whole = prefix .. name
        assert.is_true(README:find(whole, 1, true) ~= nil or class == "perilune.log", whole)
      end
    end
    for name in pairs(code["perilune.Context"].fields) do
      assert.is_truthy(README:find("c." .. name, 1, true), "c." .. name)
    end
  end)
end)
