--- Runs one case of the wire in several ways: its bytes whole, byte by byte,
--- and, where it says so, over a real socket to a real server. The split must
--- change nothing. A spec file that uses sockets says teardown(process.cleanup).
---
---   local wire = ways.open(it, "spec/support/app/wire")
---   wire.fact("answers HEAD without a body", function(talk)
---     local r = talk:one("HEAD /text HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD")
---     assert.equal("", r.body)
---   end, { socket = true })

local P = require("perilune")
local core = require("perilune.core")
local process = require("spec.support.process")
local response = require("spec.support.response")
local sockets = require("spec.support.wire")
local test = require("perilune.test")

---@class spec.ways
local M = {}

local WAIT_SECONDS = 5 -- for bytes that must come
local SETTLE_TURNS = 20 -- turns of the loop after which what could come has come

--- One end of a connection without a socket.
local Memory = {}
Memory.__index = Memory

function Memory:write(bytes)
  if not self.split then
    self.connection:send(bytes)
    return P.sleep(0)
  end
  for i = 1, #bytes do
    self.connection:send(bytes:sub(i, i))
    P.sleep(0)
  end
end

function Memory:pull()
  local bytes, closed = core.inject_take(self.connection._handle)
  return bytes, closed
end

function Memory:settle() -- luacheck: no self
  for _ = 1, SETTLE_TURNS do
    P.sleep(0)
  end
end

function Memory:pause() -- luacheck: no self
  P.sleep(0.001)
end

function Memory:half_close()
  self.connection:half_close()
end

function Memory:close()
  self.connection:close()
end

--- One end of a real connection. The server is another process, so waiting may
--- block this one.
local Socket = {}
Socket.__index = Socket

local PAUSE_SECONDS, SETTLE_SECONDS = 0.002, 0.05

function Socket:write(bytes)
  self.wire:send(bytes) -- where it fails, the server has closed: its response is what counts
end

function Socket:pull()
  local bytes, err = self.wire:receive(0)
  if err == "reset" then
    error("the server has reset the connection", 0)
  end
  return bytes or "", err == "closed"
end

function Socket:settle() -- luacheck: no self
  process.sleep(SETTLE_SECONDS)
end

function Socket:pause() -- luacheck: no self
  process.sleep(PAUSE_SECONDS)
end

function Socket:half_close()
  self.wire:half_close()
end

function Socket:close()
  self.wire:close()
end

--- A connection that responses are read from.
---@class spec.Line
local Line = {}
Line.__index = Line

local function new_line(stream)
  return setmetatable({ stream = stream, raw = "", closed = false }, Line)
end

--- Takes what has come.
function Line:pull()
  if not self.closed then
    local bytes, closed = self.stream:pull()
    self.raw, self.closed = self.raw .. bytes, closed
  end
end

---@param bytes string
---@return spec.Line
function Line:send(bytes)
  self.stream:write(bytes)
  return self
end

--- Waits until `done()` is true; what it was otherwise is an error.
local function wait_until(line, what, done)
  local stop = os.time() + WAIT_SECONDS + 1
  line:pull()
  while not done() do
    if os.time() > stop then
      error(("%s did not come; there is %q"):format(what, line.raw:sub(1, 300)), 0)
    end
    line.stream:pause()
    line:pull()
  end
end

--- The next response.
---@param method? string of its request; default GET
---@return spec.Response
function Line:response(method)
  local found, next_at
  wait_until(self, "a response", function()
    found, next_at = response.read(self.raw, 1, method or "GET", self.closed)
    if not found and self.closed then
      error(("closed without a response; there is %q"):format(self.raw:sub(1, 300)), 0)
    end
    return found
  end)
  self.raw = self.raw:sub(next_at)
  return found
end

--- Waits until bytes with `text` in them have come; leaves them.
function Line:expect(text)
  wait_until(self, ("%q"):format(text), function()
    return self.raw:find(text, 1, true)
  end)
