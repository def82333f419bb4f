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
local assert, concat, error, getmetatable, next, rawget, setmetatable, tostring, type =
  assert, table.concat, error, getmetatable, next, rawget, setmetatable, tostring, type
local find, format = string.find, string.format
local istype = ffi.istype

ffi.cdef([[
struct pl_json_out {
  uint8_t *at;
  uint32_t pos, cap, busy, lead, depth;
  int32_t count[129], index[129];
};
int32_t pl_json_put_string(struct pl_json_out *out, const char *at, uint32_t bytes);
int32_t pl_json_put_key(struct pl_json_out *out, const char *at, uint32_t bytes);
int32_t pl_json_put_number(struct pl_json_out *out, double number);
int32_t pl_json_put_i64(struct pl_json_out *out, int64_t number);
int32_t pl_json_put_u64(struct pl_json_out *out, uint64_t number);
int32_t pl_json_put_word(struct pl_json_out *out, uint32_t word);
int32_t pl_json_open(struct pl_json_out *out, int32_t count);
int32_t pl_json_close(struct pl_json_out *out);
uint32_t pl_json_take(struct pl_json_out *out);
]])

---@class perilune.json
local M = {}

--- What stands for JSON's null, in both directions; truthy.
---@type lightuserdata
M.null = core.null

local null, array_mt = core.null, core.array_mt
local int64, uint64 = ffi.typeof("int64_t"), ffi.typeof("uint64_t")
local new_out = ffi.typeof("struct pl_json_out")

assert(ffi.sizeof(new_out) == core.out_bytes, "perilune.json was made for another core")

local DEPTH_MAX = 128 -- PL_JSON_DEPTH_MAX
local TEXT_BYTES_MAX = 67108864 -- PL_JSON_TEXT_BYTES_MAX
local NULL, FALSE, TRUE = 0, 1, 2 -- PL_JSON_WORD_*
local OBJECT, REFUSED = -1, -1 -- PL_JSON_OBJECT, PL_JSON_REFUSED
local KEEP_BYTES_MAX = 1048576 -- a buffer that has grown past it is not kept
local ROOM_BYTES = 4096 -- asked of the buffer at first
local PATH_KEYS_MAX = 16 -- of the way to a value that cannot be encoded
local SOURCE = debug.getinfo(1, "S").source

local TOO_LONG = "more than " .. TEXT_BYTES_MAX .. " bytes"
local MIXED = "a table with gaps, or keys of both kinds"
local TOO_DEEP = "more than " .. DEPTH_MAX .. " tables within each other, or a circle,"

---@class perilune.json.Encoder
---@field buf string.buffer
---@field out ffi.cdata* struct pl_json_out
---@field tables table the tables that are open, by depth
---@field keys table the key last taken from each with `next`

local function new_encoder()
  return {
    buf = buffer.new(ROOM_BYTES),
    out = new_out(),
    tables = table_new(DEPTH_MAX, 0),
    keys = table_new(DEPTH_MAX, 0),
  }
end

local kept = new_encoder()

---@return perilune.json.Encoder encoder ours alone until it is given back
local function take()
  local e = kept
  if C.pl_json_take(e.out) ~= 0 then
    e = new_encoder()
    e.out.busy = 1
    kept = e
  end
  local out = e.out
  out.at, out.cap = e.buf:reserve(ROOM_BYTES)
  out.pos, out.lead, out.depth = 0, 0, 0
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
  e.out.busy = 0
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

--- The key of `e` that was last taken at `depth`.
local function key_at(e, depth)
  local is_object = e.out.count[depth] == OBJECT
  return is_object and e.keys[depth] or e.out.index[depth]
end

--- Gives `e` up and raises; the message tells the way from the root.
---@param e perilune.json.Encoder
---@param what string
---@param key any in the innermost table, if not the one last taken
local function fail(e, what, key)
  local path, depth = {}, e.out.depth
  for at = 1, depth do
    if at > PATH_KEYS_MAX then
      path[at] = "..."
      break
    end
    local last = at == depth and key ~= nil
    path[at] = describe_key(last and key or key_at(e, at))
  end
  for at = 1, depth do
    e.tables[at] = false -- keeps no table of the user
  end
  give(e)

  local level = 2 -- of the function outside this file that called into it
  while debug.getinfo(level, "S").source == SOURCE do
    level = level + 1
  end
  local where = (concat(path):gsub("^%.", ""))
  error("cannot encode as JSON: " .. what .. (where == "" and "" or " at " .. where), level)
