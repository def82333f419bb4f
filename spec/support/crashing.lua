--- An app whose handlers end, stop or hold up their worker, and what specs ask
--- of the log about it.

local json = require("perilune").json

local M = {}

M.APP = [[
local P = require "perilune"
local ffi = require "ffi"
ffi.cdef "int getpid(void); int raise(int number); unsigned sleep(unsigned s); void abort(void);"
ffi.cdef "int regcomp(void *compiled, const char *pattern, int flags); void _exit(int);"
local app = P.app {}
app:get("/pid", function() return tostring(ffi.C.getpid()) end)
app:get("/echo/:n<int>", function(_, n) return tostring(n) end)
app:get("/slow/:ms<int>", function(_, ms) P.sleep(ms / 1000) return "slow" end)
app:get("/segv", function()
  ffi.cast("int *", 8)[0] = 1 -- line 10
end)
app:get("/segv-compiled", function()
  local at = ffi.new("int *[1]")
  local own = ffi.new("int[1]")
  for i = 1, 1000 do
    at[0] = i < 900 and own or ffi.cast("int *", 16)
    at[0][0] = i -- line 17
  end
end)
app:get("/abort", function()
  ffi.C.abort() -- line 21
end)
app:get("/overflow", function()
  -- The parser of regular expressions goes one call deeper with each bracket.
  ffi.C.regcomp(ffi.new("char[256]"), ("("):rep(1000000), 1)
end)
app:get("/hang/:s<int>", function(c, s)
  local mark = c:header("x-mark")
  if mark then
    io.open(mark, "w"):close() -- from here on this worker accepts nothing
  end
  ffi.C.sleep(s) -- line 32
  return "awake"
end)
app:get("/maybe/:number<int>", function(_, number)
  if number > 0 then
    ffi.C.raise(number)
  end
  return "alive"
end)
app:get("/exit/:code<int>", function(_, code)
  ffi.C._exit(code)
end)
return app
]]

--- All records of a log, in their order; a line that is none fails.
---@param text string
---@return table[]
function M.records(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do
    list[#list + 1] = assert(json.decode(line), line)
  end
  return list
end

--- Waits for the record with this message, the first one behind `from`.
---@param server spec.Server
---@param message string
---@param seconds? number default 10
---@return table record
function M.wait_record(server, message, seconds)
  local pattern = '({"time":"[^\n]*"msg":"' .. message:gsub("%p", "%%%0") .. '"[^\n]*)\n'
  local line = server:wait_log(pattern, seconds or 10)
  return json.decode(assert(line, "no record: " .. message .. "\n" .. server:log()))
end

--- Records with this message so far.
---@param server spec.Server
---@param message string
---@return table[]
function M.find_records(server, message)
  local found = {}
  for _, record in ipairs(M.records(server:log())) do
    found[#found + 1] = record.msg == message and record or nil
  end
  return found
end

return M
