--- What one worker publishes and all of them read: `P.config`.
---
--- A table is published as bytes (`string.buffer`), whole or not at all; each VM
--- decodes a version once. Whether there is a new one is one load and one
--- comparison. What is kept here changes by one store: another handler may run in
--- between (`held` is replaced, never changed).

local buffer = require("string.buffer")
local ffi = require("perilune.ffi")
local raw_ffi = require("ffi")

local C = ffi.C

---@class perilune.config
local M = {}

local BYTES_MAX = 262144 -- PL_LIMIT_PUBLISHED_BYTES
local FAILURES = { [-20001] = "the configuration is too large", [-20011] = "busy" }

local version_at ---@type ffi.cdata*? const uint32_t *: where the newest version lies
local held = { version = 0, value = nil }

local function bind()
  local at = C.pl_published_version()
  if at == nil then
    error("P.config: shared memory cannot be had", 3)
  end
  version_at = at
  return at
end

local function refresh()
  local out, version = raw_ffi.new("char[?]", BYTES_MAX), raw_ffi.new("uint32_t[1]")
  local bytes = C.pl_published_get(out, version)
  local fresh = { version = version[0], value = buffer.decode(raw_ffi.string(out, bytes)) }
  held = fresh
  return fresh.value
end

--- The table that was published last. It belongs to all handlers of the worker:
--- read it only.
---@return table? snapshot nil: nothing was published
function M.get()
  local at = version_at or bind()
  local now = held
  if at[0] == now.version then
    return now.value
  end
  return refresh()
end

--- The number of what was published last; 0: nothing was.
---@return integer
function M.version()
  local at = version_at or bind()
  return at[0]
end

--- Publishes a table to all workers, which see it from their next `get` on.
---@param snapshot table of strings, numbers, booleans and tables; at most 256 KiB as bytes
---@return integer? version
---@return string? err "the configuration is too large", "busy"
function M.publish(snapshot)
  if type(snapshot) ~= "table" then
    error("P.config.publish takes a table", 2)
  end
  local text = buffer.encode(snapshot)
  local version = C.pl_publish(text, #text)
  if version < 0 then
    return nil, FAILURES[version] or "no memory"
  end
  return version
end

return M
