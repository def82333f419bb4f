--- A collector that speaks OpenTelemetry's protocol (spec/support/otlp/collector.py), for specs:
--- started, told how to answer, and asked what it has got.

local assert = require("luassert")
local json = require("perilune.json")
local process = require("spec.support.process")

-- python3 may be one that Debian's packages are not for.
local PYTHON = "/usr/bin/python3"

local M = {}

---@class spec.Collector
---@field process spec.Process
---@field port integer
---@field url string
local Collector = {}
Collector.__index = Collector

--- Whether this machine has what the collector is made of.
function M.is_there()
  local look = process.spawn({ "sh", "-c",
    "command -v protoc && exec " .. PYTHON .. " -c 'import google.protobuf' 2>/dev/null" })
  local code = look:wait()
  process.cleanup()
  return code == 0
end

--- Starts one, on a port of the kernel's choice or that of one which has gone.
---@param port? integer
---@return spec.Collector
function M.start(port)
  local p = process.spawn({ PYTHON, "spec/support/otlp/collector.py", port and tostring(port) })
  local found = p:wait_for("out", "port (%d+)\n")
  assert(found, p:err())
  found = tonumber(found)
  return setmetatable({ process = p, port = found, url = "http://127.0.0.1:" .. found }, Collector)
end

--- A port that nobody listens on.
---@return integer
function M.free_port()
  local c = M.start()
  c:die()
  return c.port
end

function Collector:die()
  self.process:kill("KILL")
  self.process:wait()
end

function Collector:_get(path)
  local p = process.spawn({ "curl", "-sS", "--max-time", "20", self.url .. path })
  assert.equal(0, p:wait(30), p:err())
  return p:out()
end

--- How it answers from now on; see collector.py. Nothing: with 200.
---@param how? string as in "signal=logs&status=503&count=2"
function Collector:answer(how)
  self:_get("/answer?" .. (how or ""))
end

--- All that it has got so far; what it has found at fault fails here.
---@return { requests: table[], spans: table[], metrics: table[], logs: table[] }
function Collector:seen()
  local seen = json.decode(self:_get("/seen"))
  assert.same({}, { unpack(seen.faults) })
  return seen
end

--- Waits until what it has got is what is wanted.
---@generic T
---@param look fun(seen: table): T?
---@param seconds? number default 20
---@return T? nil when it never was
function Collector:eventually(look, seconds)
  local found
  process.eventually(function()
    found = look(self:seen())
    return found
  end, seconds or 20)
  return found
end

--- Those of a list that have a value.
---@param list table[]
---@param name string
---@param value any
---@return table[]
function M.select(list, name, value)
  local found = {}
  for _, one in ipairs(list) do
    if one[name] == value then
      found[#found + 1] = one
    end
  end
  return found
end

return M
