-- Workers that stand still in foreign C: others accept in their place, and in
-- the end they are killed and tell where they were.

local crashing = require("spec.support.crashing")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

-- Sanitizers take their time for everything.
local PATIENCE_S = process.is_sanitized() and 9 or 3

local server

local function serve(workers, settings)
  local args = {}
  for _, pair in ipairs(settings) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = { ["app.lua"] = crashing.APP }, workers = workers, args = args })
end

--- Has one worker stand still; returns the connection that waits for it.
local function hang(seconds)
  local wire = assert(sockets.connect(server.port))
  local mark = process.folder() .. "/mark"
  wire:request("GET", "/hang/" .. seconds, "X-Mark: " .. mark .. "\r\n")
  assert.is_truthy(posix.eventually(function()
    return process.slurp(mark) -- it is at it
  end))
  return wire
end

--- Opens connections and asks; some of them are the one's that stands still.
local function open_many(count)
  local wires = {}
  for i = 1, count do
    wires[i] = assert(sockets.connect(server.port))
    wires[i]:request("GET", "/pid")
  end
  return wires
end

local function answers(wires, seconds)
  local pids, due = {}, posix.now() + seconds
  for i, wire in ipairs(wires) do
    local response = assert(wire:response({ seconds = due - posix.now() }))
    pids[i] = tonumber(response.body)
    wire:close()
  end
  return pids
end

describe("a worker that stands still", function()
  after_each(process.cleanup)

  it("has its connections accepted by others, reports where it is, and is replaced", function()
    serve(2, { ("vm.stuck_timeout=%ds"):format(PATIENCE_S) })
    local _, before = process.family(server.process.pid)
    local from = posix.now()
    local hanging = hang(60)
    local pids = answers(open_many(32), PATIENCE_S - 0.2)
    assert.is_true(posix.now() - from < PATIENCE_S - 0.1, posix.now() - from)
    local silent = crashing.wait_record(server, "a worker does not answer")
    assert.equal("warn", silent.level)
    assert.equal("GET /hang/:s<int>", silent.route)
    assert.is_true(silent.age_ms >= 800 and silent.age_ms < PATIENCE_S * 1000, silent.age_ms)
    assert.equal(200, sockets.ask(server.port, "GET", "/pid").status)

    assert.is_nil((hanging:response({ seconds = 10 })))
    local report = crashing.wait_record(server, "a worker stood still and was killed")
    assert.equal("error", report.level)
    assert.equal("GET /hang/:s<int>", report.route)
    assert.equal(silent.req_id, report.req_id)
    assert.equal("SIGABRT", report.signal)
    assert.is_true(report.age_ms >= PATIENCE_S * 900, report.age_ms)
    assert.matches("app.lua:32", report.traceback, 1, true)
    assert.matches("sleep", report.backtrace, 1, true)
    for _, pid in ipairs(pids) do
      assert.are_not.equal(report.pid, pid)
    end
    assert.is_truthy(posix.eventually(function()
      local _, after = process.family(server.process.pid)
      return #after == 2 and after[1] ~= after[2] and process.is_alive(after[2])
        and (after[1] ~= before[1] or after[2] ~= before[2])
    end))
    answers(open_many(16), 5)
  end)

  it("serves on when it comes back", function()
    serve(2, { "vm.stuck_timeout=20s" })
    local _, before = process.family(server.process.pid)
    local hanging = hang(PATIENCE_S)
    answers(open_many(32), PATIENCE_S - 0.1)
    assert.equal("awake", assert(hanging:response({ seconds = 20 })).body)
    local back = crashing.wait_record(server, "a worker answers again")
    assert.equal("info", back.level)
    local _, after = process.family(server.process.pid)
    assert.same(before, after)
    local seen, count = {}, 0
    assert.is_truthy(posix.eventually(function() -- others may be faster for a while
      for _, pid in ipairs(answers(open_many(16), 5)) do
        count = count + (seen[pid] and 0 or 1)
        seen[pid] = true
      end
      return count == 2
    end))
  end)

  it("is killed although it does not react", function()
    serve(2, { "vm.stuck_timeout=1s" })
    posix.sleep(0.2)
    local _, workers = process.family(server.process.pid)
    process.signal(workers[1], "STOP")
    local report = crashing.wait_record(server, "a worker stood still and was killed")
    assert.equal(workers[1], report.pid)
    assert.equal("SIGKILL", report.signal)
    assert.is_nil(report.route)
    answers(open_many(8), 5)
  end)

  it("keeps nobody waiting at a server that ends", function()
    serve(2, { "vm.stuck_timeout=30s", ("timeouts.drain=%ds"):format(PATIENCE_S) })
    posix.sleep(0.2)
    local _, workers = process.family(server.process.pid)
    process.signal(workers[1], "STOP")
    crashing.wait_record(server, "a worker does not answer")
    posix.sleep(0.3) -- adopted
    server.process:kill("TERM")
    assert.is_truthy(posix.eventually(function()
      for _ = 1, 8 do
        local wire, err = sockets.connect(server.port)
        if wire then
          wire:close()
        end
        if err ~= "refused" then
          return false
        end
      end
      return true
    end, PATIENCE_S))
    assert.is_true(process.is_alive(workers[1])) -- with copies of all sockets
    server.process:wait()
    assert.matches("the drain took longer", server.process:err())
  end)

  it("has its route refused when it happens again and again", function()
    serve(1, { "vm.stuck_timeout=300ms", "vm.quarantine=30s" })
    for _ = 1, 3 do
      assert.is_nil((sockets.ask(server.port, "GET", "/hang/60")))
    end
    crashing.wait_record(server, "a route is refused: it killed workers")
    local response = posix.eventually(function()
      return sockets.ask(server.port, "GET", "/hang/0")
    end)
    assert.equal(503, response.status)
  end)
end)

