-- bench/harness/trickle.lua - reads a FIFO into a file, no faster than it is told.
--
-- Usage: luajit trickle.lua FIFO FILE BYTES_PER_SECOND UNTIL
--
-- Once there is a file UNTIL it reads as fast as it can, and ends when nobody writes any more.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/?.lua;" .. package.path

local ffi = require("ffi")
local process = require("process")

ffi.cdef("long read(int fd, void *into, size_t bytes);")

local C = ffi.C
local O_RDONLY, O_NONBLOCK = 0, 2048
local STEP_S = 0.01
local CHUNK_BYTES = 65536

local fifo, path, rate, ending = arg[1], arg[2], tonumber(arg[3]), arg[4]
local fd = C.open(fifo, O_RDONLY + O_NONBLOCK)
assert(fd >= 0, "cannot open the FIFO")
local out = assert(io.open(path, "wb"))
local chunk = ffi.new("char[?]", CHUNK_BYTES)

local function exists(name)
  local file = io.open(name)
  return file ~= nil and file:close()
end

local is_over = false
while true do
  is_over = is_over or exists(ending)
  local want = is_over and CHUNK_BYTES or math.min(CHUNK_BYTES, rate * STEP_S)
  local count = tonumber(C.read(fd, chunk, want))
  if count > 0 then
    out:write(ffi.string(chunk, count))
  elseif count == 0 and is_over then
    break
  end
  if count <= 0 or not is_over then
    process.sleep(STEP_S)
  end
end
out:close()
