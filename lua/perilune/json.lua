--- JSON (RFC 8259).
---
--- `decode` is the C function of core/vm/bind_json.c. `encode` walks tables
--- here, in one loop with a stack of its own, because that compiles and a C
--- function would not; strings and numbers are written by FFI functions into
--- the memory of a `string.buffer`. It runs no code of the user: metamethods
--- are not called.
---
--- An encoder (buffer and stack) is kept for the next call. As the coroutine
--- that encodes may be preempted and another one begin to encode, an encoder
--- is taken by one C call; who finds it taken makes a new one, which then is
--- the one that is kept. So one whose coroutine never comes back, because a
--- deadline ended it, is garbage and nothing worse.

local buffer = require("string.buffer")
local ffi = require("ffi")
local core = require("perilune.core.json")

local C = ffi.C
local concat, error, getmetatable, next, rawget, setmetatable, tostring, type =
  table.concat, error, getmetatable, next, rawget, setmetatable, tostring, type
local find, format = string.find, string.format
local istype = ffi.istype

ffi.cdef([[
int32_t pl_json_put_string(uint8_t *out, uint32_t pos, uint32_t cap, uint32_t lead,
                           const char *at, uint32_t bytes);
int32_t pl_json_put_key(uint8_t *out, uint32_t pos, uint32_t cap, uint32_t lead,
                        const char *at, uint32_t bytes);
int32_t pl_json_put_number(uint8_t *out, uint32_t pos, uint32_t cap, uint32_t lead, double number);
int32_t pl_json_put_i64(uint8_t *out, uint32_t pos, uint32_t cap, uint32_t lead, int64_t number);
int32_t pl_json_put_u64(uint8_t *out, uint32_t pos, uint32_t cap, uint32_t lead, uint64_t number);
uint32_t pl_json_take(uint32_t *busy);
]])

---@class perilune.json
local M = {}

--- What stands for JSON's null, in both directions; truthy.
---@type lightuserdata
M.null = core.null

local null, array_mt = core.null, core.array_mt
local int64, uint64, uint32_cell =
  ffi.typeof("int64_t"), ffi.typeof("uint64_t"), ffi.typeof("uint32_t[1]")

local DEPTH_MAX = 128 -- PL_JSON_DEPTH_MAX
local TEXT_BYTES_MAX = 67108864 -- PL_JSON_TEXT_BYTES_MAX
local REFUSED = -2147483648 -- PL_JSON_REFUSED
local KEEP_BYTES_MAX = 1048576 -- an encoder that has grown past it is not kept
local ROOM_BYTES = 4096 -- asked of the buffer at first
local PATH_KEYS_MAX = 16 -- of the way to a value that cannot be encoded
local SOURCE = debug.getinfo(1, "S").source
local SPARE_BYTES = 16 -- room for what the walk writes itself in one turn

local COMMA, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT = 44, 91, 93, 123, 125
local OBJECT = -1 -- the count of a container that is no array

---@class perilune.json.Encoder
---@field buf string.buffer
---@field busy ffi.cdata* uint32_t[1]: 1 while a coroutine encodes with it
---@field stack table three slots per container that is open around the innermost
---@field table table? the innermost, when an error is described
---@field key any where in it

local function new_encoder()
  return { buf = buffer.new(ROOM_BYTES), busy = uint32_cell(), stack = {}, key = false }
end

local kept = new_encoder()

---@return perilune.json.Encoder encoder ours alone until `busy` is 0 again
local function take()
  local e = kept
  if C.pl_json_take(e.busy) ~= 0 then
    e = new_encoder()
    e.busy[0] = 1
    kept = e
  end
  return e
end

--- Drops what was written, and gives the encoder back.
---@param e perilune.json.Encoder
local function give(e)
  if #e.buf > KEEP_BYTES_MAX then
    e.buf:free()
  else
    e.buf:reset()
  end
  e.busy[0] = 0
end

---@param key any
---@return string
local function describe_key(key)
  if type(key) == "number" then
    return format("[%.14g]", key)
  elseif type(key) ~= "string" then
    return "[" .. tostring(key) .. "]"
  elseif find(key, "^[%a_][%w_]*$") then
    return "." .. key
  end
  return format("[%q]", key)
end

