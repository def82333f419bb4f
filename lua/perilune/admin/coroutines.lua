--- What coroutines do and wait for, by profiles that pprof reads and as text.
---
--- All of it lies in the fabric: no worker is asked, so one that stands still is shown too.

local make = require("perilune.admin.make")

---@class perilune.admin.coroutines
local M = {}

M.index = [[
GET /debug/pprof/coroutine?debug=0|1|2
                      what each coroutine does: for pprof, as text, each by itself; also "goroutine"
GET /debug/pprof/block?debug=0|1
                      where and how long coroutines have waited since the server began
GET /debug/pprof/coroutineleak?debug=0|1
                      those that nobody could wake, and suspects; also "goroutineleak"
GET /debug/waits      the same at a glance, as JSON
]]

local PROFILE = {
  ["Content-Type"] = "application/octet-stream", ["Cache-Control"] = "no-store",
}
local TEXT = { ["Content-Type"] = "text/plain; charset=utf-8", ["Cache-Control"] = "no-store" }
local JSON = { ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store" }

--- A handler that answers with what the topic is, for the `debug` that was asked for.
local function answer(topic, debug_max)
  return function(c)
    local debug = c:query("debug") or "0"
    if not debug:find("^%d$") or tonumber(debug) > debug_max then
      return c:problem(400, ("debug is a number from 0 to %d"):format(debug_max))
    end
    if debug ~= "0" then
      return make.answer(c, topic, debug, TEXT)
    end
    c:set("Content-Disposition", ('attachment; filename="%s"'):format(topic))
    return make.answer(c, topic, debug, PROFILE)
  end
end

---@param inner perilune.App
function M.routes(inner)
  local list = answer("coroutine", 2)
  local leaks = answer("coroutineleak", 1)
  inner:get("/debug/pprof/coroutine", list)
  inner:get("/debug/pprof/goroutine", list)
  inner:get("/debug/pprof/block", answer("block", 1))
  inner:get("/debug/pprof/coroutineleak", leaks)
  inner:get("/debug/pprof/goroutineleak", leaks)
  inner:get("/debug/waits", function(c)
    return make.answer(c, "waits", nil, JSON)
  end)
end

return M
