--- perilune.test: drives an app without a socket, for specs under
--- `perilune test`.
---
---   local test = require "perilune.test"
---   local api = test.app("apps/notes")
---   local r = api:post("/notes", { json = { title = "milk" } })
---   assert.equal(201, r.status)
---
--- The bytes go through the real parser, limits, router, handlers and encoder.
--- An error in a handler fails the spec with its traceback, unless the request
--- says `allow_error = true`.

local app_module = require("perilune.app")
local boot = require("perilune.boot")
local core = require("perilune.core")
local inject = require("perilune.inject")
local json = require("perilune.json")
local runner = require("perilune.runner")
local task = require("perilune.task")
local units = require("perilune.units")

---@class perilune.test
local M = {}

---@class perilune.test.Api
---@field _site integer
local Api = {}
Api.__index = Api

---@class perilune.test.Response: perilune.inject.Response
---@field cookies table<string, string> set by the response; to give back as `cookies`
local Response = {}
Response.__index = Response

--- The decoded JSON body; raises when it is none.
function Response:json()
  local value, err = json.decode(self.body)
  if value == nil then
    error(("the body is no JSON (%s): %s"):format(err, self.body:sub(1, 200)), 2)
  end
  return value
end

local failures = {} -- site -> the errors of its handlers

local function observe(site, message, traceback)
  if not failures[site] then -- published without M.app
    failures[site] = {}
  end
  table.insert(failures[site], message .. "\n" .. traceback) -- one step: others may fail as well
end

--- The errors so far; the list is empty then.
---@return string[]
local function take_failures(site)
  local list = failures[site]
  failures[site] = {}
  return list
end

--- What one app of several in a VM can have of its own; the rest belongs to the
--- connections of the whole process and comes from the configuration.
local CONVERT = { ["timeouts.handler"] = units.seconds, ["limits.body"] = units.bytes }

--- { limits = { body = "1K" } } or { ["limits.body"] = "1K" } → { ["limits.body"] = 1024 }
local function flatten(config)
  local flat = {}
  local function put(key, value)
    local convert = CONVERT[key]
    if not convert then
      error(("test.app can set settings, limits.body and timeouts.handler, not %q; set others "
        .. "for the whole run, for example by PERILUNE_%s"):format(key,
        (key:upper():gsub("%.", "_"))), 4)
    end
    local number = convert(value)
    if not number then
      error(("%s: %s is no value for it"):format(key, tostring(value)), 4)
    end
    flat[key] = number
  end
  for key, value in pairs(config) do
    if key ~= "settings" then
      if type(value) == "table" then
        for name, one in pairs(value) do
          put(key .. "." .. name, one)
        end
      else
        put(key, value)
      end
    end
  end
  return flat
end

local loaded_by = {} -- path -> the modules its last loading brought

local function forget_modules(path)
  for _, name in ipairs(loaded_by[path] or {}) do
    package.loaded[name] = nil
  end
end

--- Nothing of other apps runs meanwhile: it could start no tasks.
local function evaluate(place)
  task.begin_loading()
  local app, err, traceback = boot.evaluate(place)
  return task.end_loading(), app, err, traceback
end

local function load_file(path)
  local place, missing = boot.locate(path)
  if not place then
    error(missing, 3)
  end
  forget_modules(path)
  boot.use_folder(place.folder)
  local before, brought = {}, {}
  for name in pairs(package.loaded) do
    before[name] = true
  end
  local jobs, app, err, traceback = task.atomic(evaluate, place)
  for name in pairs(package.loaded) do
    if not before[name] and not name:find("^perilune") then
      brought[#brought + 1] = name
    end
  end
  loaded_by[path] = brought
  if not app then
    error(err .. "\n" .. (traceback or ""), 3)
  end
  return app, place.folder, jobs
end

--- An app to drive. Options: config
--- ({ limits = { body = size }, timeouts = { handler = duration }, settings = {...} }),
--- timers (true: start what P.every and P.detach have registered; only for paths).
---@param app string|perilune.App path of a file or folder, or an app object
---@param opts? table
---@return perilune.test.Api
function M.app(app, opts)
  opts = opts or {}
  local folder, jobs
  local config = opts.config or {}
  if config.settings then
    require("perilune").settings = config.settings
  end
  if type(app) == "string" then
    app, folder, jobs = load_file(app)
  elseif not app_module.is(app) then
    error("test.app takes the path of an app or an app", 2)
  end
  local limits = flatten(config)
  local site, faults = boot.publish(app, folder)
  if #faults > 0 then
    error(table.concat(faults, "\n"), 2)
  end
  core.site_limits(site, limits)
  failures[site] = {}
  runner.observe = observe
  if jobs and opts.timers then
    task.start(jobs, true)
  end
  return setmetatable({ _site = site }, Api)
end

local function cookies_of(lines)
  local cookies = {}
  for _, line in ipairs(lines) do
    local name, value = line:match("^([^=;]+)=([^;]*)")
    if name then
      cookies[name] = value
    end
  end
  return cookies
end

local function raise_failures(api, opts, level)
  local list = take_failures(api._site)
  if #list > 0 and not opts.allow_error then
    error("an error in a handler:\n" .. table.concat(list, "\n"), level + 1)
  end
end

--- Sends a request and waits for its response. Options: headers, query (table), body, json,
--- form (table), cookies (table), allow_error, remote (the client's address).
---@param method string
---@param path string
---@param opts? table
---@return perilune.test.Response
function Api:request(method, path, opts)
  opts = opts or {}
  local bytes = inject.encode(method, path, opts, 2)
  take_failures(self._site)
  local connection = inject.open(self._site, opts)
  connection:send(bytes)
  local response = connection:response(method)
  connection:close()
  raise_failures(self, opts, 2)
  if not response then
    error("the connection was closed without a whole response", 2)
  end
  response.cookies = cookies_of(response.set_cookies)
  return setmetatable(response, Response)
end

for _, method in ipairs(app_module.METHODS) do
  Api[method:lower()] = function(api, path, opts)
    return api:request(method, path, opts)
  end
end

--- Sends bytes as they are, on a connection of their own; all that comes back until the server
--- closes it, or until `count` responses have come. Errors of handlers don't fail the spec.
---@param bytes string|string[] a list: piece by piece, with a tick of the loop between
---@param count? integer default: the client sends no more, and the server closes
---@return string raw
---@return boolean closed by the server
function Api:raw(bytes, count)
  local connection = self:connect()
  for i, piece in ipairs(type(bytes) == "table" and bytes or { bytes }) do
    if i > 1 then
      task.sleep(0)
    end
    connection:send(piece)
  end
  local out = {}
  if count then
    for i = 1, count do
      local response = connection:response("GET")
      if not response then
        break
      end
      out[i] = response.raw
    end
    out[#out + 1] = connection._raw
  else
    connection:half_close()
    out[1] = connection:rest()
  end
  local closed = connection.closed
  connection:close()
  take_failures(self._site)
  return table.concat(out), closed
end

--- A connection to send and read by hand: send, response, wait, rest, half_close, stall, close.
---@param opts? table { remote = address }
---@return perilune.inject.Connection
function Api:connect(opts)
  return inject.open(self._site, opts)
end

--- What handlers of this app have raised since the last request: texts with tracebacks. Empties
--- the list.
---@return string[]
function Api:errors()
  return take_failures(self._site)
end

--- Moves the clocks and deadlines of this VM forward, and lets what became due run.
---@param seconds number|string
function Api:advance(seconds) -- luacheck: no self
  core.advance(assert(units.seconds(seconds), "a number of seconds or a text such as \"10s\""))
  task.sleep(0)
end

return M
