--- What the core calls: loads an app, runs its loop, serves the launcher's
--- commands. The first of our modules that a VM loads.

-- An app with hundreds of routes has a trace or more of each: with the stock limits (1,000 traces,
-- 512 KiB of machine code) all of them would be flushed again and again.
require("jit.opt").start("maxtrace=8000", "maxrecord=16000", "maxmcode=40960")

local wait = require("perilune.wait")
wait.install()

local app_module = require("perilune.app")
local compile = require("perilune.compile")
local core = require("perilune.core")
local keep = require("perilune.keep")
local runner = require("perilune.runner")
local task = require("perilune.task")
local traces = require("perilune.traces")

---@class perilune.boot
local M = {}

--- The main function of runners.
M.loop = runner.loop

--- What the core raises in code that must end.
M.tags = require("perilune.problem").by_code

require("perilune.hooks").install()

---@class perilune.Place
---@field file string the file to load
---@field folder string its folder, no slash at the end; absolute if the path was

--- The file and the folder of an app.
---@param path string a file, or a folder with app.lua in it
---@return perilune.Place? place
---@return string? err
function M.locate(path)
  path = path ~= "/" and path:gsub("/+$", "") or path
  if path:find("%.lua$") and core.is_source(path) then
    return { file = path, folder = path:match("^(.*)/[^/]*$") or "." }
  end
  local file = path == "." and "app.lua" or path .. "/app.lua"
  if core.is_source(file) then
    return { file = file, folder = path }
  end
  if core.is_source(path) then
    return { file = path, folder = path:match("^(.*)/[^/]*$") or "." }
  end
  return nil, ("%s: there is no such file, and no folder with app.lua in it"):format(path)
end

local ours = "" -- what use_folder has put before package.path

--- Puts the app's folder first on package.path, in the place of one before it.
---@param folder string
function M.use_folder(folder)
  local at, last = package.path:find(ours, 1, true)
  local rest = package.path:sub(1, at - 1) .. package.path:sub(last + 1)
  ours = ("%s/?.lua;%s/?/init.lua;"):format(folder, folder)
  package.path = ours .. rest
end

--- A message as "file:line: what", for errors that have no place at their beginning. What is
--- wrong with a module has its place in the module: `require` puts its caller's before it.
local function placed(file, err)
  local text = runner.message(err)
  local inner = text:match("^[^\n]-error loading module '[^\n]*' from file '[^\n]*':%s*(.*)$")
  if inner and inner:find("^[^\n:]+:%d+: ") then
    return inner
  end
  if text:find("^[^\n:]+:%d+: ") then
    return text
  end
  return ("%s:1: %s"):format(file, text)
end

local function describe(err)
  return { err = err, traceback = debug.traceback("", 2) }
end

--- Runs the file of an app.
---@param place perilune.Place
---@return perilune.App? app
---@return string? err "file:line: what"
---@return string? traceback
function M.evaluate(place)
  keep.begin_loading()
  local chunk, syntax = loadfile(place.file)
  if not chunk then
    return nil, placed(place.file, syntax)
  end
  local ok, result = xpcall(chunk, describe)
  if not ok then
    if type(result) ~= "table" then
      result = { err = result, traceback = "" }
    end
    return nil, placed(place.file, result.err), runner.trim(result.traceback)
  end
  if not app_module.is(result) then
    return nil, ("%s:1: the file returns a %s, not an app: end it with `return app`")
      :format(place.file, type(result))
  end
  return result
end

local is_watched = false -- the app that was loaded last has health checks or actions
local jobs = {} -- site -> what P.every and P.detach have registered

--- Loads an app and publishes its routes.
---@param path string
---@return integer site
---@return perilune.App app
function M.load(path)
  local place, missing = M.locate(path)
  if not place then
    error(missing, 0)
  end
  M.use_folder(place.folder)
  task.begin_loading()
  local app, err, traceback = M.evaluate(place)
  local registered = task.end_loading()
  if not app then
    error(traceback and traceback ~= "" and err .. "\n" .. traceback or err, 0)
  end
  local site, faults = M.publish(app, place.folder)
  if #faults > 0 then
    error(table.concat(faults, "\n"), 0)
  end
  jobs[site] = registered
  is_watched = #app_module.checks(app) + #app_module.actions(app) > 0
  return site, app
end

--- Whether somebody beside the workers has to load that app, too.
---@return string text empty: nobody
function M.is_watched()
  return is_watched and "+" or ""
end

--- Publishes an app; errors of its structure become faults, too.
---@param app perilune.App
---@param folder string?
---@return integer? site
---@return string[] faults
function M.publish(app, folder)
  local ok, site, faults = pcall(compile.publish, app, folder)
  if not ok then
    return nil, { runner.message(site) }
  end
  return site, faults
end

--- What takes a while and is better done before a worker serves.
function M.warm()
  require("perilune.interning").grow()
end

--- Starts the timers and detached tasks of an app: the worker serves now.
---@param site integer
function M.start(site)
  local list = jobs[site]
  jobs[site] = nil
  if core.worker() >= 0 then
    traces.watch()
    os.exit = function() -- luacheck: ignore 122
      error("os.exit would end a worker with all requests it has: raise an error instead", 2)
    end
  end
  if list then
    task.start(list, core.worker() == 0)
  end
end

--- What the generation that comes next gets of this one: what the app keeps, and where its
--- timers are.
---@return string
function M.keep_save()
  return keep.save(task.clocks())
end

--- Gets that before the app is loaded ...
M.keep_offer = keep.offer

