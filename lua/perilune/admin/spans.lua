--- Traces of the admin plane: the spans that were kept last.

local core = require("perilune.core")

local M = {}

M.index = [[
GET /debug/spans      the last spans that were kept, as JSON; ?limit=100, ?trace=TRACE_ID
]]

local LIMIT, LIMIT_MAX = 100, 1000

---@param inner perilune.Group
function M.routes(inner)
  inner:get("/debug/spans", function(c)
    local limit = tonumber(c:query("limit") or LIMIT)
    if not limit or limit % 1 ~= 0 or limit < 1 or limit > LIMIT_MAX then
      return c:problem(400, ("limit is a whole number from 1 to %d"):format(LIMIT_MAX))
    end
    local trace = c:query("trace")
    if trace and not trace:match("^%x+$") or trace and #trace ~= 32 then
      return c:problem(400, "trace is the id of a trace, 32 hex digits")
    end
    local said = ("%d"):format(limit) .. (trace and " " .. trace:lower() or "")
    return core.report("spans", said), 200, {
      ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store",
    }
  end)
end

return M
