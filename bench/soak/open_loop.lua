-- bench/soak/open_loop.lua - requests at a fixed rate, whatever becomes of those before them.
--
-- A request is due at its time and is sent then, over a free connection; when none is free it waits
-- for one, and that counts as its latency: what a client would have waited.

local process = require("process")

local M = {}

---@class perilune.soak.Plan
---@field rate number requests per second
---@field seconds number
---@field drain_s_max number for the answers that are still to come
---@field send fun(i: integer, due: number): boolean sends number i; false: no connection is free
---@field pending fun(): integer requests under way
---@field is_over? fun(): boolean no more are sent
---@field on_turn? fun(now: number, begin: number) now and then, at least every 20 ms

--- Sends for so long, then waits for what is under way.
---@param clients perilune.bench.Swarm
---@param plan perilune.soak.Plan
---@return integer sent
function M.run(clients, plan)
  local begin = process.now() + 0.05
  local stop, sent = begin + plan.seconds, 0
  local last = stop + plan.drain_s_max
  local count = math.floor(plan.rate * plan.seconds)

  while true do
    local now = process.now()
    if plan.is_over and plan.is_over() then
      count, last = sent, math.min(last, now + plan.drain_s_max)
    end
    while sent < count and begin + sent / plan.rate <= now do
      if not plan.send(sent + 1, begin + sent / plan.rate) then
        break
      end
      sent = sent + 1
    end
    if plan.on_turn then
      plan.on_turn(now, begin)
    end
    if sent == count and plan.pending() == 0 or now > last then
      return sent
    end
    local pause = 0.02
    if sent < count then
      pause = math.min(pause, begin + sent / plan.rate - process.now())
    end
    clients:wait(math.max(pause, 0))
  end
end

--- The value that so many hundredths of the values are not above.
---@param values number[] sorted
---@param percent number
---@return number
function M.percentile(values, percent)
  return values[math.max(1, math.ceil(#values * percent / 100))] or 0
end

return M
