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
  local IN_WORDS = { name = true, pid_file = true, user = true, group = true,
    ["admin.token"] = true, ["context.trusted"] = true, ["otlp.endpoint"] = true,
    ["otlp.traces_endpoint"] = true, ["otlp.metrics_endpoint"] = true,
    ["otlp.logs_endpoint"] = true, ["otlp.headers"] = true, ["otlp.traces_headers"] = true,
    ["otlp.metrics_headers"] = true, ["otlp.logs_headers"] = true, ["otlp.service"] = true,
    ["otlp.resource"] = true, ["recorder.folder"] = true }
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
--
-- Nothing here lists what there is. The modules are found from P, by the types of its fields; the
-- methods and fields of an object are those of a real one, which EXAMPLES makes; the options of a
-- function are those that it asks a table for, or takes where it refuses others. A class of the
-- library that none of these reaches is a fault, so whoever adds one adds its example.

local LIBRARY = "lua/perilune/library"

---@class spec.Class
---@field parent string?
---@field fields table<string, string> name -> type
---@field methods table<string, { count: integer, is_vararg: boolean }>
---@field faults string[]

--- Takes apart "function Dict:get(key) end".
local function parse_function(line)
  local owner, separator, name, parameters = line:match("^function (%w+)([.:])([%w_]+)(%b()) end$")
  if not owner then
    return nil
  end
  local list = {}
  for parameter in parameters:gmatch("[%w_.]+") do
    list[#list + 1] = parameter
  end
  return { owner = owner, name = name, parameters = list, is_method = separator == ":",
    is_vararg = list[#list] == "..." }
end

--- What is wrong with the annotations over a function.
local function faults_of(fn, comment, at)
  local faults, said = {}, {}
  if #comment == 0 then
    faults[1] = at .. " is not explained"
  end
  for _, line in ipairs(comment) do
    local name = line:match("^%-%-%-@param ([%w_.]+)")
    said[#said + 1] = name
  end
  if table.concat(said, " ") ~= table.concat(fn.parameters, " ") then
    faults[#faults + 1] = ("%s(%s) has annotations for (%s)"):format(at,
      table.concat(fn.parameters, ", "), table.concat(said, ", "))
  end
  return faults
end

--- What a text of the library says: classes, aliases, and the types that it names.
local function read_text(text, name, library)
  local of_local, class, comment = {}, nil, {}
  for line in text:gmatch("([^\n]*)\n") do
    local declared, parent = line:match("^%-%-%-@class ([%w_.]+):? ?([%w_.]*)$")
    if declared then
      class = { parent = parent ~= "" and parent or nil, fields = {}, methods = {}, faults = {} }
      assert(not library.classes[declared], declared .. " is there twice")
      library.classes[declared] = class
    end
    local field, kind = line:match("^%-%-%-@field ([%w_]+)%??%s+(.*)$")
    if field then
      class.fields[field] = kind
    end
    local alias = line:match("^%-%-%-@alias ([%w_.]+)")
    if alias then
      library.aliases[alias] = true
    end
    if line:find("^%-%-%-@%l+ ") then
      for word in line:gmatch("%f[%w_.]perilune[%w_.]*%f[^%w_.]") do
        library.named[word:gsub("%.+$", "")] = name
      end
    end
    local variable = line:match("^local ([%w_]+) = {}$")
    if variable then
      of_local[variable] = class
    end
    local fn = parse_function(line)
    if fn then
      local owner = assert(of_local[fn.owner], name .. ": whose is " .. line)
      owner.methods[fn.name] = {
        count = #fn.parameters - (fn.is_vararg and 1 or 0) + (fn.is_method and 1 or 0),
        is_vararg = fn.is_vararg,
      }
      for _, fault in ipairs(faults_of(fn, comment, name .. ": " .. fn.name)) do
        table.insert(owner.faults, fault)
      end
    else
      assert(not line:find("^function"), name .. ": " .. line)
    end
    comment = line:sub(1, 3) == "---" and comment or {}
    if line:sub(1, 3) == "---" then
      comment[#comment + 1] = line
    end
  end
end

--- What the library says, and its files. What a class inherits is among its own.
local function read_library()
  local library, texts = { classes = {}, aliases = {}, named = {} }, {}
  for name in lfs.dir(LIBRARY) do
    if name:find("%.lua$") then
      texts[name] = slurp(LIBRARY .. "/" .. name)
      read_text(texts[name], name, library)
    end
  end
  for _, class in pairs(library.classes) do
    local parent = class.parent
    while parent do
      local from = assert(library.classes[parent], parent)
      for _, part in ipairs({ "fields", "methods" }) do
        for name, value in pairs(from[part]) do
          class[part][name] = class[part][name] or value
        end
      end
      parent = from.parent
    end
  end
  return library, texts
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

--- The public names of a table or object: its own, and those it gets by `__index`.
---@return { methods: table<string, function>, fields: table<string, true> }
local function public_names(object)
  local is, at = { methods = {}, fields = {} }, object
  while type(at) == "table" do
    for name, value in pairs(at) do
      if type(name) == "string" and not name:find("^_") then
        if type(value) == "function" then
          is.methods[name] = is.methods[name] or value
        else
          is.fields[name] = true
        end
      end
    end
    local meta = getmetatable(at)
    at = meta and meta.__index
  end
  assert(at == nil, "an object with an __index that is no table")
  return is
end

--- The modules that P leads to: class -> table.
local function modules_of(library, P)
  local found = {}
  local function visit(class, value)
    found[class] = value
    for name, one in pairs(value) do
      local kind = type(one) == "table" and library.classes[class].fields[name]
      if kind then
        local of = kind:match("^[%w_.]+")
        if library.classes[of] then
          visit(of, one)
        else -- data; what has functions is to have a class
          for key, inner in pairs(one) do
            assert(type(inner) ~= "function", ("%s.%s.%s has no class"):format(class, name, key))
          end
        end
      end
    end
  end
  visit("perilune", P)
  found["perilune.test"] = test
  return found
end

local FORM = "--x\r\nContent-Disposition: form-data; name=f; filename=a\r\n"
  .. "Content-Type: text/plain\r\n\r\nbytes\r\n--x--\r\n"

--- Runs a handler; what it returns is what this returns.
local function in_handler(fn, opts)
  local P = require("perilune")
  local app, result = P.app {}, nil
  app:post("/", function(c)
    result = fn(c)
    return c._body == false and "ok" or c
  end)
  test.app(app):post("/", opts)
  return result
end

--- Class -> a function that gives a real object of it, with all its optional fields.
local EXAMPLES = {
  ["perilune.App"] = function(P) return P.app { title = "docs" } end,
  ["perilune.Scope"] = function(P) return P.app {}:group("/x") end,
  ["perilune.Dict"] = function(P) return P.shared.dict("docs", { capacity = "64K" }) end,
  ["perilune.DictStats"] = function(P)
    return P.shared.dict("docs", { capacity = "64K" }):stats()
  end,
  ["perilune.Counter"] = function(P) return P.shared.counter("docs") end,
  ["perilune.metric.Counter"] = function(P) return P.metric.counter("docs_total", "Docs.") end,
  ["perilune.metric.Gauge"] = function(P) return P.metric.gauge("docs_size", "Docs.") end,
  ["perilune.metric.Histogram"] = function(P)
    return P.metric.histogram("docs_seconds", "Docs.")
  end,
  ["perilune.CurrentContext"] = function(P)
    return in_handler(function(c)
      c.tenant = "docs"
      return P.context.current()
    end, { headers = { traceparent = "00-" .. ("1"):rep(32) .. "-" .. ("2"):rep(16) .. "-01" } })
  end,
  ["perilune.Task"] = function(P) return P.detach("none", function() end) end,
  ["perilune.Channel"] = function(P) return P.channel() end,
  ["perilune.Out"] = function()
    local out
    in_handler(function(c) return c:stream(function(o) out = o end) end)
    return out
  end,
  ["perilune.Events"] = function()
    local out
    in_handler(function(c) return c:sse(function(o) out = o end) end)
    return out
  end,
  ["perilune.File"] = function()
    return in_handler(function(c)
      local _, files = c:form()
      return files[1]
    end, { body = FORM, headers = { ["content-type"] = "multipart/form-data; boundary=x" } })
  end,
  ["perilune.test.Api"] = function(P) return test.app(P.app {}) end,
  ["perilune.test.Response"] = function(P) return test.app(P.app {}):get("/") end,
  ["perilune.test.Connection"] = function(P)
    local connection = test.app(P.app {}):connect()
    connection:close()
    return connection
  end,
}

local SHOW = function() end -- a handler

--- Class of options -> a function that gives them to what takes them. Fields that are only asked
--- for in passing need a value: they come from `opts`.
local OPTIONS = {
  ["perilune.AppOptions"] = function(P, opts) P.app(opts) end,
  ["perilune.HealthOptions"] = function(P, opts) P.app {}:health("x", opts, SHOW) end,
  ["perilune.ActionOptions"] = function(P, opts)
    local given = { when = opts.when or "p99 > 1" } -- it is needed
    for name, value in pairs(opts) do
      given[name] = value
    end
    P.app {}:action("x", setmetatable(given, getmetatable(opts)), "collect")
  end,
  ["perilune.RouteOptions"] = function(P, opts) P.app {}:get("/", opts, SHOW) end,
  ["perilune.EveryOptions"] = function(P, opts)
    local task = require("perilune.task")
    task.begin_loading()
    local ok, err = pcall(P.every, 1, "docs", opts, SHOW)
    task.end_loading()
    assert(ok, err)
  end,
  ["perilune.DictOptions"] = function(P, opts) P.shared.dict("docs", opts) end,
  ["perilune.CookieOptions"] = function(_, opts)
    assert(in_handler(function(c) return { pcall(c.set_cookie, c, "a", "b", opts) } end)[1])
  end,
  ["perilune.FileOptions"] = function(_, opts)
    assert(in_handler(function(c) return { pcall(c.file, c, "README.md", opts) } end)[1])
  end,
  ["perilune.test.Options"] = function(_, opts) test.app("apps/hello", opts) end,
  ["perilune.test.RequestOptions"] = function(P, opts)
    local app = P.app {}
    app:get("/", function() error("on purpose") end)
    local ok, err = pcall(test.app(app).get, test.app(app), "/", opts)
    assert(ok or not err:find("no option", 1, true), err)
  end,
}

--- The options that a function knows: those it asks a table for, and of `documented` those that it
--- takes where it refuses one that nobody knows.
---@return table<string, true>
local function known_options(use, P, documented)
  local known = {}
  use(P, setmetatable({}, { __index = function(_, name)
    if type(name) == "string" then
      known[name] = true
    end
  end }))
  if not pcall(use, P, { no_such_option = "x" }) then
    for name in pairs(documented) do
      known[name] = known[name] or pcall(use, P, { [name] = "1" }) or nil
    end
  end
  return known
end

--- The public names of the code: class -> { methods, fields }.
local function read_code(library)
  local P = require("perilune")
  local code = {}
  for class, module in pairs(modules_of(library, P)) do
    code[class] = public_names(module)
  end
  for class, make in pairs(EXAMPLES) do
    code[class] = public_names(assert(make(P), class))
  end
  for class, use in pairs(OPTIONS) do
    code[class] = { methods = {},
      fields = known_options(use, P, assert(library.classes[class], class).fields) }
  end
  -- A context answers by functions; these are the tables that they look into.
  local index = require("perilune.context").Context.__index
  local names = public_names(upvalue(index, "Methods"))
  for name in pairs(upvalue(index, "readers")) do
    names.fields[name] = true
  end
  code["perilune.Context"] = names
  return code
end

local function names_of(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

--- What the library and the code do not agree about.
---@return string[]
local function differences(library, code)
  local list = {}
  local function compare(class, part, said, is)
    for name in pairs(said) do
      if is[name] == nil then
        list[#list + 1] = ("%s: the library makes up %s (%s)"):format(class, name, part)
      end
    end
    for name in pairs(is) do
      if said[name] == nil then
        list[#list + 1] = ("%s: the library lacks %s (%s)"):format(class, name, part)
      end
    end
  end
  for class, is in pairs(code) do
    local said = library.classes[class]
    if said then
      compare(class, "method", said.methods, is.methods)
      compare(class, "field", said.fields, is.fields)
    else
      list[#list + 1] = class .. " is missing"
    end
  end
  for class in pairs(library.classes) do
    if not code[class] then
      list[#list + 1] = class .. " is nothing that this spec can make: give it an example"
    end
  end
  for name, file in pairs(library.named) do
    if not library.classes[name] and not library.aliases[name] then
      list[#list + 1] = ("%s names %s, which is not there"):format(file, name)
    end
  end
  table.sort(list)
  return list
end

describe("the LuaLS library", function()
  local library, texts = read_library()
  local classes = library.classes
  local code

  lazy_setup(function()
    code = read_code(library)
  end)

  it("is Lua that loads, marked as annotations", function()
    local count = 0
    for name, text in pairs(texts) do
      count = count + 1
      assert(loadstring(text, "@" .. name))
      assert.matches("^%-%-%-@meta [%w_.]+\n", text)
    end
    assert.is_true(count > 5)
  end)

  it("has the public names of each module, object and table of options, and no others", function()
    assert.same({}, differences(library, code))
    local count = 0
    for _, is in pairs(code) do
      count = count + #names_of(is.methods) + #names_of(is.fields)
    end
    assert.is_true(#names_of(code) > 20 and count > 150)
  end)

  it("would be found out: a name too many, one too few, a module without a class", function()
    local function after(pattern, replacement)
      local text, count = texts["log.lua"]:gsub(pattern, replacement)
      assert.equal(1, count)
      local other = { classes = {}, aliases = {}, named = {} }
      read_text(text, "log.lua", other)
      return table.concat(differences(other, { ["perilune.log"] = code["perilune.log"] }), "\n"),
        table.concat(other.classes["perilune.log"].faults, "\n")
    end
    assert.equal("perilune.log: the library lacks warn (method)",
      (after("\nfunction log.warn[^\n]*", "")))
    assert.equal("perilune.log: the library lacks warn (method)\n"
      .. "perilune.log: the library makes up warm (method)",
      (after("\nfunction log.warn", "\nfunction log.warm")))
    assert.equal("log.lua names perilune.log.Field, which is not there",
      (after("@param fields%? perilune.log.Fields(|string\n[^\n]*\nfunction log.warn)",
        "@param fields? perilune.log.Field%1")))
    assert.equal("log.lua: warn(text, fields, ...) has annotations for (message, fields, ...)",
      select(2, after("log.warn%(message", "log.warn(text")))
    local P = { log = require("perilune.log"), later = { run = function() end } }
    local ok, err = pcall(function()
      modules_of({ classes = {
        perilune = { fields = { log = "perilune.log", later = "table" } },
        ["perilune.log"] = classes["perilune.log"],
      } }, P)
    end)
    assert.is_false(ok)
    assert.matches("perilune.later.run has no class", err, 1, true)
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

  it("explains each function, with the parameters that it has, in their order", function()
    for _, said in pairs(classes) do
      assert.same({}, said.faults)
    end
  end)

  it("is told of in README.md, function by function", function()
    local PREFIX = {
      ["perilune"] = "P.", ["perilune.json"] = "P.json.", ["perilune.Scope"] = "app:",
      ["perilune.App"] = "app:", ["perilune.Context"] = "c:", ["perilune.Out"] = "out:",
      ["perilune.Events"] = "out:", ["perilune.Task"] = "task:", ["perilune.Channel"] = "channel:",
      ["perilune.log"] = "P.log.",
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
