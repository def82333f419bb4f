--- The admin plane's compilation report.

local compilation = require("perilune.compilation")
local core = require("perilune.core")

local M = {}

M.index = [[
GET /debug/jit        what LuaJIT gave up, where, why, and what to do; ?format=text: for people
]]

--- The report, of all workers.
---@return table? report nil where there is nothing to ask
function M.report()
  local facts = core.report("compilation")
  return facts and compilation.report(facts, core.report("shares"))
end

function M.routes(inner)
  inner:get("/debug/jit", function(c)
    local report = M.report()
    if not report then
      return c:problem(503, "workers have written nothing down")
    end
    c:set("Cache-Control", "no-store")
    if c:query("format") == "text" then
      return c:text(compilation.text(report, false))
    end
    return c:json(report)
  end)
end

return M
