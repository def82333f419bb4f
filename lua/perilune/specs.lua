--- `perilune test`: busted inside the runtime.
---
--- Specs run in a task, so that requests of perilune.test can wait. busted is
--- its command line runner with two changes: the arguments are ours, and its
--- end is an error that is caught here instead of the end of the process.

---@class perilune.specs
local M = {}

-- luacheck: globals arg os.exit

local END = {} -- what os.exit raises while specs run

--- Runs the specs.
---@param arguments string[] as of the busted command
---@return integer code 0: all passed; 1: not; 2: busted is not there
function M.run(arguments)
  local found, busted = pcall(require, "busted.runner")
  if not found then
    io.stderr:write("perilune test needs busted (package lua-busted): ", tostring(busted), "\n")
    return 2
  end
  -- `lua` in .busted is for the busted command: here it would leave the runtime.
  arg = { [0] = "perilune test", "--ignore-lua" }
  for i, value in ipairs(arguments) do
    arg[i + 1] = value
  end
  local real_exit = os.exit
  local code = 0
  os.exit = function(status)
    if status == true or status == nil then
      code = 0
    else
      code = tonumber(status) or 1
    end
    error(END, 0)
  end
  local ok, err = xpcall(busted, function(raised)
    return raised == END and END or tostring(raised) .. "\n" .. debug.traceback("", 2)
  end, { standalone = false })
  os.exit = real_exit
  io.stdout:flush()
  if not ok and err ~= END then
    -- busted's own exit with failures is error() without a value; its report has been printed.
    if not err:find("^nil\n") then
      io.stderr:write(err, "\n")
    end
    return 1
  end
  return code
end

return M
