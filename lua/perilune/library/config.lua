---@meta perilune.config
--- What one worker publishes and all of them read: `P.config`.
-- luacheck: no unused

---@class perilune.config
local config = {}

--- Publishes a table to all workers, whole or not at all: they see it from their
--- next `get` on. For what changes while the server runs: flags, limits, prices.
---@param snapshot table of strings, numbers, booleans and tables; at most 256 KiB as bytes
---@return integer? version
---@return string? err "the configuration is too large", "busy"
function config.publish(snapshot) end

--- The table that was published last: the same one until there is another. It
--- belongs to all handlers of the worker: read it only.
---@return table? snapshot nil: nothing was published
function config.get() end

--- Its number; 0: nothing was published.
---@return integer
function config.version() end

return config
