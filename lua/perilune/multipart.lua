--- Reads `multipart/form-data` bodies (RFC 7578, framing of RFC 2046, 5.1.1).
---
--- Pure and strict: where parsers of other servers are known to disagree, as
--- about what may stand around a boundary, it refuses. The whole body is in
--- memory already and bounded by `limits.body`; what is bounded here are the
--- number of parts and the size of their heads.

local byte, find, format, gsub, lower, match, sub =
  string.byte, string.find, string.format, string.gsub, string.lower, string.match, string.sub

---@class perilune.multipart
local M = {}

---@alias perilune.multipart.Code
---| "not_multipart"  the media type is another one
---| "bad_boundary"   no boundary parameter, or one RFC 2046 does not allow
---| "bad_framing"    a boundary is missing, or something stands beside it
---| "bad_part"       a part's head is malformed
---| "too_many_parts"
---| "head_too_large"

---@class perilune.multipart.Opts
---@field parts_max? integer how many parts there may be; default 256
---@field head_bytes_max? integer how long a part's head may be; default 8192

---@class perilune.multipart.File
---@field name string of the form's field
---@field filename string as sent: never use it as a path
---@field type string the part's media type as sent; text/plain when there is none
---@field body string

local PARTS_MAX = 256
local HEAD_BYTES_MAX = 8192
local BOUNDARY_BYTES_MAX = 70 -- RFC 2046, 5.1.1

local TOKEN = "[%w!#$%%&'*+%-.^_`|~]+"
local PARAMETER = "^[ \t]*;[ \t]*(" .. TOKEN .. ")=()"
local QUOTE, BACKSLASH, SPACE, TAB = 34, 92, 32, 9

--- Reads the quoted string at `from`. A backslash escapes `"` and itself; in
--- front of anything else it stands for itself, because browsers send file
--- names with backslashes unescaped.
---@return string? text nil when it does not end
---@return integer after
local function read_quoted(s, from)
  local at = from + 1
  while true do
    at = find(s, '["\\]', at)
    if not at then
      return nil, #s
    elseif byte(s, at) == QUOTE then
      return (gsub(sub(s, from + 1, at - 1), '\\(["\\])', "%1")), at + 1
    end
    local escaped = byte(s, at + 1)
    at = at + ((escaped == QUOTE or escaped == BACKSLASH) and 2 or 1)
  end
end

--- Reads `; name=value` pairs from `from` to the end of `s`.
---@return table<string, string>? parameters by lower-case name; nil when malformed
---  or when one comes twice
local function read_parameters(s, from)
  local parameters = {}
  while not find(s, "^[ \t]*$", from) do
    local name, at = match(s, PARAMETER, from)
    if not name then
      return nil
    end
    local value
    if sub(s, at, at) == '"' then
      value, from = read_quoted(s, at)
    else
      value, from = match(s, "^(" .. TOKEN .. ")()", at)
    end
    name = lower(name)
    if not value or parameters[name] then
      return nil
    end
    parameters[name] = value
  end
  return parameters
end

---@param content_type string?
---@return string? boundary
---@return string? err
---@return perilune.multipart.Code? code
local function read_boundary(content_type)
  local media_type, after = match(content_type or "", "^[ \t]*([^; \t]+)()")
  if not media_type or lower(media_type) ~= "multipart/form-data" then
    return nil, "the media type is not multipart/form-data", "not_multipart"
  end
  local parameters = read_parameters(content_type, after)
  local boundary = parameters and parameters.boundary
  if not boundary or #boundary > BOUNDARY_BYTES_MAX or find(boundary, "[^%w'()+_,%-./:=? ]")
    or not find(boundary, "[^ ]$") then
    return nil, "no valid boundary in the media type", "bad_boundary"
  end
  return boundary
end

--- A pattern for this would try every run of spaces.
---@return string s without the white space at its end
local function trim_end(s)
  local to = #s
  while byte(s, to) == SPACE or byte(s, to) == TAB do
    to = to - 1
  end
  return sub(s, 1, to)
end

