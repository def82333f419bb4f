--- The admin plane's compilation report.

local compilation = require("perilune.compilation")
local make = require("perilune.admin.make")
local task = require("perilune.task")

local M = {}

M.index = [[
GET /debug/jit        what LuaJIT gave up, where, why, and what to do; ?format=text: for people
]]

-- A report is kept for so many times as long as it took to make: dashboards ask again and again,
-- and all of that time must not cost more than a fiftieth of a core.
local KEPT_TIMES, KEPT_S_MIN, KEPT_S_MAX = 50, 1, 60

---@type { report: table?, until_s: number }
local kept = { until_s = 0 }
local making -- the task that makes the next one

local function make_report()
  local begun = task.monotonic()
  local facts = make.text("compilation")
  local report = facts and compilation.report(facts, make.text("shares"))
  local now = task.monotonic()
  local kept_s = math.max(KEPT_S_MIN, math.min(KEPT_S_MAX, KEPT_TIMES * (now - begun)))
  kept = { report = report, until_s = now + kept_s }
end

--- The report, of all workers, not older than KEPT_S_MAX; waits while it is made.
---@return table? report nil where there is nothing to ask
function M.report()
  if task.monotonic() >= kept.until_s then
    if not making or making:done() then
      making = task.detach("compilation report", make_report)
    end
    if making then
      making:wait()
    end
  end
  return kept.report
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