describe("a worker that is told to end by somebody else", function()
  after_each(process.cleanup)

  it("has its connections accepted by others while it drains", function()
    serve(2, {})
    local pids = answers(open_many(16), 5)
    local slow
    repeat -- a request that keeps one of them from ending
      slow = assert(sockets.connect(server.port))
      slow:request("GET", "/pid")
    until tonumber(slow:response().body) == pids[1]
    slow:request("GET", "/slow/" .. PATIENCE_S * 700)
    posix.sleep(0.05)
    process.signal(pids[1], "TERM")
    posix.sleep(0.1)
    for _, pid in ipairs(answers(open_many(16), PATIENCE_S * 0.6)) do
      assert.are_not.equal(pids[1], pid)
    end
    assert.equal("slow", assert(slow:response({ seconds = 10 })).body)
  end)
end)

describe("a worker that blocks while it loads", function()
  after_each(process.cleanup)

  it("is ended behind vm.load_timeout, and the next one serves", function()
    local folder = process.folder({ ["app.lua"] = [[
      local P = require("perilune")
      local ffi = require("ffi")
      ffi.cdef("unsigned sleep(unsigned seconds);")
      local mark = io.open("BLOCK")
      if mark then
        mark:close()
        os.remove("BLOCK") -- the next one does not
        ffi.C.sleep(60)
      end
      local app = P.app()
      app:get("/", function() return "served" end)
      return app
    ]] })
    local source = assert(io.open(folder .. "/app.lua")):read("*a")
    local file = assert(io.open(folder .. "/app.lua", "w"))
    file:write((source:gsub("BLOCK", folder .. "/block")))
    file:close()
    server = process.server({ app = folder, args = {
      "--set", "vm.load_timeout=1s", "--set", "vm.stuck_timeout=1s",
    } })
    assert(io.open(folder .. "/block", "w")):close()
    local _, workers = process.family(server.process.pid)
    process.signal(workers[1], "KILL")
    crashing.wait_record(server, "a worker stood still and was killed")
    assert.equal("served", posix.eventually(function()
      local response = sockets.ask(server.port, "GET", "/")
      return response and response.body
    end, 20))
  end)
end)
