--- What takes long to make, such as a profile of many samples: made beside the loop of the admin
--- plane, so that probes are answered meanwhile (server/makings.h).

local P = require("perilune")
local core = require("perilune.core")

---@class perilune.admin.make
local M = {}

local LOOK_S, LOOK_S_MAX = 0.001, 0.02 -- between two looks whether it is made
local AT_ONCE_BYTES = 262144 -- more is sent piece by piece, as the client takes it

local function open(topic, argument)
  return core.report("make", ("open %s %s"):format(topic, argument or ""))
end

--- Waits until it is made.
---@return integer? bytes nil: it cannot be made
local function wait(number)
  local pause = LOOK_S
  while true do
    local bytes = core.report("make", "look " .. number)
    if bytes ~= "" then
      return bytes and tonumber(bytes)
    end
    P.sleep(pause)
    pause = math.min(2 * pause, LOOK_S_MAX)
  end
end

local function take(number)
  local parts = {}
  repeat
    local piece = core.report("make", "next " .. number)
    parts[#parts + 1] = piece
  until not piece or piece == ""
  return table.concat(parts)
end

--- What core.report(topic, argument) would answer; waits for it.
---@param topic string one that the fabric alone answers
---@param argument? string
---@return string? text nil: it cannot be made, or too much is being made
function M.text(topic, argument)
  local number = open(topic, argument)
  return number and wait(number) and take(number)
end

local function send(out, number)
  while true do
    local piece = core.report("make", "next " .. number)
    if not piece then
      error("it was given up: nothing of it was asked for too long")
    elseif piece == "" then
      return
    end
    out:write(piece)
  end
end

--- Answers a request with it.
---@param c perilune.Context
---@param topic string
---@param argument? string
---@param fields table<string, string> header fields
function M.answer(c, topic, argument, fields)
  local number = open(topic, argument)
  if not number then
    return c:problem(503, "too much is being made for others")
  end
  c:defer(core.report, "make", "drop " .. number)
  local bytes = wait(number)
  if not bytes then
    return c:problem(503, "this cannot be told now")
  elseif bytes <= AT_ONCE_BYTES then
    return take(number), 200, fields
  end
  for key, value in pairs(fields) do
    c:set(key, value)
  end
  return c:stream(send, number)
end

return M