--- ... and once more when it takes over.
---@param text string
function M.keep_adopt(text)
  task.inherit(keep.adopt(text))
end

--- Loads an app without publishing it.
---@param path string
---@return perilune.App
function M.read(path)
  local place, missing = M.locate(path)
  if not place then
    error(missing, 0)
  end
  M.use_folder(place.folder)
  task.begin_loading()
  local app, err, traceback = M.evaluate(place)
  task.end_loading()
  if not app then
    error(traceback and traceback ~= "" and err .. "\n" .. traceback or err, 0)
  end
  return app
end

-- The admin plane ---------------------------------------------------------------------

--- Loads the app for its health checks and actions; its routes are not served here.
---@param path string
function M.watch(path)
  local app = M.read(path)
  require("perilune.health").watch(app)
  require("perilune.admin.actions").watch(app)
end

--- What is known of checks, for the VM of the next generation ...
---@return string
function M.health_save()
  return require("perilune.health").save()
end

--- ... and in it.
---@param text string
function M.health_adopt(text)
  require("perilune.health").adopt(text)
end

--- The same of what actions have done.
---@return string
function M.actions_save()
  return require("perilune.admin.actions").save()
end

---@param text string
function M.actions_adopt(text)
  require("perilune.admin.actions").adopt(text)
end

-- The launcher's commands --------------------------------------------------------------

local function uses_of(route)
  local places = {}
  for i, use in ipairs(route.chain) do
    places[i] = use.where
  end
  return places
end

local function columns(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i < #row and cell .. (" "):rep(widths[i] - #cell) or cell
    end
    lines[#lines + 1] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n") .. "\n"
end

--- The routes of an app as text: method, pattern, the handler's file:line, middleware.
---@param path string
---@param as_json boolean|string true or "json"
---@return string text
function M.routes(path, as_json)
  local list, rows = {}, { { "METHOD", "PATTERN", "HANDLER", "MIDDLEWARE" } }
  for _, route in ipairs((compile.collect(M.read(path)))) do
    local uses = uses_of(route)
    for _, method in ipairs(route.methods) do
      local handler = app_module.place(route.handler)
      rows[#rows + 1] = { method, route.pattern, handler, table.concat(uses, " ") }
      list[#list + 1] = {
        method = method, pattern = route.pattern, handler = handler, name = route.opts.name,
        middleware = require("perilune.json").array(uses),
      }
    end
  end
  if as_json == true or as_json == "json" then
    local json = require("perilune.json")
    return json.encode(json.array(list)) .. "\n"
  end
  return columns(rows)
end

--- A page about a running server; see top.lua.
---@param status string JSON
---@param width string in columns
---@param height string in rows
---@param colour string
---@return string
function M.top(status, width, height, colour)
  return require("perilune.top").page(status, width, height, colour)
end

--- The compilation report; see compilation.lua.
---@param answer string JSON, of the control socket: { compilation, shares }
---@param form string "json", "colour" or ""
---@return string
function M.jit(answer, form)
  local compilation = require("perilune.compilation")
  local json = require("perilune.json")
  local parts = assert(json.decode(answer))
  local report = compilation.report(json.encode(parts.compilation),
    parts.shares ~= json.null and json.encode(parts.shares) or nil)
  return form == "json" and json.encode(report) .. "\n"
    or compilation.text(report, form == "colour")
end

--- Evaluates what the user types against an app, in a task, until the input ends.
---@param path string
function M.repl(path)
  core.interrupts(require("perilune.ffi").C.pl_coro_id()) -- Ctrl-C: the app need not end loading
  local ok, site, app = xpcall(M.load, runner.describe, path)
  if not ok then
    local failure = runner.failure(site)
    core.output((failure.message or runner.message(failure.err)) .. "\n", true)
    return core.exit(1)
  end
  core.interrupts(-1)
  require("perilune.repl").run(app, site)
  return core.exit(0)
end

--- Makes the folder of a new app.
---@param path string
---@param program string of the launcher
---@return string text what was made
function M.new(path, program)
  return require("perilune.new").run(path, program)
end

--- What is wrong with an app: "file:line: what", empty when nothing is.
---@param path string
---@return string[] faults
function M.check(path)
  return require("perilune.check").run(path)
end

--- One request without a server, in a task. Writes the body, before it the
--- head if asked to, and ends the tool with the status as its code; below 100:
--- there is no response, and a message has said why.
---@param site string number of the app that was loaded
---@param method string
---@param target string
---@param headers string[] "Name: value"
---@param body string?
---@param show_head string? "head": status and headers too
function M.request(site, method, target, headers, body, show_head)
  local ok, err = xpcall(function()
    local inject = require("perilune.inject")
    local connection = inject.open(tonumber(site))
    connection:send(inject.request(method:upper(), target, headers, body))
    local response = connection:response(method:upper())
    if not response then
      error("the connection was closed without a response", 0)
    end
    if show_head then
      local head = response.raw:match("^(.-\r\n\r\n)"):gsub("\r\n", "\n")
      core.output(head, false)
    end
    core.output(response.body, false)
    return core.exit(response.status)
  end, runner.describe)
  if not ok then
    core.output(runner.message(runner.failure(err).err or err) .. "\n", true)
    return core.exit(1)
  end
end

--- Runs busted inside the runtime, in a task, with its own arguments and the .busted of the
--- current folder; ends the tool with its exit code.
---@param arguments string[]
function M.test(arguments)
  return core.exit(require("perilune.specs").run(arguments))
end

return M
