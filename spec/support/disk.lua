--- Disks that hang, without a device that does: spec/support/hanging.py.

local process = require("spec.support.process")

local M = {}

--- Until the process that it returns is ended, nothing in that folder can be opened.
---@param folder string
---@return table? process nil: this machine does not let us
function M.hang(folder)
  local p = process.spawn({ "python3", "spec/support/hanging.py", folder })
  return p:wait_for("out", "hanging") and p or nil
end

--- Whether that can be done here; to be called outside of a test.
---@return boolean
function M.can_hang()
  local can = M.hang(process.folder()) ~= nil
  process.cleanup()
  return can
end

return M
