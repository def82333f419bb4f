--- The admin plane's profiles of memory: `/debug/pprof/heap` and `/debug/pprof/allocs`.

local P = require("perilune")
local core = require("perilune.core")
local make = require("perilune.admin.make")

---@class perilune.admin.heap
local M = {}

local SECONDS_MAX = 3600
local COLLECT_WAIT = 5.0 -- seconds, for workers that were asked for a collection

M.index = [[
GET /debug/pprof/heap    memory in use by line, for go tool pprof; ?gc=1: garbage is collected
                         first; ?seconds=N: what comes to it in that time
GET /debug/pprof/allocs  what was allocated by line, likewise; ?seconds=N: in that time
]]

local function collect()
  core.report("heap", "collect")
  local waited = 0
  while core.report("heap", "collected") == "" and waited < COLLECT_WAIT do
    P.sleep(0.05)
    waited = waited + 0.05
  end
end

--- Seconds that are asked for: 0 for none; nil for what is no such number.
local function seconds_of(c)
  local text = c:query("seconds")
  if not text then
    return 0
  end
  local seconds = tonumber(text)
  return seconds and seconds >= 0 and seconds <= SECONDS_MAX and seconds or nil
end

local function answer(what)
  return function(c)
    local seconds = seconds_of(c)
    if not seconds then
      return c:problem(400, ("seconds is a number from 0 to %d"):format(SECONDS_MAX))
    end
    if (c:query("format") or "pprof") ~= "pprof" then
      return c:problem(400, ("format is pprof here; `perilune profile %s -o %s.svg` draws it, and"
        .. " the control socket takes svg, folded and text"):format(what, what))
    end
    if c:query("gc") and c:query("gc") ~= "0" then
      collect()
    end
    local said = what
    if seconds > 0 then
      local base = make.text("heap", "base") or ""
      P.sleep(seconds)
      said = ("%s\n%g\n%s"):format(what, seconds, base)
    end
    return make.answer(c, "heap", said, {
      ["Content-Type"] = "application/octet-stream",
      ["Content-Disposition"] = ('attachment; filename="%s.pb.gz"'):format(what),
      ["Cache-Control"] = "no-store",
    })
  end
end

---@param inner perilune.Group
function M.routes(inner)
  local slow = { timeout = SECONDS_MAX + 60 }
  inner:get("/debug/pprof/heap", slow, answer("heap"))
  inner:get("/debug/pprof/allocs", slow, answer("allocs"))
end

return M
