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
local table_new = require("table.new")
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
local SLOTS = 4 -- of the stack for each open container
local TOP_MAX = SLOTS * DEPTH_MAX
local PATH_KEYS_MAX = 16 -- of the way to a value that cannot be encoded
local SOURCE = debug.getinfo(1, "S").source
local SPARE_BYTES = 16 -- room for what the walk writes itself in one turn

local TOO_LONG = "more than " .. TEXT_BYTES_MAX .. " bytes"
local MIXED = "a table with gaps, or keys of both kinds"
local TOO_DEEP = "more than " .. DEPTH_MAX .. " tables within each other, or a circle,"

local COMMA, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT = 44, 91, 93, 123, 125
local OBJECT = -1 -- the count of a container that is no array

---@class perilune.json.Encoder
---@field buf string.buffer
---@field busy ffi.cdata* uint32_t[1]: 1 while a coroutine encodes with it
---@field stack table SLOTS slots per open container: the table around it with its
---  count and index, then its own key

local function new_stack()
  return table_new(TOP_MAX, 0)
end

local function new_encoder()
  return { buf = buffer.new(ROOM_BYTES), busy = uint32_cell(), stack = new_stack() }
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
---@param top integer where the innermost key is in the stack; 0: there is none
---@param key any in the innermost table; nil: itself is meant
---@param what string
local function fail(e, top, key, what)
  local stack, path = e.stack, {}
  for at = SLOTS * 2, top, SLOTS do
    if #path == PATH_KEYS_MAX then
      path[#path + 1] = "..."
      break
    end
    -- An array's count and index are kept when one of its tables is opened.
    local is_object = stack[at - 2] == OBJECT
    path[#path + 1] = describe_key(is_object and stack[at - SLOTS] or stack[at - 1])
  end
  if #path <= PATH_KEYS_MAX and key ~= nil then
    path[#path + 1] = describe_key(key)
  end
  e.stack = new_stack() -- the old one may hold tables of the user
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
local function grow(e, top, key, pos, need)
  local buf = e.buf
  buf:commit(pos)
  if #buf > TEXT_BYTES_MAX then
    fail(e, top, key, TOO_LONG)
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
local function put_scalar(e, top, key, out, cap, pos, lead, v)
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
        fail(e, top, key, what_is(v))
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
      fail(e, top, key, what_is(v))
    end
    out, cap = grow(e, top, key, pos, -after)
    pos = 0
  end
  return out, cap, pos
end

local function put_key(e, top, key, out, cap, pos, lead)
  if type(key) ~= "string" then
    fail(e, top, key, type(key) == "number" and MIXED or "a key that is no string")
  end
  local after = C.pl_json_put_key(out, pos, cap, lead, key, #key)
  if after < 0 then
    if after == REFUSED then
      fail(e, top, key, "invalid UTF-8 in the key")
    end
    out, cap = grow(e, top, key, pos, -after)
    after = C.pl_json_put_key(out, 0, cap, lead, key, #key)
  end
  return out, cap, after
end

--- Writes `root`, a table, with all that is in it.
---
--- Each turn of the loop takes the next value of the innermost container, or
--- closes it. There is one loop, so that the compiler finds one; no variable
--- that lives from turn to turn changes its type, which is why the keys are in
--- the stack. The opening bracket of a container is the `lead` of its first
--- value. Arrays are read by index, but as many keys are taken with `next`: if
--- it has one more to give at the end, then that belongs to no element.
---@param e perilune.json.Encoder
---@param root table
---@return integer pos how many bytes lie in the buffer and are not committed
local function walk(e, root)
  local stack = e.stack
  local out, cap = e.buf:reserve(ROOM_BYTES)
  local pos = 0
  local t, count, index = root, count_of(root), 0
  local lead = count == OBJECT and OPEN_OBJECT or OPEN_ARRAY
  local top = SLOTS -- of the stack: where the innermost container's key is
  stack[top] = nil

  while true do
    local v
    if cap - pos < SPARE_BYTES then
      out, cap = grow(e, top, nil, pos, SPARE_BYTES)
      pos = 0
    end
    if count >= 0 then
      if index < count then
        index = index + 1
        v = rawget(t, index)
        if v == nil then
          fail(e, top, index, "an array with a gap")
        end
        stack[top] = next(t, stack[top])
      elseif next(t, stack[top]) ~= nil then
        fail(e, top, find_stray(t, count), MIXED)
      end
    else
      local key
      key, v = next(t, stack[top])
      stack[top] = key
      if key ~= nil then
        out, cap, pos = put_key(e, top, key, out, cap, pos, lead)
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
      if top == SLOTS then
        return pos
      end
      t, count, index = stack[top - 3], stack[top - 2], stack[top - 1]
      stack[top - 3] = false
      top = top - SLOTS
      lead = COMMA
    elseif type(v) == "table" then
      if top == TOP_MAX then
        fail(e, top, count >= 0 and index or stack[top], TOO_DEEP)
      end
      if lead ~= 0 then
        out[pos] = lead
        pos = pos + 1
      end
      top = top + SLOTS
      stack[top - 3], stack[top - 2], stack[top - 1], stack[top] = t, count, index, nil
      t, count, index = v, count_of(v), 0
      lead = count == OBJECT and OPEN_OBJECT or OPEN_ARRAY
    else
      out, cap, pos = put_scalar(e, top, index, out, cap, pos, lead, v)
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
  if #buf > TEXT_BYTES_MAX then
    fail(e, 0, nil, TOO_LONG)
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
