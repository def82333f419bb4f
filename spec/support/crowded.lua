--- An app whose workers can be made to look as if they had run for long: GET /crowd fills their
--- samples, stacks and symbols in the server's shared memory as full as they get, with rows that
--- all differ; GET /crowd-names its symbols alone. What that means is in core/fabric/samples.h,
--- stacks.h and symbols.h.

return [==[
local P = require "perilune"
local ffi = require "ffi"
local app = P.app {}

ffi.cdef [=[
struct spec_section { char name[24]; uint32_t version, element; uint64_t count, offset; };
]=]
local SAMPLES, WORDS, LINES = 262144, 262000, 32768
local PHASE_LUA = 1

local function section(name)
  local base
  for line in io.lines("/proc/self/maps") do
    base = base or line:find("memfd:perilune", 1, true) and line:match("^(%x+)")
  end
  base = ffi.cast("char *", tonumber(base, 16))
  local all = ffi.cast("struct spec_section *", base + 24)
  local count = ffi.cast("uint32_t *", base)[4]
  for i = 0, count - 1 do
    if ffi.string(all[i].name) == name then
      return base + all[i].offset
    end
  end
  error("no section " .. name)
end

local function words(at, offset)
  return ffi.cast("uint32_t *", at + (offset or 0))
end

local function add_symbols(at)
  local count, lines = words(at), words(at, 64)
  for i = count[0], LINES - 9 do
    lines[2 * i], lines[2 * i + 1] = 2, i
  end
  count[0] = LINES - 8
end

local function add_stacks(at)
  local count, list, places = words(at), words(at, 64), {}
  local next, symbol = count[0], 0
  while next + 65 < WORDS do
    places[#places + 1] = next
    list[next] = 64
    for i = 1, 64 do
      symbol = (symbol * 1103 + i) % (LINES - 100) + 8
      list[next + i] = symbol
    end
    next = next + 65
  end
  count[0] = next
  return places
end

local function add_samples(at, places)
  local count, list = ffi.cast("uint64_t *", at), ffi.cast("uint64_t *", at + 64)
  local now_ms = math.floor(P.monotonic() * 1000)
  for i = 0, SAMPLES - 1 do
    local time = ffi.cast("uint64_t", now_ms - math.floor((SAMPLES - i) / 330))
    list[2 * i] = time * 2ULL ^ 26 + (2ULL ^ 19 - 1) * 128 + PHASE_LUA * 8
    list[2 * i + 1] = 4000 * 2ULL ^ 40 + ffi.cast("uint64_t", i) * 2ULL ^ 20
      + places[i % #places + 1]
  end
  count[0] = SAMPLES
end

app:get("/", function() return "hi" end)
app:get("/crowd-names", function()
  add_symbols(section("symbols.0"))
  return "crowded"
end)
app:get("/crowd", function()
  add_symbols(section("symbols.0"))
  add_samples(section("samples.0"), add_stacks(section("stacks.0")))
  return "crowded"
end)
return app
]==]