end

--- Nothing has come, and the server has not closed.
function Line:is_quiet()
  self.stream:settle()
  self:pull()
  return self.raw == "" and not self.closed
end

--- Waits until the server has closed; the bytes that were left.
---@return string
function Line:rest()
  wait_until(self, "the end", function()
    return self.closed
  end)
  return self.raw
end

function Line:half_close()
  self.stream:half_close()
end

function Line:close()
  self.stream:close()
end

--- What a case talks through.
---@class spec.Talk
local Talk = {}
Talk.__index = Talk

---@return spec.Line
function Talk:open()
  local line = new_line(self.connect())
  self.lines[#self.lines + 1] = line
  return line
end

--- Sends bytes that make one request; its response. The connection must stay.
---@param bytes string
---@param method? string default GET
---@return spec.Response
function Talk:one(bytes, method)
  return self:all(bytes, { method or "GET" })[1]
end

--- Sends bytes that make as many requests as there are methods. The connection
--- must stay, and nothing else may come.
---@param bytes string
---@param methods string[]
---@return spec.Response[]
function Talk:all(bytes, methods)
  local line, list = self:open():send(bytes), {}
  for i, method in ipairs(methods) do
    list[i] = line:response(method)
  end
  if not line:is_quiet() then
    error(("the connection did not stay: %q"):format(line.raw), 2)
  end
  return list
end

--- Sends bytes after whose one response the server must close.
---@param bytes string
---@param method? string default GET
---@return spec.Response
function Talk:last(bytes, method)
  local line = self:open():send(bytes)
  local found = line:response(method)
  local rest = line:rest()
  if rest ~= "" then
    error(("more than one response: %q"):format(rest), 2)
  end
  return found
end

--- How many handlers of the app have run.
---@return integer
function Talk:hits()
  local line = self:open()
  line.stream.split = false
  line:send("GET /hits HTTP/1.1\r\nHost: x\r\n\r\n")
  return tonumber(line:response().body)
end

local function new_talk(connect)
  return setmetatable({ connect = connect, lines = {} }, Talk)
end

local function run(fn, connect)
  local talk = new_talk(connect)
  local ok, err = xpcall(fn, function(raised)
    -- busted's assertions are tables; a text gets the place it came from.
    return type(raised) == "string" and debug.traceback(raised, 2) or raised
  end, talk)
  for _, line in ipairs(talk.lines) do
    line:close()
  end
  if not ok then
    error(err, 0)
  end
end

--- A connection of a spec's own to a real server.
---@param port integer|string
---@return spec.Line
function M.connect(port)
  return new_line(setmetatable({ wire = assert(sockets.connect(port)) }, Socket))
end

--- The ways to drive an app. Options: config, as of test.app; args, of `perilune
--- run`: for the cases that say { socket = true }.
---@param it function busted's, which only spec files see
---@param path string of the app
---@param opts? table
---@return table wire { fact = function(name, fn, opts), api }
function M.open(it, path, opts)
  opts = opts or {}
  local api = test.app(path, { config = opts.config })
  local wire = { api = api }
  local served -- the server, once a case needs it

  local function memory(split)
    return function()
      return setmetatable({ connection = api:connect(), split = split }, Memory)
    end
  end

  local function socket()
    served = served or process.server({ app = path, args = opts.args })
    return setmetatable({ wire = assert(sockets.connect(served.port)) }, Socket)
  end

  --- Defines the specs of one case.
  ---@param name string a fact in the present tense
  ---@param fn fun(talk: spec.Talk)
  ---@param how? table { socket = true }
  function wire.fact(name, fn, how)
    it(name .. ", whole", function()
      run(fn, memory(false))
    end)
    it(name .. ", byte by byte", function()
      run(fn, memory(true))
    end)
    if how and how.socket then
      it(name .. ", over a socket", function()
        run(fn, socket)
      end)
    end
  end

  return wire
end

return M