--- Reads the fields of a part's head.
---@return table<string, string>? head by lower-case name; nil when malformed or when
---  one comes twice
local function read_head(s)
  local head, from = {}, 1
  while from <= #s do
    local to = find(s, "\r\n", from, true) or #s + 1
    local name, value = match(sub(s, from, to - 1), "^(" .. TOKEN .. "):[ \t]*(.*)$")
    if not name or find(value, "[%z\1-\8\10-\31\127]") then
      return nil
    end
    name = lower(name)
    if head[name] then
      return nil
    end
    head[name] = trim_end(value)
    from = to + 2
  end
  return head
end

local TRANSPARENT = { ["7bit"] = true, ["8bit"] = true, ["binary"] = true }

--- Tells what a part's head says of it.
---@return table<string, string>? parameters of Content-Disposition, `name` among them
---@return string what the media type, or what is wrong
local function describe_part(s)
  local head = read_head(s)
  if not head then
    return nil, "malformed head"
  end
  local coding = head["content-transfer-encoding"] -- deprecated, RFC 7578, 4.7
  if coding and not TRANSPARENT[lower(coding)] then
    return nil, "Content-Transfer-Encoding is not supported"
  end
  local kind, after = match(head["content-disposition"] or "", "^([^; \t]+)()")
  local parameters = kind and lower(kind) == "form-data"
    and read_parameters(head["content-disposition"], after)
  if not parameters or not parameters.name then
    return nil, "no valid Content-Disposition with a name"
  elseif parameters["filename*"] then -- RFC 7578, 4.2
    return nil, "filename* is not allowed in forms"
  end
  return parameters, head["content-type"] or "text/plain"
end

--- Parses `body`.
---
--- A part with a filename is a file, any other a field. When a field comes more
--- than once its first value counts, as in `perilune.form`; files are all kept,
--- but for the empty one without a name that browsers send when none was chosen.
--- Names and values are bytes: not checked for UTF-8, `%22` is not decoded.
---@param body string
---@param content_type string? the Content-Type field of the request
---@param opts? perilune.multipart.Opts
---@return table<string, string>? fields name to value; nil on failure
---@return perilune.multipart.File[]|string files in the order of the body; or what is
---  wrong, for people
---@return perilune.multipart.Code? code what is wrong, for programs
function M.parse(body, content_type, opts)
  local boundary, err, code = read_boundary(content_type)
  if not boundary then
    return nil, err, code
  end
  local parts_max = opts and opts.parts_max or PARTS_MAX
  local head_bytes_max = opts and opts.head_bytes_max or HEAD_BYTES_MAX
  local delimiter = "\r\n--" .. boundary
  local fields, files, count = {}, {}, 0

  if sub(body, 1, #delimiter - 2) ~= sub(delimiter, 3) then
    return nil, "the body does not begin with its boundary", "bad_framing"
  end
  local at = #delimiter - 1 -- behind a boundary
  while sub(body, at, at + 1) == "\r\n" do
    count = count + 1
    if count > parts_max then
      return nil, format("more than %d parts", parts_max), "too_many_parts"
    end
    local head_end = find(body, "\r\n\r\n", at, true)
    if (head_end or #body) - at - 2 > head_bytes_max then
      return nil, format("head of part %d longer than %d bytes", count, head_bytes_max),
        "head_too_large"
    elseif not head_end then
      return nil, format("head of part %d does not end", count), "bad_part"
    end
    local parameters, what = describe_part(sub(body, at + 2, head_end - 1))
    if not parameters then
      return nil, format("part %d: %s", count, what), "bad_part"
    end
    -- An empty body may share its line end with the head's (RFC 2046, 5.1.1).
    local body_end = find(body, delimiter, head_end + 2, true)
    if not body_end then
      return nil, format("part %d does not end", count), "bad_framing"
    end
    local name, filename, content = parameters.name, parameters.filename,
      sub(body, head_end + 4, body_end - 1)
    if not filename then
      fields[name] = fields[name] or content
    elseif filename ~= "" or content ~= "" then
      files[#files + 1] = { name = name, filename = filename, type = what, body = content }
    end
    at = body_end + #delimiter
  end

  local rest = sub(body, at)
  if rest ~= "--" and rest ~= "--\r\n" then
    return nil, "something stands beside a boundary", "bad_framing"
  end
  return fields, files
end

return M
