--- P.log: records for the server's log. The core adds request id, trace id,
--- route and worker.

local core = require("perilune.core")

---@class perilune.log
local M = {}

local RANK = { debug = 1, info = 2, warn = 3, error = 4 }

local least = RANK[core.config("log.level") or "info"] or RANK.info

local function write(level, message, fields)
  if type(message) ~= "string" then
    error(("P.log.%s takes a message, a string"):format(level), 3)
  end
  if fields ~= nil and type(fields) ~= "table" then
    error(("the fields of P.log.%s are a table"):format(level), 3)
  end
  if RANK[level] >= least then
    core.log(level, message, fields)
  end
end

---@param message string
---@param fields? table<string, string|number|boolean>
function M.debug(message, fields)
  write("debug", message, fields)
end

---@param message string
---@param fields? table<string, string|number|boolean>
function M.info(message, fields)
  write("info", message, fields)
end

---@param message string
---@param fields? table<string, string|number|boolean>
function M.warn(message, fields)
  write("warn", message, fields)
end

---@param message string
---@param fields? table<string, string|number|boolean>
function M.error(message, fields)
  write("error", message, fields)
end

return M
