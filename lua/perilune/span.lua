--- P.span and P.span_set: pieces of work that traces show by name.
---
--- The core notes when a span begins and ends, and which one the coroutine is in; so logs, the
--- headers of outgoing requests, waits and inner spans have it as theirs. Whether anything is kept
--- is decided at the end of the request.

local ffi = require("perilune.ffi")
local problem = require("perilune.problem")
local runner = require("perilune.runner")

local C = ffi.C
local describe = runner.describe
local error, type, xpcall = error, type, xpcall

---@class perilune.span
local M = {}

--- Why a span has failed; nil: what ended it is no failure of the work, but somebody's wish, or an
--- answer to a client who has asked for the impossible.
---@param failure any as `runner.describe` gives it
---@return string?
local function why(failure)
  if not problem.is(failure) then
    return runner.message(runner.failure(failure).err)
  end
  if failure.kind == "cancelled" or failure.kind == "gone" or failure.kind == "problem"
    and failure.status < 500 then
    return nil
  end
  return failure.message or failure.detail or failure.kind
end

local function end_failed(token, failure)
  local message = why(failure)
  if message then
    C.pl_span_end(token, message, #message)
  else
    C.pl_span_end(token, nil, -1)
  end
  error(runner.rethrown(failure), 0)
end

local function finish(token, ok, ...)
  if not ok then
    end_failed(token, (...))
  end
  C.pl_span_end(token, nil, -1)
  return ...
end

--- Runs `fn(...)` in a span of its own and gives what it returns. What it raises is raised again,
--- and the span has failed.
---@param name string
---@param fn function
---@return any ...
function M.span(name, fn, ...)
  if type(name) ~= "string" then
    error("P.span takes a name, a function, and arguments for it", 2)
  end
  if type(fn) ~= "function" then
    error(("P.span takes a function, not a %s"):format(type(fn)), 2)
  end
  return finish(C.pl_span_begin(name, #name), xpcall(fn, describe, ...))
end

--- Says something about the innermost span that runs, or about the request or the task where there
--- is none.
---@param key string
---@param value string|number|boolean
function M.set(key, value)
  local kind = type(value)
  if type(key) ~= "string" then
    error("P.span_set takes a key, which is a string, and a value", 2)
  end
  if kind == "string" then
    C.pl_span_str(key, #key, value, #value)
  elseif kind == "number" then
    C.pl_span_num(key, #key, value)
  elseif kind == "boolean" then
    C.pl_span_bool(key, #key, value and 1 or 0)
  else
    error(("the value of P.span_set is a string, a number or a boolean, not a %s"):format(kind), 2)
  end
end

return M
