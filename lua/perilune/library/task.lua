---@meta _
--- A task: what `P.spawn` and `P.detach` return.
-- luacheck: no unused

---@class perilune.Task
---@field name string? of a detached one
local Task = {}

--- Waits for its end. Ends itself at the deadline of the request.
---@return any ... what its function returned; nil and a text when it raised or was cancelled
function Task:wait() end

--- Cancels it: its present or next wait raises, and every one after that.
function Task:cancel() end

--- Whether it has ended.
---@return boolean
function Task:done() end
