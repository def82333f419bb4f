--- `perilune repl`: reads Lua, evaluates it against the app, prints the values.
---
--- Runs in a task; each evaluation is a task of its own, so that it can wait, and be interrupted by
--- Ctrl-C without ending the rest. While a line is being read nothing else runs.

local core = require("perilune.core")
local inject = require("perilune.inject")
local json = require("perilune.json")
local runner = require("perilune.runner")
local task = require("perilune.task")

---@class perilune.repl
local M = {}

local DEPTH_MAX = 4
local ITEMS_MAX = 40
local NEST_PROMPT, PROMPT = "... ", "> "

local function say(text)
  core.output(text, false)
end

local function complain(text)
  core.output(text, true)
end

-- Printing ----------------------------------------------------------------------------

local show

local function is_list(t)
  local count = 0
  for _ in pairs(t) do
    count = count + 1
  end
  return count == #t
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then
      return a < b
    end
    return type(a) < type(b)
  end)
  return keys
end

local function show_key(key, depth, seen)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then
    return key
  end
  return "[" .. show(key, depth, seen) .. "]"
end

local function show_table(t, depth, seen)
  if seen[t] then
    return "<the same again>"
  elseif depth > DEPTH_MAX then
    return "{ ... }"
  elseif next(t) == nil then
    return "{}"
  end
  seen[t] = true
  local out, list = {}, is_list(t)
  for _, key in ipairs(sorted_keys(t)) do
    if #out == ITEMS_MAX then
      out[#out + 1] = "..."
      break
    end
    local value = show(t[key], depth + 1, seen)
    out[#out + 1] = list and value or show_key(key, depth + 1, seen) .. " = " .. value
  end
  seen[t] = nil
  local line = "{ " .. table.concat(out, ", ") .. " }"
  if #line + 2 * depth <= 96 and not line:find("\n", 1, true) then
    return line
  end
  local indent = ("  "):rep(depth)
  return "{\n  " .. indent .. table.concat(out, ",\n  " .. indent) .. "\n" .. indent .. "}"
end

--- A value as text.
---@param value any
---@return string
function show(value, depth, seen)
  if type(value) == "string" then
    return (("%q"):format(value):gsub("\\\n", "\\n"))
  elseif value == json.null then
    return "null"
  elseif type(value) == "table" and not (getmetatable(value) or {}).__tostring then
    return show_table(value, depth or 0, seen or {})
  end
  local ok, text = pcall(tostring, value)
  return ok and text or "<cannot be shown>"
end

-- Requests ----------------------------------------------------------------------------

local function request_function(site)
  return function(method, path, opts)
    opts = opts or {}
    local headers, body = {}, opts.body
    for name, value in pairs(opts.headers or {}) do
      headers[#headers + 1] = name .. ": " .. value
    end
    if opts.json ~= nil then
      headers[#headers + 1] = "Content-Type: application/json"
      body = json.encode(opts.json)
    end
    local connection = inject.open(site)
    connection:send(inject.request(method:upper(), path, headers, body))
    local response = connection:response(method:upper())
    if not response then
      error("the connection was closed without a response", 2)
    end
    return { status = response.status, headers = response.headers, body = response.body }
  end
end

-- Evaluating ----------------------------------------------------------------------------

local function compile(text, environment)
  local chunk, err = loadstring("return " .. text, "=repl")
  if not chunk then
    chunk, err = loadstring(text, "=repl")
  end
  return chunk and setfenv(chunk, environment), err
end

local function is_incomplete(err)
  return err ~= nil and err:find("'<eof>'%s*$") ~= nil
end

local function print_values(count, ...)
  local out = {}
  for i = 1, count do
    out[i] = show((select(i, ...)))
  end
  if count > 0 then
    say(table.concat(out, "\t") .. "\n")
  end
end

local function evaluate(chunk)
  local function report(err)
    return runner.describe(err)
  end
  local function done(ok, ...)
    if ok then
      print_values(select("#", ...), ...)
    else
      local failure = runner.failure((...))
      if failure.kind == "cancelled" then
        complain("interrupted\n")
        return
      end
      complain(runner.message(failure.err or failure) .. "\n")
      local trace = runner.trim(failure.traceback or ""):gsub("%[C%]: in function 'xpcall'.*$", "")
      if trace:find("%S") then
        complain("  " .. trace:gsub("%s+$", ""):gsub("\n", "\n  ") .. "\n")
      end
    end
  end
  done(xpcall(chunk, report))
end

local function read_chunk(environment)
  local text = core.read_line(PROMPT)
  while text do
    local chunk, err = compile(text, environment)
    if chunk or not is_incomplete(err) then
      return chunk, err, text
    end
    local more = core.read_line(NEST_PROMPT)
    if not more then
      return nil, err, text
    end
    text = text .. "\n" .. more
  end
  return nil, nil, nil
end

local function environment_of(app, site)
  local environment = setmetatable({
    P = require("perilune"), app = app, request = request_function(site), show = show,
  }, { __index = _G })
  environment._G = environment
  return environment
end

--- Reads and evaluates until the input ends.
---@param app perilune.App
---@param site integer
function M.run(app, site)
  local environment = environment_of(app, site)
  complain("P, app and request(method, path, opts?) are there; Ctrl-C interrupts, Ctrl-D ends\n")
  while true do
    local chunk, err, text = read_chunk(environment)
    if not text then
      break
    elseif chunk then
      local job = task.detach("repl", evaluate, chunk)
      core.interrupts(job._id)
      job:wait()
      core.interrupts(-1)
    elseif text:find("%S") then
      complain((err or ""):gsub("^repl:", "line ") .. "\n")
    end
  end
end

return M
