--- `perilune check`: what is wrong with an app, as "file:line: what".
---
--- First the sources are read without running them: syntax errors of the app
--- and of its own modules, and modules that are nowhere. Then, if those are
--- fine, the app is loaded and its routes are compiled, which finds wrong
--- registrations and conflicts.

local boot = require("perilune.boot")
local task = require("perilune.task")

---@class perilune.check
local M = {}

local function read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end

--- Blanks long comments, so that the lines keep their numbers.
local function blank_long_comments(text)
  return (text:gsub("%-%-(%[(=*)%[.-%]%2%])", function(comment)
    return (comment:gsub("[^\n]", " "))
  end))
end

--- What a source requires by a literal name; a "--" inside a string hides the
--- rest of its line.
local function required(text)
  local list, line = {}, 0
  for source in (blank_long_comments(text) .. "\n"):gmatch("([^\n]*)\n") do
    line = line + 1
    local code = source:gsub("%-%-.*$", "")
    for name in code:gmatch("require%s*%(?%s*[\"']([%w_%.%-/]+)[\"']") do
      list[#list + 1] = { name = name, line = line }
    end
  end
  return list
end

local function scan(file, folder, state)
  if state.seen[file] then
    return
  end
  state.seen[file] = true
  local text = read(file)
  if not text then
    state.faults[#state.faults + 1] = ("%s:1: cannot be read"):format(file)
    return
  end
  local chunk, syntax = loadstring(text, "@" .. file)
  if not chunk then
    state.faults[#state.faults + 1] = syntax
    return
  end
  for _, use in ipairs(required(text)) do
    if not package.loaded[use.name] and not package.preload[use.name] then
      local found = package.searchpath(use.name, package.path)
      if found then
        if found:sub(1, #folder + 1) == folder .. "/" then
          scan(found, folder, state)
        end
      elseif not package.searchpath(use.name, package.cpath) then
        state.faults[#state.faults + 1] = ("%s:%d: there is no module %q")
          :format(file, use.line, use.name)
      end
    end
  end
end

---@param path string of the app
---@return string[] faults empty when nothing is wrong
function M.run(path)
  local place, missing = boot.locate(path)
  if not place then
    return { missing }
  end
  boot.use_folder(place.folder)
  local state = { seen = {}, faults = {} }
  scan(place.file, place.folder, state)
  if #state.faults > 0 then
    return state.faults
  end
  task.begin_loading()
  local app, err = boot.evaluate(place)
  task.end_loading()
  if not app then
    return { err }
  end
  local _, faults = boot.publish(app, place.folder)
  return faults
end

return M
