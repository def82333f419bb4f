--- What survives a reload: `P.keep(name, version, init, migrate)`.
---
--- Each generation of an app is a VM of its own. What an app keeps is written
--- as bytes (`string.buffer`) in the VM that serves, and read in the one that is
--- loaded beside it: first when that is prepared, so that the code that loads
--- has it; and once more when it takes over, into the same tables, so that what
--- has changed meanwhile is not lost. Per worker; a worker that dies has nothing
--- to hand over. What all workers share lies in `P.shared`.

local buffer = require("string.buffer")
local clear = require("table.clear")

---@class perilune.keep
local M = {}

---@class perilune.Kept
---@field version number
---@field value table
---@field migrate? fun(old: table, version: number): table

local kept = {} ---@type table<string, perilune.Kept> of this generation, by name
local offered = {} ---@type table<string, { version: number, value: table }> of the one before

local DEPTH_MAX = 90 -- string.buffer writes 100 levels, and some are ours

--- Whether string.buffer can write what is no table. Of cdata only numbers.
local function is_writable(value)
  local kind = type(value)
  return kind ~= "function" and kind ~= "thread" and kind ~= "userdata"
    and (kind ~= "cdata" or (pcall(buffer.encode, value)))
end

--- The path of what cannot be written, as "a.b[3]"; nil when all can.
local function unwritable(value, path, seen, depth)
  if type(value) ~= "table" then
    if is_writable(value) then
      return nil
    end
    return path, "a " .. type(value)
  end
  if seen[value] then
    return path, "a table that is in itself"
  end
  if depth > DEPTH_MAX then
    return path, ("a table within %d others"):format(DEPTH_MAX)
  end
  seen[value] = true
  for k, v in pairs(value) do
    local at = type(k) == "string" and path .. "." .. k or ("%s[%s]"):format(path, tostring(k))
    local found, what = unwritable(v, at, seen, depth + 1)
    if found then
      return found, what
    end
    if type(k) == "table" or not is_writable(k) then
      return path, "a table with a key that is a " .. type(k)
    end
  end
  seen[value] = nil
  return nil
end

local function check_arguments(name, version, init, migrate)
  if type(name) ~= "string" then
    error("P.keep begins with a name, a string", 3)
  end
  if type(version) ~= "number" then
    error("P.keep takes a version, a number, behind the name", 3)
  end
  if type(init) ~= "function" then
    error("P.keep takes a function that makes the first value, behind the version", 3)
  end
  if migrate ~= nil and type(migrate) ~= "function" then
    error("the last argument of P.keep is a function that makes the new value of an old one", 3)
  end
end

local function must_be_table(value, name, what)
  if type(value) ~= "table" then
    error(("P.keep(%q): %s returned a %s; what is kept is a table")
      :format(name, what, type(value)), 0)
  end
  return value
end

--- The value in the form of this version.
local function converted(name, entry, old)
  if old.version == entry.version then
    return old.value
  end
  if not entry.migrate then
    error(("P.keep(%q): what is kept has version %s, the code has version %s and no function to "
      .. "migrate it"):format(name, tostring(old.version), tostring(entry.version)), 0)
  end
  return must_be_table(entry.migrate(old.value, old.version), name, "migrate")
end

--- A table that outlives reloads. The same table stays in place, so it can be
--- held in a local.
---@param name string
---@param version number of its form
---@param init fun(): table makes the first one
---@param migrate? fun(old: table, version: number): table from another version
---@return table
function M.keep(name, version, init, migrate)
  check_arguments(name, version, init, migrate)
  if kept[name] then
    error(("P.keep(%q) is called twice"):format(name), 2)
  end
  local entry = { version = version, migrate = migrate }
  if offered[name] then
    entry.value = converted(name, entry, offered[name])
  else
    entry.value = must_be_table(init(), name, "init")
  end
  kept[name] = entry
  return entry.value
end

--- An app is about to be loaded: what it keeps is its own. Specs load many, in one VM.
function M.begin_loading()
  kept = {}
end

-- For the core ------------------------------------------------------------------------

--- All that is kept, and the clocks of timers, as bytes; "" when there is nothing.
---@param clocks table of perilune.task
---@return string
function M.save(clocks)
  if next(kept) == nil and next(clocks) == nil then
    return ""
  end
  local all = {}
  for name, entry in pairs(kept) do
    local path, what = unwritable(entry.value, "", {}, 1)
    if path then
      error(("P.keep(%q): %s is %s, which cannot be kept"):format(name,
        path == "" and "the value" or path, what), 0)
    end
    all[name] = { version = entry.version, value = entry.value }
  end
  return buffer.encode({ kept = all, clocks = clocks })
end

--- What the generation before keeps, before this one is loaded.
---@param text? string of `save`
function M.offer(text)
  offered = text and text ~= "" and buffer.decode(text).kept or {}
end

--- What it keeps now that this one takes over: into the tables that the app has.
---@param text string
---@return table clocks for perilune.task
function M.adopt(text)
  local fresh, all = {}, buffer.decode(text)
  for name, old in pairs(all.kept) do
    if kept[name] then
      fresh[name] = converted(name, kept[name], old)
    end
  end
  for name, value in pairs(fresh) do
    local mine = kept[name].value
    if value ~= mine then
      clear(mine)
      for k, v in pairs(value) do
        mine[k] = v
      end
    end
  end
  offered = {}
  return all.clocks
end

return M
