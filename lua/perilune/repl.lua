--- `perilune repl`: reads Lua, evaluates it against the app, prints the values.
---
--- Runs in a task; each evaluation is a task of its own, so that it can wait, and be interrupted by
--- Ctrl-C without ending the rest; its values are shown there, too. While a line is being read
--- nothing else runs.

local core = require("perilune.core")
local ffi = require("perilune.ffi")
local inject = require("perilune.inject")
local json = require("perilune.json")
local problem = require("perilune.problem")
local runner = require("perilune.runner")
local task = require("perilune.task")

---@class perilune.repl
local M = {}

local DEPTH_MAX = 4
local ITEMS_MAX = 40 -- of one table
local VALUES_MAX = 2000 -- of all tables in one value
local LINE_COLUMNS = 96
local NEST_PROMPT, PROMPT = "... ", "> "
local WAIT_MAX_S = 0.02

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
  elseif next(t) == nil then
    return "{}"
  elseif depth > DEPTH_MAX then
    return "{ ... }"
  end
  seen[t] = true
  local out, list = {}, is_list(t)
  for _, key in ipairs(sorted_keys(t)) do
    if #out == ITEMS_MAX or seen.left == 0 then
      out[#out + 1] = "..."
      break
    end
    seen.left = seen.left - 1
    local value = show(rawget(t, key), depth + 1, seen)
    out[#out + 1] = list and value or show_key(key, depth + 1, seen) .. " = " .. value
  end
  seen[t] = nil
  local line = "{ " .. table.concat(out, ", ") .. " }"
  if #line + 2 * depth <= LINE_COLUMNS and not line:find("\n", 1, true) then
    return line
  end
  local indent = ("  "):rep(depth)
  return "{\n  " .. indent .. table.concat(out, ",\n  " .. indent) .. "\n" .. indent .. "}"
end

local function has_own_text(value)
  local meta = debug.getmetatable(value)
  return type(meta) == "table" and meta.__tostring ~= nil
end

--- A value as text. Raises what a __tostring of the app's raises.
---@param value any
---@return string
function show(value, depth, seen)
  if type(value) == "string" then
    return (("%q"):format(value):gsub("\\\n", "\\n"))
  elseif value == json.null then
    return "null"
  elseif type(value) == "table" and not has_own_text(value) then
    return show_table(value, depth or 0, seen or { left = VALUES_MAX })
  end
  return tostring(value)
end

-- Requests ----------------------------------------------------------------------------

--- Options are those of perilune.test; what a handler raises is in the log.
local function request_function(site)
  return function(method, path, opts)
    method, opts = method:upper(), opts or {}
    local bytes = inject.encode(method, path, opts, 2)
    local connection = inject.open(site, opts)
    connection:send(bytes)
    local response = connection:response(method)
    connection:close()
    if not response then
      error("the connection was closed without a response", 2)
    end
    return { status = response.status, headers = response.headers, body = response.body }
  end
end

-- Evaluating ----------------------------------------------------------------------------

local function is_incomplete(err)
  return err:find("'<eof>'%s*$") ~= nil
end

--- The text as an expression, else as a statement.
---@return function? chunk
---@return string? err
---@return boolean? more whether further lines could mend it
local function compile(text, environment)
  local chunk, as_expression = loadstring("return " .. text, "=repl")
  if chunk then
    return setfenv(chunk, environment)
  end
  local as_statement
  chunk, as_statement = loadstring(text, "=repl")
  if chunk then
    return setfenv(chunk, environment)
  end
  return nil, as_statement, is_incomplete(as_expression) or is_incomplete(as_statement)
end

local function print_values(...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = show((select(i, ...)))
  end
  io.stdout:flush() -- what the code has printed comes first
  if #out > 0 then
    say(table.concat(out, "\t") .. "\n")
  end
end

local function evaluate_and_print(chunk)
  print_values(chunk())
end

--- A traceback without the frames of this file.
local function trim(traceback)
  local lines = {}
  for line in runner.trim(traceback):gmatch("[^\n]+") do
    if line:find("perilune/repl.lua:", 1, true) then
      break
    end
    lines[#lines + 1] = "  " .. line .. "\n"
  end
  while #lines > 0 and (lines[#lines]:find("[builtin", 1, true)
    or lines[#lines]:find("in function 'xpcall'", 1, true)) do
    lines[#lines] = nil
  end
  return table.concat(lines)
end

local function tell(err)
  if problem.is(err) then
    return complain((err.kind == "cancelled" and "interrupted" or err.message) .. "\n")
  end
  local failure = runner.failure(err)
  local ok, text = true, failure.err
  if type(text) == "table" and not has_own_text(text) then
    text = "an error that is a table: " .. show(text)
  elseif type(text) ~= "string" then
    ok, text = pcall(tostring, text)
  end
  return complain((ok and text or "an error that cannot be shown") .. "\n"
    .. trim(failure.traceback))
end

--- The main function of the task of an evaluation.
local function evaluate(chunk)
  local ok, err = xpcall(evaluate_and_print, runner.describe, chunk)
  local code = core.over()
  ffi.C.pl_settle()
  io.stdout:flush()
  if not ok then
    tell(code ~= 0 and not problem.is(err) and problem.by_code[code] or err)
  end
end

--- Waits until the task has ended. `task:wait()` would not do: one that catches its interruption
--- again and again is given up by the core, and tells nobody.
local function await(job)
  local pause = 0
  while not job:done() and core.interrupts(job._id) do
    task.sleep(pause)
    pause = math.min(pause + 0.001, WAIT_MAX_S)
  end
  core.interrupts(-1)
end

local function run_chunk(chunk)
  local job, err = task.detach("repl", evaluate, chunk)
  if job then
    await(job)
  else
    complain(err .. "\n")
  end
end

--- Reads lines until they make a chunk.
---@return function? chunk
---@return string? err
---@return string|false|nil text nil: the input has ended; false: it was dropped
local function read_chunk(environment)
  local text = core.read_line(PROMPT)
  while text do
    local chunk, err, more = compile(text, environment)
    if not more then
      return chunk, err, text
    end
    local line = core.read_line(NEST_PROMPT)
    if not line then
      return nil, line == nil and err or nil, line == nil and text
    end
    text = text .. "\n" .. line
  end
  return nil, nil, text
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
    if text == nil then
      break
    elseif chunk then
      run_chunk(chunk)
    elseif text and text:find("%S") then
      complain(err:gsub("^repl:", "line ") .. "\n")
    end
  end
end

return M
