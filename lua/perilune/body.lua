--- Reads the body of a request: whole, in pieces, as JSON, as a form.
---
--- The core has enforced `limits.body` and the read timeouts; what it says of a
--- body that it had to refuse (400, 408, 413) is raised as a problem, which
--- answers the request. Waits for bytes that have not come.

local buffer = require("string.buffer")
local ffi = require("perilune.ffi")
local form = require("perilune.form")
local json = require("perilune.json")
local multipart = require("perilune.multipart")
local problem = require("perilune.problem")
local wait = require("perilune.wait")

local C = ffi.C
local decode_body = require("perilune.core").decode_body
local band = require("bit").band
local text_of = require("ffi").string
local pause = wait.pause

---@class perilune.body
local M = {}

local BYTES, END, FAILED = 1, 2, 3 -- PL_BODY_*
local BODY_DONE = 8 -- PL_REQ_BODY_DONE

local DETAIL = {
  [408] = "the body of the request did not come in time",
  [413] = "the body of the request is too large",
}

local function failed(req)
  local status = req.body_status
  problem.raise(status, DETAIL[status] or "the body of the request is malformed")
end

--- Waits until there are bytes or none will come.
---@param req ffi.cdata*
---@return boolean more false at the end of the body
local function more(req)
  while true do
    local state = C.pl_body_poll(req)
    if state == BYTES then
      return true
    elseif state == END then
      return false
    elseif state == FAILED then
      return failed(req)
    end
    C.pl_wait_body(req)
    pause()
  end
end

--- The next piece of the body, one byte or more, or nil at its end. The step
--- of the iterator that c:chunks() gives.
---@param req ffi.cdata*
---@return string? bytes
function M.chunk(req)
  if more(req) then
    local body = req.body
    local bytes = text_of(body.at, body.bytes)
    C.pl_body_take(req, #bytes)
    return bytes
  end
end

--- What is left of the body, all of it, which goes to `record.body` too. Takes
--- it from the core; a body that is all there is recorded first: of two tasks of
--- a request that ask for it at the same time, one finds it in the core, or else
--- in the record.
---@param req ffi.cdata*
---@param record table
---@return string bytes
function M.whole(req, record)
  if not more(req) then
    record.body = record.body or ""
    return record.body
  end
  local body = req.body
  if band(req.flags, BODY_DONE) ~= 0 then
    local bytes = text_of(body.at, body.bytes)
    record.body = record.body or bytes
    C.pl_body_take(req, #bytes)
    return record.body
  end
  local parts = buffer.new()
  repeat
    local count = req.body.bytes
    parts:putcdata(req.body.at, count)
    C.pl_body_take(req, count)
  until not more(req)
  record.body = parts:tostring()
  return record.body
end

--- The media type of a Content-Type value, lower case, without parameters.
---@param value string?
---@return string? media_type
local function media_type(value)
  local kind = value and value:match("^%s*([^%s;]+)%s*;?")
  return kind and kind:lower()
end
M.media_type = media_type

local function is_json(value)
  local kind = media_type(value)
  return kind == "application/json" or kind ~= nil and kind:find("^[^/]+/[^/]+%+json$") ~= nil
end

--- Raises 415 for another media type than JSON's (also for none: browsers let
--- foreign pages send a body without one).
---@param content_type string?
function M.expect_json(content_type)
  if content_type ~= "application/json" and not is_json(content_type) then
    problem.raise(415, "the body of the request must be application/json")
  end
end

local function no_json(err)
  problem.raise(400, "the body of the request is no JSON: " .. tostring(err))
end

--- Decodes a JSON body; raises 400 for malformed bytes.
---@param bytes string
---@return any value
function M.json(bytes)
  local value, err = json.decode(bytes)
  if value == nil then
    return no_json(err)
  end
  return value
end

--- The same for a body that is all there, from where it lies; nothing is taken.
---@param req ffi.cdata*
---@return any value nil when it isn't all there: read it first
function M.json_in_place(req)
  if band(req.flags, BODY_DONE) == 0 or req.body.bytes == 0 then
    return nil
  end
  local value, err = decode_body(req.slot)
  if value ~= nil then
    return value
  elseif req.body.bytes == 0 then
    return nil -- a task of the request has taken it meanwhile
  end
  return no_json(err)
end

--- Decodes a form, urlencoded or multipart; raises 415 for another media type,
--- 400 for malformed bytes, 413 for too many fields.
---@param bytes string
---@param content_type string?
---@return table<string, string> fields
---@return table files of multipart/form-data; empty otherwise
function M.form(bytes, content_type)
  local kind = media_type(content_type)
  local fields, files, code
  if kind == "application/x-www-form-urlencoded" then
    fields, files, code = form.parse(bytes)
    if fields then
      return fields, {}
    end
  elseif kind == "multipart/form-data" then
    fields, files, code = multipart.parse(bytes, content_type)
    if fields then
      return fields, files
    end
  else
    problem.raise(415, "the body of the request must be a form")
  end
  problem.raise(tostring(code):find("^too_") and 413 or 400,
    "the body of the request is no form: " .. tostring(files))
end

return M