--- Gives `e` up and raises; the message tells the way from the root.
---@param e perilune.json.Encoder
---@param depth integer containers that are open
---@param key any nil: the value itself is meant
---@param what string
local function fail(e, depth, key, what)
  local path = {}
  for open = 1, depth - 1 do
    if open > PATH_KEYS_MAX then
      path[open] = "..."
      break
    end
    path[open] = describe_key(e.stack[open * 3 - 1])
  end
  if depth > 0 and depth <= PATH_KEYS_MAX + 1 and key ~= nil then
    path[depth] = describe_key(key)
  end
  e.stack = {} -- the old one may hold tables of the user
  give(e)

  local level = 2 -- of the function outside this file that called into it
  while debug.getinfo(level, "S").source == SOURCE do
    level = level + 1
  end
  local where = (concat(path):gsub("^%.", ""))
  error("cannot encode as JSON: " .. what .. (where == "" and "" or " at " .. where), level)
end

--- Keeps the `pos` bytes written and makes room for `need` more.
---@return ffi.cdata* out, integer cap where to write from now on, and the room
local function grow(e, depth, key, pos, need)
  local buf = e.buf
  buf:commit(pos)
  if #buf > TEXT_BYTES_MAX then
    fail(e, depth, key, "more than " .. TEXT_BYTES_MAX .. " bytes")
  end
  local room = #buf > ROOM_BYTES and #buf or ROOM_BYTES
  return buf:reserve(need > room and need or room)
end

--- Finds the key that keeps `t` from being an array of `count` elements.
---@return any key nil when none does
local function find_stray(t, count)
  for key in next, t do
    if type(key) ~= "number" or key < 1 or key > count or key % 1 ~= 0 then
      return key
    end
  end
end

--- Tells what `t` is encoded as.
---@return integer count of elements; OBJECT when it is none
local function count_of(t)
  if rawget(t, 1) ~= nil or getmetatable(t) == array_mt then
    return #t
  end
  return OBJECT
end

---@param value any
---@return string
local function what_is(value)
  if type(value) == "string" then
    return "invalid UTF-8"
  elseif type(value) == "number" then
    return value ~= value and "NaN" or "an infinity"
  end
  return "a " .. type(value)
end

