---@meta _
--- A channel: what `P.channel` returns.
-- luacheck: no unused

---@class perilune.Channel
local Channel = {}

--- Gives a value in. Waits while the channel is full, at most for `timeout`. Ends itself at the
--- deadline of the request, and with an error when nobody can reach the channel any more.
---@param value any not nil
---@param timeout? number|string seconds, or "250ms"; 0: does not wait
---@return true? sent
---@return string? err "closed" or "timeout": it was not sent
function Channel:send(value, timeout) end

--- Takes the oldest value. Waits for one, as `send` does.
---@param timeout? number|string seconds, or "250ms"; 0: does not wait
---@return any value nil only with an err
---@return string? err "closed": and nothing is left in it; "timeout"
function Channel:recv(timeout) end

--- Nothing more comes in. What is in it can still be received; those that wait get "closed".
--- Closing it again does nothing.
function Channel:close() end

--- How many values are in it.
---@return integer
function Channel:count() end
