--- What a process of this machine holds: memory and descriptors, from /proc.

local process = require("spec.support.process")

local M = {}

local function kib(pid, file, name)
  local text = assert(process.slurp(("/proc/%d/%s"):format(pid, file)), "the process has ended")
  return tonumber(text:match(name .. ":%s*(%d+) kB"))
end

--- Its share of all memory that it maps, in bytes: pages of the fabric count
--- for those who have touched them.
---@param pid integer
---@return integer bytes
function M.pss(pid)
  return kib(pid, "smaps_rollup", "Pss") * 1024
end

--- What is resident of it, in bytes.
---@param pid integer
---@return integer bytes
function M.rss(pid)
  return kib(pid, "status", "VmRSS") * 1024
end

--- Whether those figures tell what the server holds: a sanitizer keeps what is
--- freed for a while.
---@param pid integer
---@return boolean
function M.is_plain(pid)
  return not process.slurp(("/proc/%d/maps"):format(pid)):find("libasan", 1, true)
end

--- How many descriptors it has open.
---@param pid integer
---@return integer count
function M.descriptors(pid)
  local list = assert(io.popen(("ls -U /proc/%d/fd | wc -l"):format(pid)))
  local count = tonumber(list:read("*a"))
  list:close()
  return count
end

return M