end

--- Keeps what was written and makes room for `need` bytes more; or fails, if
--- `need` says that there is no JSON form.
---@param e perilune.json.Encoder
---@param need integer not 0, from a put function
---@param what string the failure
local function grow(e, need, what)
  if need == REFUSED then
    fail(e, what)
  end
  local buf, out = e.buf, e.out
  buf:commit(out.pos)
  if #buf > TEXT_BYTES_MAX then
    fail(e, TOO_LONG)
  end
  local room = #buf > ROOM_BYTES and #buf or ROOM_BYTES
  out.at, out.cap = buf:reserve(need > room and need or room)
  out.pos = 0
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
local function put_scalar(e, out, v)
  local need
  if type(v) == "string" then
    need = C.pl_json_put_string(out, v, #v)
  elseif type(v) == "number" then
    need = C.pl_json_put_number(out, v)
  elseif v == true then
    need = C.pl_json_put_word(out, TRUE)
  elseif v == false then
    need = C.pl_json_put_word(out, FALSE)
  elseif v == null then
    need = C.pl_json_put_word(out, NULL)
  elseif type(v) == "cdata" and istype(int64, v) then
    need = C.pl_json_put_i64(out, v)
  elseif type(v) == "cdata" and istype(uint64, v) then
    need = C.pl_json_put_u64(out, v)
  else
    need = REFUSED
  end
  if need ~= 0 then
    grow(e, need, need == REFUSED and what_is(v))
    put_scalar(e, out, v)
  end
end

local function put_key(e, out, key)
  if type(key) ~= "string" then
    fail(e, type(key) == "number" and MIXED or "a key that is no string")
  end
  local need = C.pl_json_put_key(out, key, #key)
  if need ~= 0 then
    grow(e, need, "invalid UTF-8 in the key")
    C.pl_json_put_key(out, key, #key)
  end
end

local function open(e, out, t)
  local count = count_of(t)
  local need = C.pl_json_open(out, count)
  if need ~= 0 then
    grow(e, need, TOO_DEEP)
    C.pl_json_open(out, count)
  end
  local depth = out.depth
  e.tables[depth], e.keys[depth] = t, nil
end

local function close(e, out)
  e.tables[out.depth] = false -- keeps no table of the user
  local need = C.pl_json_close(out)
  if need ~= 0 then
    grow(e, need)
    C.pl_json_close(out)
  end
end

--- Takes the next element of an array.
---
--- Elements are read by index, but as many keys are taken with `next`: if it
--- has one more to give at the end, then that belongs to no element.
---@return any v nil at the end
local function take_element(e, out, depth, t)
  local index, keys = out.index[depth], e.keys
  local key = next(t, keys[depth])
  if index == out.count[depth] then
    if key ~= nil then
      fail(e, MIXED, find_stray(t, index))
    end
    return nil
  end
  keys[depth] = key
  out.index[depth] = index + 1
  local v = rawget(t, index + 1)
  if v == nil then
    fail(e, "an array with a gap")
  end
  return v
end

--- Takes the next member of an object and writes its name.
---@return any v nil at the end
local function take_member(e, out, depth, t)
  local keys = e.keys
  local key, v = next(t, keys[depth])
  if key ~= nil then
    keys[depth] = key
    put_key(e, out, key)
  end
  return v
end

--- Writes `root`, a table, with all that is in it.
---
--- Each turn of the loop takes the next value of the innermost container, or
--- closes it. There is one loop, so that the compiler finds one, and what lives
--- from turn to turn is in memory, not in variables: as their types change with
--- the data, they made it compile a trace for every combination.
---@param e perilune.json.Encoder
---@param root table
local function walk(e, root)
  local out, tables = e.out, e.tables
  open(e, out, root)
  repeat
    local depth = out.depth
    local t = tables[depth]
    local v
    if out.count[depth] == OBJECT then
      v = take_member(e, out, depth, t)
    else
      v = take_element(e, out, depth, t)
    end
    if v == nil then
      close(e, out)
    elseif type(v) == "table" then
      open(e, out, v)
    else
      put_scalar(e, out, v)
    end
  until out.depth == 0
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
  if type(value) == "table" then
    walk(e, value)
  else
    put_scalar(e, e.out, value)
  end
  local buf = e.buf
  buf:commit(e.out.pos)
  if #buf > TEXT_BYTES_MAX then
    fail(e, TOO_LONG)
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
