---@meta _
--- The server's log: `P.log`. A record gets time, level, generation, worker, and whom it is written
--- for: request id, trace id, span id, tenant, route.
--- Fields are a table, or names and values in turn: `P.log.info("saved", "id", 7, "bytes", 120)`,
--- which allocates nothing in compiled code. A field whose value is nil is left out.
-- luacheck: no unused

---@alias perilune.log.Fields table<string, string|number|boolean>

---@class perilune.log
local log = {}

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function log.debug(message, fields, ...) end

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function log.info(message, fields, ...) end

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function log.warn(message, fields, ...) end

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function log.error(message, fields, ...) end