--- Writes a value that is no table.
---@return ffi.cdata* out, integer cap, integer pos
local function put_scalar(e, depth, key, out, cap, pos, lead, v)
  for _ = 1, 2 do
    local after
    if type(v) == "string" then
      after = C.pl_json_put_string(out, pos, cap, lead, v, #v)
    elseif type(v) == "number" then
      after = C.pl_json_put_number(out, pos, cap, lead, v)
    elseif type(v) == "cdata" and istype(int64, v) then
      after = C.pl_json_put_i64(out, pos, cap, lead, v)
    elseif type(v) == "cdata" and istype(uint64, v) then
      after = C.pl_json_put_u64(out, pos, cap, lead, v)
    else
      local word = v == true and "true" or v == false and "false" or v == null and "null" or nil
      if not word then
        fail(e, depth, key, what_is(v))
      end
      if lead ~= 0 then
        out[pos] = lead
        pos = pos + 1
      end
      ffi.copy(out + pos, word, #word)
      after = pos + #word
    end
    if after >= 0 then
      return out, cap, after
    elseif after == REFUSED then
      fail(e, depth, key, what_is(v))
    end
    out, cap = grow(e, depth, key, pos, -after)
    pos = 0
  end
  return out, cap, pos
end

local function put_key(e, depth, key, out, cap, pos, lead)
  if type(key) ~= "string" then
    fail(e, depth, key, type(key) == "number" and "a table with gaps, or keys of both kinds"
      or "a key that is no string")
  end
  local after = C.pl_json_put_key(out, pos, cap, lead, key, #key)
  if after < 0 then
    if after == REFUSED then
      fail(e, depth, key, "invalid UTF-8 in the key")
    end
    out, cap = grow(e, depth, key, pos, -after)
    after = C.pl_json_put_key(out, 0, cap, lead, key, #key)
  end
  return out, cap, after
end

--- Writes `root`, a table, with all that is in it.
---
--- Each turn of the loop takes the next value of the innermost container, or
--- closes it. There is one loop, so that the compiler finds one; the opening
--- bracket of a container is the `lead` of its first value.
---@param e perilune.json.Encoder
---@param root table
---@return integer pos how many bytes lie in the buffer and are not committed
local function walk(e, root)
  local stack = e.stack
  local out, cap = e.buf:reserve(ROOM_BYTES)
  local pos = 0
  local depth = 1
  local t, count = root, count_of(root)
  local index, key, lead = 0, nil, count == OBJECT and OPEN_OBJECT or OPEN_ARRAY

  while true do
    local v
    if cap - pos < SPARE_BYTES then
      out, cap = grow(e, depth, nil, pos, SPARE_BYTES)
      pos = 0
    end
    if count >= 0 then
      if index < count then
        index = index + 1
        v = rawget(t, index)
        if v == nil then
          fail(e, depth, index, "an array with a gap")
        end
      elseif next(t, count > 0 and count or nil) ~= nil and find_stray(t, count) ~= nil then
        fail(e, depth, find_stray(t, count), "a table with gaps, or keys of both kinds")
      end
    else
      key, v = next(t, key)
      if key ~= nil then
        out, cap, pos = put_key(e, depth, key, out, cap, pos, lead)
        lead = 0
      end
    end

    if v == nil then -- the end of the container
      if lead ~= COMMA then
        out[pos] = lead -- it was empty
        pos = pos + 1
      end
      out[pos] = count >= 0 and CLOSE_ARRAY or CLOSE_OBJECT
      pos = pos + 1
      depth = depth - 1
      if depth == 0 then
        return pos
      end
      local at = depth * 3 - 3
      t, count = stack[at + 1], stack[at + 3]
      stack[at + 1] = false
      if count >= 0 then
        index = stack[at + 2]
      else
        key = stack[at + 2]
      end
      lead = COMMA
    elseif type(v) == "table" then
      if depth == DEPTH_MAX then
        fail(e, depth, count >= 0 and index or key, "tables nested more than 128 deep, or in a circle")
      end
      if lead ~= 0 then
        out[pos] = lead
        pos = pos + 1
      end
      local at = depth * 3 - 3
      stack[at + 1], stack[at + 3] = t, count
      if count >= 0 then
        stack[at + 2] = index
      else
        stack[at + 2] = key
      end
      depth = depth + 1
      t, count, index, key = v, count_of(v), 0, nil
      lead = count == OBJECT and OPEN_OBJECT or OPEN_ARRAY
    else
      out, cap, pos = put_scalar(e, depth, count >= 0 and index or key, out, cap, pos, lead, v)
      lead = COMMA
    end
  end
end

--- Encodes `value`: a string (UTF-8), a number, a boolean, `null`, an `int64_t`
--- or `uint64_t`, or a table of these.
---
--- A table is an array if `t[1]` is there or `M.array` or `M.decode` made it
--- one, else an object with strings as names, in the order of `next`; an empty
--- one is `{}`. Numbers have the fewest digits that read back the same.
---
--- Raises, naming the way to the value, for what has no JSON form: other
--- types, NaN and infinities, invalid UTF-8, gaps, keys of both kinds, more
--- than 128 tables within each other (so, circles), more than 64 MiB.
---@param value any
---@return string json
function M.encode(value)
  local e = take()
  local buf = e.buf
  if type(value) == "table" then
    buf:commit(walk(e, value))
  else
    local out, cap = buf:reserve(ROOM_BYTES)
    local _, _, pos = put_scalar(e, 0, nil, out, cap, 0, 0, value)
    buf:commit(pos)
  end
  local json = buf:tostring()
  give(e)
  return json
end

--- Decodes one JSON text. `null` becomes `M.null`; arrays get the metatable
--- that makes them arrays again; of equal names the last one counts.
---@type fun(text: string): any, string?
--- The value, or nil and why not ("byte 7: control character in a string";
--- bytes count from 1). Raises when `text` is no string.
M.decode = core.decode

--- Makes `t` an array, also when it is empty, by giving it a metatable.
---@generic T: table
---@param t T
---@return T t the same table
function M.array(t)
  if type(t) ~= "table" then
    error("bad argument #1 to 'array' (table expected, got " .. type(t) .. ")", 2)
  end
  return setmetatable(t, array_mt)
end

return M
