--- Chrome traces, read by python3's JSON and by the rules of spec/support/trace.py.

local json = require("perilune").json
local process = require("spec.support.process")

local M = {}

--- Reads a trace; raises when it breaks a rule.
---@param path string
---@return { threads: string[], events: table[] }
function M.read(path)
  local p = process.spawn({ "python3", "spec/support/trace.py", path })
  assert(p:wait() == 0, p:err())
  return assert(json.decode(p:out()))
end

--- The events that have all these fields; `args` is compared likewise.
---@param trace { events: table[] }
---@param fields table
---@return table[]
function M.find(trace, fields)
  local function fits(event, wanted)
    for key, value in pairs(wanted) do
      if type(value) == "table" then
        if type(event[key]) ~= "table" or not fits(event[key], value) then
          return false
        end
      elseif event[key] ~= value then
        return false
      end
    end
    return true
  end
  local found = {}
  for _, event in ipairs(trace.events) do
    if fits(event, fields) then
      found[#found + 1] = event
    end
  end
  return found
end

--- The files of a folder that are records, by name.
---@param folder string
---@param why string? "crash"
---@return string[] paths
function M.files(folder, why)
  local list = {}
  for name in require("lfs").dir(folder) do
    if name:find("^perilune%-.*%.json$") and name:find("@" .. (why or ""), 1, true) then
      list[#list + 1] = folder .. "/" .. name
    end
  end
  table.sort(list)
  return list
end

--- Waits until there is such a record.
---@param folder string
---@param why string
---@return string path
function M.wait(folder, why)
  return assert(process.eventually(function()
    return M.files(folder, why)[1]
  end, 20), "no record: " .. why)
end

return M
