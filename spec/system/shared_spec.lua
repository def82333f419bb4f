-- P.shared and P.config among real workers: who sees what, and what is left when
-- one of them is killed.

local json = require("perilune.json")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = [[
local P = require "perilune"
local ffi = require "ffi"
ffi.cdef "int getpid(void);"
local app = P.app {}
local dict = P.shared.dict("spec", { capacity = "4M" })
local hits = P.shared.counter("hits")

local function pid() return ffi.C.getpid() end
app:get("/pid", function() return { pid = pid() } end)
app:get("/set/:key/:value", function(_, key, value)
  return { pid = pid(), ok = dict:set(key, value), hits = hits:add(1) }
end)
app:get("/get/:key", function(_, key)
  return { pid = pid(), value = dict:get(key), hits = hits:get() }
end)
app:get("/publish/:n<int>", function(_, n)
  return { pid = pid(), version = P.config.publish({ n = n }) }
end)
app:get("/config", function()
  local now = P.config.get()
  return { pid = pid(), n = now and now.n, version = P.config.version() }
end)
-- Writes and counts until it is killed.
app:get("/write", { timeout = "60s" }, function()
  while true do
    for i = 1, 50 do
      dict:set("value " .. i, ("%02d"):format(i):rep(500 + i))
      dict:incr("writes", 1, 0)
    end
  end
end)
app:get("/check", function()
  local wrong, seen = 0, 0
  for i = 1, 50 do
    local value = dict:get("value " .. i)
    seen = seen + (value and 1 or 0)
    wrong = wrong + ((value == nil or value == ("%02d"):format(i):rep(500 + i)) and 0 or 1)
  end
  return { pid = pid(), seen = seen, wrong = wrong, writes = dict:get("writes") or 0,
    added = dict:incr("probe", 1, 0) }
end)
return app
]]

local server

local function serve(workers, more)
  local args = { "--set", "log.access=false", "--set", "shared.memory=16M" }
  for _, arg in ipairs(more or {}) do
    args[#args + 1] = arg
  end
  server = process.server({ app = { ["app.lua"] = APP }, workers = workers, args = args })
end

local function ask(path)
  local response = sockets.ask(server.port, "GET", path)
  return response and response.status == 200 and json.decode(response.body) or nil
end

--- Asks until another worker than `pid` has answered.
local function ask_other(path, pid)
  return assert(posix.eventually(function()
    local answer = ask(path)
    return answer and answer.pid ~= pid and answer or nil
  end), "no other worker answers")
end

describe("what workers share", function()
  after_each(process.cleanup)

  it("is seen by all of them at once", function()
    serve(2)
    local wrote = ask("/set/k/hello")
    assert.is_true(wrote.ok)
    local read = ask_other("/get/k", wrote.pid)
    assert.equal("hello", read.value)
    assert.equal(1, read.hits)
  end)

  it("survives kill -9 of a worker", function()
    serve(1)
    local wrote = ask("/set/k/kept")
    assert.equal(1, ask("/publish/7").version)
    process.signal(wrote.pid, "KILL")
    local read = ask_other("/get/k", wrote.pid)
    assert.equal("kept", read.value)
    assert.equal(1, read.hits)
    assert.equal(7, ask("/config").n)
  end)

  it("survives a reload of the app", function()
    serve(2)
    ask("/set/k/kept")
    ask("/publish/7")
    server.process:kill("HUP")
    assert.is_truthy(server:wait_log('"msg":"a generation is served"[^\n]*"generation":2'))
    local read = ask("/get/k")
    assert.equal("kept", read.value)
    assert.equal(1, read.hits)
    assert.equal(7, ask_other("/config", read.pid).n)
  end)

  it("is whole, and goes on, when a worker is killed while it writes", function()
    serve(2)
    local writes = 0
    for _ = 1, 8 do
      local _, workers = process.family(server.process.pid)
      local wire = assert(sockets.connect(server.port))
      wire:request("GET", "/write")
      posix.sleep(0.1)
      local state = ask("/check")
      for _, pid in ipairs(workers) do
        if not state or pid ~= state.pid then -- the one that writes
          process.signal(pid, "KILL")
        end
      end
      local after = assert(posix.eventually(function() return ask("/check") end))
      assert.equal(0, after.wrong)
      assert.is_true(after.writes >= writes)
      assert.is_number(after.added)
      writes = after.writes
      wire:close()
    end
    assert.is_true(writes > 1000)
  end)

  it("is published by one and read by the other", function()
    serve(2)
    assert.equal(0, ask("/config").version)
    local published = ask("/publish/42")
    assert.equal(1, published.version)
    assert.equal(42, ask_other("/config", published.pid).n)
    ask("/publish/43")
    assert.equal(43, ask("/config").n)
  end)

  it("has the memory that shared.memory says, and no more", function()
    local folder = process.folder({
      ["app.lua"] = 'local P = require "perilune"\nP.shared.dict("big", { capacity = "8M" })\n'
        .. "return P.app {}\n",
    })
    local r = process.run({ "run", folder, "--listen", "127.0.0.1:0", "--workers", "1",
      "--set", "shared.memory=4M" }, { env = { XDG_RUNTIME_DIR = folder } })
    assert.equal(65, r.code)
    assert.matches('P.shared.dict%("big"%): no room for 8M: 4M of shared.memory %(4M%) are left',
      r.err .. r.out)
  end)

  it("is the tool's own in tools, and new in each", function()
    local folder = process.folder({ ["app.lua"] = APP })
    for _ = 1, 2 do
      local r = process.run({ "request", "GET", "/get/k", "--app", folder })
      assert.equal(0, r.code)
      assert.is_nil(json.decode(r.out).value)
      assert.equal(0, json.decode(r.out).hits)
    end
    assert.equal(0, process.run({ "check", folder }).code)
  end)
end)
