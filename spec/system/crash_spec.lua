-- Workers that die: what is told of it, what it costs the others (only what
-- that worker had in hand), and routes that do it again and again.

local crashing = require("spec.support.crashing")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local server

local function serve(workers, settings)
  local args = {}
  for _, pair in ipairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = { ["app.lua"] = crashing.APP }, workers = workers, args = args })
end

local function ask(path)
  return sockets.ask(server.port, "GET", path)
end

local function worker_pid()
  local response = ask("/pid")
  return response and tonumber(response.body)
end

local function is_served()
  return posix.eventually(function()
    local response = ask("/pid")
    return response and response.status == 200
  end)
end

--- The report about a worker that died in a handler.
local function report_of(path, message)
  assert.is_nil((ask(path)))
  local report = crashing.wait_record(server, message or "a worker crashed")
  assert.equal("error", report.level)
  assert.equal(0, report.worker)
  assert.equal("lua", report.phase)
  assert.matches("^%x+$", report.req_id)
  assert.is_true(report.age_ms >= 0 and report.age_ms < 60000)
  assert.equal(1, report.in_flight)
  assert.is_true(is_served())
  return report
end

describe("the report about a handler", function()
  before_each(function()
    serve(1)
  end)
  after_each(process.cleanup)

  it("that calls exit names the route and the code", function()
    local report = report_of("/exit/3", "a worker was ended by what it ran")
    assert.matches("^GET /exit/", report.route)
    assert.equal(3, report.exit_code)
    assert.is_nil(report.signal)
  end)

  it("that writes to a bad address names route, line, signal and address", function()
    local pid = worker_pid()
    local report = report_of("/segv")
    assert.equal("GET /segv", report.route)
    assert.equal(pid, report.pid)
    assert.equal("SIGSEGV", report.signal)
    assert.equal("0x8", report.address)
    assert.equal("SEGV_MAPERR", report.code)
    assert.matches("app.lua:10", report.traceback, 1, true)
    assert.matches("#0 0x%x+ %S+%+0x%x+", report.backtrace)
    assert.is_nil(report.last_route)
  end)

  it("that does so in compiled code names the route and the signal", function()
    local report = report_of("/segv-compiled")
    assert.equal("GET /segv-compiled", report.route)
    assert.equal("SIGSEGV", report.signal)
    assert.equal("0x10", report.address)
    assert.matches("^#0 0x%x+", report.backtrace)
  end)

  it("that aborts in C names route, line and the function", function()
    local report = report_of("/abort")
    assert.equal("GET /abort", report.route)
    assert.equal("SIGABRT", report.signal)
    assert.is_nil(report.address)
    assert.matches("app.lua:21", report.traceback, 1, true)
    assert.matches("(abort+0x", report.backtrace, 1, true)
  end)

  it("that overflows the stack of C names the route", function()
    local report = report_of("/overflow")
    assert.equal("GET /overflow", report.route)
    assert.equal("SIGSEGV", report.signal)
    assert.matches("^#0 0x%x+", report.backtrace)
  end)

  it("is a line of JSON, as every other", function()
    report_of("/segv")
    assert.equal(0, server:stop())
    assert.is_true(#crashing.records(server:log()) > 3)
  end)
end)

describe("when a worker dies", function()
  after_each(process.cleanup)

  it("each request that it had in hand is named", function()
    serve(1)
    local wires = {}
    for i = 1, 40 do
      wires[i] = assert(sockets.connect(server.port))
      wires[i]:request("GET", "/slow/20000")
    end
    assert.is_truthy(posix.eventually(function()
      local early = ask("/pid") -- behind all of those
      return early and early.status == 200
    end))
    posix.sleep(0.1)
    assert.is_nil((ask("/segv")))
    local report = crashing.wait_record(server, "a worker crashed")
    assert.equal("GET /segv", report.route)
    assert.equal(41, report.in_flight)
    local more = crashing.wait_record(server, "more requests were lost with their worker")
    assert.equal(8, more.count)
    local lost = crashing.find_records(server, "a request was lost with its worker")
    assert.equal(32, #lost)
    local ids = {}
    for _, record in ipairs(lost) do
      assert.equal("warn", record.level)
      assert.equal("GET /slow/:ms<int>", record.route)
      assert.is_true(record.age_ms >= 100)
      assert.is_nil(ids[record.req_id])
      ids[record.req_id] = true
    end
  end)

  it("by kill -9 nobody is blamed, and it is replaced within 100 ms", function()
    serve(1)
    local pid, took
    for _ = 1, 5 do -- somebody else may need the processor just then
      posix.sleep(0.6) -- it has lived
      pid = worker_pid()
      local from = posix.now()
      process.signal(pid, "KILL")
      local successor = posix.eventually(worker_pid)
      took = posix.now() - from
      assert.are_not.equal(pid, successor)
      if took < 0.1 then
        break
      end
    end
    -- Sanitizers take their time to start.
    assert.is_true(took < (process.is_sanitized() and 3 or 0.1), took)
    local report = crashing.wait_record(server, "a worker was killed")
    assert.equal("SIGKILL", report.signal)
    assert.is_number(report.pid)
    assert.is_nil(report.route)
    assert.equal("GET /pid", report.last_route)
    assert.equal("core", report.phase)
  end)

  it("by a signal from outside the report says who sent it", function()
    serve(1)
    process.signal(worker_pid(), "SEGV")
    local report = crashing.wait_record(server, "a worker was killed")
    assert.equal("SIGSEGV", report.signal)
    assert.is_number(report.sender)
    assert.is_true(is_served())
  end)

  it("all requests of the others succeed", function()
    serve(2)
    local wires, pids = {}, {}
    for i = 1, 24 do -- some on each
      wires[i] = assert(sockets.connect(server.port))
      wires[i]:request("GET", "/pid")
      pids[i] = tonumber(wires[i]:response().body)
      wires[i]:request("GET", "/slow/500")
    end
    posix.sleep(0.05)
    process.signal(pids[1], "KILL")
    local lost, answered = 0, 0
    for i, wire in ipairs(wires) do
      local response = wire:response()
      if pids[i] == pids[1] then
        assert.is_nil(response)
        lost = lost + 1
      else
        assert.equal("slow", response.body)
        answered = answered + 1
      end
    end
    assert.is_true(lost > 0 and answered > 0, lost)
  end)
end)

--- Asks one thing after the other on connections that are kept; returns the
--- numbers that were answered.
local function load_for(seconds, on_round)
  local due, n, wires, answered = posix.now() + seconds, 0, {}, {}
  while posix.now() < due do
    for i = 1, 8 do
      wires[i] = wires[i] or assert(sockets.connect(server.port))
      n = n + 1
      wires[i]:request("GET", "/echo/" .. n)
      wires[i].number = n
    end
    for i = 1, 8 do
      local response = wires[i]:response({ seconds = 10 })
      if response then
        assert.equal(tostring(wires[i].number), response.body)
        answered[#answered + 1] = wires[i].number
      else
        wires[i]:close()
        wires[i] = nil
      end
    end
    on_round()
  end
  return answered, n
end

local function every(seconds, fn)
  local due = posix.now() + seconds
  return function()
    if posix.now() >= due then
      due = posix.now() + seconds
      fn()
    end
  end
end

-- A file takes what it gets: nobody reads a pipe here while the load goes on.
local log_path

local function serve_into_file(workers)
  log_path = process.folder() .. "/log"
  serve(workers, { "log.output=" .. log_path, "log.format=json" })
end

--- Each answered request has its line in the log.
local function assert_logged(answered)
  assert.equal(0, server:stop())
  local seen = {}
  for line in process.slurp(log_path):gmatch("([^\n]+)\n") do
    local number = line:match('^{"time".*"target":"/echo/(%d+)","status":200.*}$')
    if number then
      seen[tonumber(number)] = true
    end
  end
  for _, number in ipairs(answered) do
    assert.is_true(seen[number], "no record of /echo/" .. number)
  end
end

describe("under load", function()
  after_each(process.cleanup)

  it("no record is lost while workers are killed, and few requests", function()
    serve_into_file(2)
    local kills = 0
    local answered, asked = load_for(3, every(0.4, function()
      local _, workers = process.family(server.process.pid)
      process.signal(workers[#workers], "KILL")
      kills = kills + 1
    end))
    assert.is_true(kills >= 4, kills)
    -- What was sent over connections of that worker at that moment.
    assert.is_true(asked - #answered <= kills * 16, asked - #answered)
    assert_logged(answered)
  end)

  it("control writes what is left although it was killed just before the end", function()
    serve(1)
    for i = 1, 50 do
      assert.equal(200, ask("/echo/" .. i).status)
    end
    for _ = 1, 2 do -- the second time it waits before it is started again
      local control = posix.eventually(function()
        return (process.family(server.process.pid))
      end)
      process.signal(control, "KILL")
      assert.is_truthy(posix.eventually(function()
        return not process.is_alive(control)
      end))
    end
    assert.equal(200, ask("/echo/51").status)
    assert.equal(0, server:stop())
    for i = 1, 51 do
      assert.matches('"target":"/echo/' .. i .. '"', server:log(), 1, true)
    end
  end)

  it("no record is lost while control is killed", function()
    serve_into_file(1)
    local kills = 0
    -- Killed oftener it waits before it starts, and a ring may fill meanwhile.
    local answered = load_for(3, every(0.7, function()
      local control = process.family(server.process.pid)
      if control then
        process.signal(control, "KILL")
        kills = kills + 1
      end
    end))
    assert.is_true(kills >= 3, kills)
    assert_logged(answered)
  end)
end)

describe("a route that kills workers", function()
  after_each(process.cleanup)

  local ABRT = 6
  -- Long enough for the next worker to start; sanitizers take their time.
  local QUARANTINE_S = process.is_sanitized() and 8 or 2
  local QUARANTINE = ("vm.quarantine=%ds"):format(QUARANTINE_S)

  local function kill_once(path)
    assert.is_nil((ask(path or "/maybe/" .. ABRT)))
    assert.is_true(is_served())
  end

  local function is_refused()
    local response = ask("/maybe/0")
    return response and response.status == 503 and response
  end

  it("three times is refused with 503, others are served; a probe frees it", function()
    serve(2, { QUARANTINE })
    for _ = 1, 2 do
      kill_once()
    end
    assert.equal(200, ask("/maybe/0").status)
    kill_once()
    local response = assert(posix.eventually(is_refused, QUARANTINE_S))
    assert.is_true(tonumber(response.headers["retry-after"]) <= QUARANTINE_S)
    assert.equal("application/problem+json", response.headers["content-type"])
    assert.equal(200, ask("/echo/1").status)
    local record = crashing.wait_record(server, "a route is refused: it killed workers")
    assert.equal("error", record.level)
    assert.equal("GET /maybe/:number<int>", record.route)
    assert.equal(QUARANTINE_S, record.seconds)
    assert.is_truthy(posix.eventually(function()
      local probe = ask("/maybe/0")
      return probe and probe.status == 200
    end, 20))
    assert.equal(200, ask("/maybe/0").status)
    local freed = crashing.wait_record(server, "a route is served again")
    assert.equal("GET /maybe/:number<int>", freed.route)
  end)

  it("is refused again when the probe kills", function()
    serve(2, { QUARANTINE })
    for _ = 1, 3 do
      kill_once()
    end
    assert.is_truthy(posix.eventually(is_refused, QUARANTINE_S))
    assert.is_truthy(posix.eventually(function()
      return ask("/maybe/" .. ABRT) == nil -- until it is let through
    end, 20))
    assert.is_true(is_served())
    assert.is_truthy(posix.eventually(is_refused, QUARANTINE_S))
    assert.is_truthy(posix.eventually(function()
      return #crashing.find_records(server, "a route is refused: it killed workers") == 2
    end))
  end)

  it("is not refused with vm.quarantine=0", function()
    serve(1, { "vm.quarantine=0" })
    for _ = 1, 4 do
      kill_once()
    end
    assert.equal("alive", ask("/maybe/0").body)
    assert.equal(0, #crashing.find_records(server, "a route is refused: it killed workers"))
  end)

  it("does not count what somebody else has killed", function()
    serve(1, { "vm.quarantine=30s" })
    for _ = 1, 4 do
      local pid = worker_pid()
      local wire = assert(sockets.connect(server.port))
      wire:request("GET", "/hang/20")
      posix.sleep(0.05)
      process.signal(pid, "KILL")
      wire:close()
      assert.is_true(is_served())
    end
    assert.equal("awake", ask("/hang/0").body)
  end)
end)
