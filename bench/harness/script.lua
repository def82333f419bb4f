-- bench/harness/script.lua - what every script of bench/ begins with: what it is told on the
-- command line, where it lies, and how it ends when it cannot go on.

local process = require("process")

---@class bench.Arguments
---@field numbers? table<string, table> name -> { default or nil, least, most, fraction = true }
---@field files? table<string, string|false> name -> default, seen from the root; false: none
---@field texts? table<string, true|fun(opts: table, value: string)>
---@field flags? table<string, true>
---@field word? fun(opts: table, word: string): any what is no option; false: it is not known

local M = {}

local LAUNCHER = "build/release/bin/perilune"

---@return string
local function absolute(path)
  if path:sub(1, 1) == "/" then
    return path
  end
  local _, here = process.run({ "pwd" }, 5)
  return here:gsub("\n", "") .. "/" .. path
end

---@class bench.Script
---@field source string the folder bench/, an absolute path
---@field fail fun(format: string, ...: any) says why, and ends with 1
---@field misuse fun(format: string, ...: any) says why and the usage, and ends with 2
---@field parse fun(wanted: bench.Arguments): table what `arg` says, by name: `--per-turn` is
---  per_turn; `perilune`, the launcher, is always there. Files are absolute paths.

local function take_number(script, opts, name, limits, value)
  local number = tonumber(value)
  local is_within = number and number >= limits[2] and number <= limits[3]
  if not is_within or not limits.fraction and number % 1 ~= 0 then
    script.misuse("--%s takes a number from %d to %d", name:gsub("_", "-"), limits[2], limits[3])
  end
  opts[name] = number
end

local function take_text(opts, name, text, value)
  if text == true then
    opts[name] = value
  else
    text(opts, value)
  end
end

--- One option with its value. False: there is no such option.
local function take_option(script, wanted, opts, name, value)
  local limits, text = wanted.numbers[name], wanted.texts[name]
  if limits then
    take_number(script, opts, name, limits, value)
  elseif text then
    take_text(opts, name, text, value)
  elseif wanted.files[name] ~= nil then
    opts[name] = absolute(value)
  else
    return false
  end
  return true
end

local function defaults(script, wanted)
  local opts = {}
  for name, limits in pairs(wanted.numbers) do
    opts[name] = limits[1]
  end
  for name, path in pairs(wanted.files) do
    opts[name] = path and script.source .. "/../" .. path or nil
  end
  return opts
end

local function parse(script, usage, wanted)
  wanted.numbers, wanted.files = wanted.numbers or {}, wanted.files or {}
  wanted.texts, wanted.flags = wanted.texts or {}, wanted.flags or {}
  wanted.files.perilune = LAUNCHER
  local opts, at = defaults(script, wanted), 1
  while arg[at] do
    local word, value = arg[at], arg[at + 1]
    local name = (word:match("^%-%-([%l-]+)$") or ""):gsub("-", "_")
    if word == "--help" or word == "-h" then
      io.write(usage)
      os.exit(0)
    elseif wanted.flags[name] then
      opts[name] = true
    elseif name ~= "" and value and take_option(script, wanted, opts, name, value) then
      at = at + 1
    elseif word:sub(1, 1) == "-" or not wanted.word or not wanted.word(opts, word) then
      script.misuse("unknown argument, or no value for it: %s", word)
    end
    at = at + 1
  end
  return opts
end

--- The script that is running.
---@param name string that its complaints begin with
---@param usage string ends with a newline
---@return bench.Script
function M.new(name, usage)
  local script = { source = absolute(arg[0]:match("^(.*)/[^/]*$") or ".") }
  function script.fail(format, ...)
    io.stderr:write(name, ": ", format:format(...), "\n")
    os.exit(1)
  end
  function script.misuse(format, ...)
    io.stderr:write(name, ": ", format:format(...), "\n", usage)
    os.exit(2)
  end
  function script.parse(wanted)
    return parse(script, usage, wanted)
  end
  return script
end

return M
