--- GET /debug/trace: what the flight recorder has, or what comes, as a Chrome trace.
---
--- Written piece by piece, as the client takes it; the core keeps the place (server/replay.h).

local core = require("perilune.core")
local task = require("perilune.task")
local units = require("perilune.units")

---@class perilune.admin.trace
local M = {}

M.index = [[
GET /debug/trace      what workers have done in the last 10 s, as a Chrome trace; ?ago=60s: so
                      far back as there is; ?seconds=N: what they do from now on, for N s
]]

local AGO_S, AGO_MOST_S, SECONDS_MOST = 10, 86400, 300
local LOOK_S = 0.1

---@param out perilune.Out
---@param number string of the replay
---@param verb "next"|"end"
local function send_all(out, number, verb)
  while true do
    local piece = core.report("trace", verb .. " " .. number)
    if not piece then
      error("the trace was given up: nothing of it was asked for too long")
    elseif piece == "" then
      return
    end
    out:write(piece)
  end
end

local function send(out, number, seconds)
  local due = task.monotonic() + seconds
  send_all(out, number, "next")
  while task.monotonic() < due do
    task.sleep(math.min(LOOK_S, math.max(0, due - task.monotonic())))
    core.report("trace", "look " .. number)
    send_all(out, number, "next")
  end
  send_all(out, number, "end")
end

--- A number of seconds from the query; nil and what is wrong when it is none.
local function seconds_of(c, name, fallback, most)
  local text = c:query(name)
  if not text then
    return fallback
  end
  local seconds = units.seconds(tonumber(text) or text)
  if not seconds or seconds > most then
    return nil, ("%s is a number of seconds, at most %d"):format(name, most)
  end
  return seconds
end

local function answer(c)
  local seconds, wrong = seconds_of(c, "seconds", 0, SECONDS_MOST)
  local ago, wrong_too = seconds_of(c, "ago", AGO_S, AGO_MOST_S)
  if not seconds or not ago then
    return c:problem(400, wrong or wrong_too)
  end
  if core.config("recorder.on") == 0 then
    return c:problem(404, "nothing is recorded: recorder.on is false")
  end
  local number = core.report("trace", ("open %.3f"):format(seconds > 0 and 0 or ago))
  if not number then
    return c:problem(503, "too many traces are being read")
  end
  c:set("Content-Type", "application/json")
  c:set("Cache-Control", "no-store")
  c:defer(core.report, "trace", "close " .. number)
  return c:stream(send, number, seconds)
end

---@param inner perilune.Scope
function M.routes(inner)
  inner:get("/debug/trace", { timeout = SECONDS_MOST + 60 }, answer)
end

return M
