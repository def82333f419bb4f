---@meta _
--- The server's log: `P.log`. A record gets time, level, request id, route and worker.
-- luacheck: no unused

---@alias perilune.log.Fields table<string, string|number|boolean>

---@class perilune.log
local log = {}

---@param message string
---@param fields? perilune.log.Fields
function log.debug(message, fields) end

---@param message string
---@param fields? perilune.log.Fields
function log.info(message, fields) end

---@param message string
---@param fields? perilune.log.Fields
function log.warn(message, fields) end

---@param message string
---@param fields? perilune.log.Fields
function log.error(message, fields) end
