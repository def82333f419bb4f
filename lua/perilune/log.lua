--- P.log: records for the server's log. The core adds request id, trace id,
--- span id, tenant, route, generation and worker.
---
--- A call writes one record into the worker's ring, by FFI, and compiles. Fields
--- come as names and values in turn, which allocates nothing, or as a table,
--- which has to be made first. No loop is on the usual path: a loop that has
--- become a trace of its own would end the traces of those that log.

local ffi = require("perilune.ffi")

local C = ffi.C
local next, select, type = next, select, type

---@class perilune.log
local M = {}

local DEBUG, INFO, WARN, ERROR = 0, 1, 2, 3
local NAMES = { [DEBUG] = "debug", [INFO] = "info", [WARN] = "warn", [ERROR] = "error" }

local function put(key, value)
  local kind = type(value)
  if kind == "string" then
    C.pl_log_str(key, #key, value, #value)
  elseif kind == "number" then
    C.pl_log_num(key, #key, value)
  elseif kind == "boolean" then
    C.pl_log_bool(key, #key, value and 1 or 0)
  elseif kind ~= "nil" then
    C.pl_log_str(key, #key, kind, #kind)
  end
end

local function put_entry(key, value)
  if type(key) == "string" then -- a field needs a name
    put(key, value)
  end
end

local function put_entries(fields, key)
  local value
  key, value = next(fields, key)
  while key ~= nil do
    put_entry(key, value)
    key, value = next(fields, key)
  end
end

local function put_table(fields)
  local key, value = next(fields)
  if key == nil then
    return
  end
  put_entry(key, value)
  key, value = next(fields, key)
  if key == nil then
    return
  end
  put_entry(key, value)
  key, value = next(fields, key)
  if key == nil then
    return
  end
  put_entry(key, value)
  key, value = next(fields, key)
  if key == nil then
    return
  end
  put_entry(key, value)
  key, value = next(fields, key)
  if key == nil then
    return
  end
  put_entry(key, value)
  key, value = next(fields, key)
  if key == nil then
    return
  end
  put_entry(key, value)
  put_entries(fields, key)
end

local function bad_name(level, depth)
  C.pl_log_forget()
  error(("P.log.%s takes names, which are strings, and values in turn"):format(NAMES[level]),
    depth + 1)
end

local function put_pairs(level, ...)
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    if type(key) ~= "string" then
      bad_name(level, 4)
    end
    put(key, value)
  end
end

local function put_pair(level, key, value)
  if type(key) ~= "string" then
    bad_name(level, 4)
  end
  put(key, value)
end

local function write(level, message, fields, v1, k2, v2, k3, v3, k4, v4, k5, v5, k6, v6, ...)
  if type(message) ~= "string" then
    error(("P.log.%s takes a message, a string"):format(NAMES[level]), 3)
  end
  local kind = type(fields)
  if kind ~= "nil" and kind ~= "table" and kind ~= "string" then
    error(("the fields of P.log.%s are a table, or names and values in turn")
      :format(NAMES[level]), 3)
  end
  if C.pl_log_begin(level, message, #message) == 0 then -- the level may change while it serves
    return
  end
  if kind == "table" then
    put_table(fields)
  elseif kind == "string" then
    put(fields, v1)
    if k2 ~= nil then
      put_pair(level, k2, v2)
      if k3 ~= nil then
        put_pair(level, k3, v3)
        if k4 ~= nil then
          put_pair(level, k4, v4)
          if k5 ~= nil then
            put_pair(level, k5, v5)
            if k6 ~= nil then
              put_pair(level, k6, v6)
              if select("#", ...) > 0 then
                put_pairs(level, ...)
              end
            end
          end
        end
      end
    end
  end
  C.pl_log_end()
end

---@param message string
---@param fields? perilune.log.Fields|string a table, or the name of the first field
---@param ... string|number|boolean? its value, and more names and values in turn
function M.debug(message, fields, ...)
  write(DEBUG, message, fields, ...)
end

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function M.info(message, fields, ...)
  write(INFO, message, fields, ...)
end

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function M.warn(message, fields, ...)
  write(WARN, message, fields, ...)
end

---@param message string
---@param fields? perilune.log.Fields|string
---@param ... string|number|boolean?
function M.error(message, fields, ...)
  write(ERROR, message, fields, ...)
end

return M
