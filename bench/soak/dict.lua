-- bench/soak/dict.lua - the dictionary of the fabric under two writers and two readers, with
-- writers killed (SIGKILL) every few milliseconds: no torn value, nobody stuck, nothing counted is
-- lost.
--
-- The processes, and what is asserted of them, are core/test/fabric/test_dict_stress.c, which was
-- built beside the launcher; here it runs for as long as one likes.

local process = require("process")

local GRACE_S = 60

local M = {}

--- Runs it and prints what it says.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local tree = assert(opts.perilune:match("^(.*)/bin/[^/]*$"), "no build tree around the launcher")
  local ok, output = process.run({
    "env", "PL_STRESS_SECONDS=" .. opts.seconds, tree .. "/test/fabric_test_dict_stress",
  }, opts.seconds + GRACE_S)
  print((output:gsub("\n$", "")))
  return ok
end

return M
