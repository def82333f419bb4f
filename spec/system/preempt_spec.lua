-- Handlers that compute, allocate or nest without end, on a real server: what happens to them, and
-- that nothing happens to others.

local json = require("perilune.json")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/preempt"

local function serve(...)
  local args = {}
  for _, pair in ipairs({ ... }) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  return process.server({ app = APP, args = args })
end

local function ask(server, path)
  return assert(sockets.ask(server.port, "GET", path))
end

--- Sends a request and doesn't wait for its answer.
local function begin(server, path)
  local wire = assert(sockets.connect(server.port))
  wire:send(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path))
  return wire
end

local function answer(wire, seconds)
  return assert(wire:response({ seconds = seconds or 10 }))
end

local function decoded(response)
  return json.decode(response.body)
end

local function worker_of(server)
  local _, workers = process.family(server.process.pid)
  return workers[1]
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

local WAYS = {
  "loop", "calls", "pcall-loop", "pcall-nest", "xpcall-loop", "wrap", "wrap-inside", "index",
  "format", "garbage", "tasks", "sort", "sort-pcall", "sort-wrap", "gsub", "callback", "atomic",
  "load", "message-handler", "message-handler-pcall", "task-error",
}
local YIELDING = { -- those in which Lua can yield at most times
  "loop", "calls", "pcall-loop", "pcall-nest", "xpcall-loop", "wrap", "wrap-inside", "index",
  "garbage", "tasks",
}

describe("a handler that computes", function()
  local server, pid

  setup(function()
    server = serve("timeouts.handler=20s")
    ask(server, "/")
    pid = worker_of(server)
  end)
  teardown(process.cleanup)
  after_each(function()
    assert.equal(pid, worker_of(server), "the worker was replaced")
  end)

  for _, way in ipairs(YIELDING) do
    it("lets others run meanwhile: " .. way, function()
      local endless = begin(server, "/long/" .. way)
      for _ = 1, 5 do
        assert.equal("hello", ask(server, "/").body)
      end
      assert.equal("slept", ask(server, "/sleep/30").body)
      assert.is_nil(endless:response({ seconds = 0.01 }))
      endless:close()
    end)
  end

  for _, way in ipairs(WAYS) do
    it("gets its 503 at its deadline: " .. way, function()
      local from = posix.now()
      local r = ask(server, "/forever/" .. way)
      local took = posix.now() - from
      assert.equal(503, r.status)
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.is_true(took > 0.45, took)
      assert.equal("hello", ask(server, "/").body)
    end)
  end

  for _, way in ipairs({ "task-tree", "task-chain" }) do
    it("ends with all its tasks, and theirs: " .. way, function()
      local wire = assert(sockets.connect(server.port))
      wire:send(("GET /forever/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):format(way))
      local text, how = wire:receive_all(15)
      assert.matches("^HTTP/1.1 503 ", text)
      assert.equal("closed", how)
    end)
  end

  it("is preempted after an error has ended one inside a protected C function", function()
    assert.equal("answered", ask(server, "/load-in-task").body)
    assert.equal(503, ask(server, "/forever/loop").status)
  end)

  it("cannot wait across a C function, and says so, without a trace of it left", function()
    for _ = 1, 3 do
      assert.matches("^false .*nothing can wait here", ask(server, "/wait-in-sort").body)
    end
  end)

  it("gets its 503 also when it catches the error of its deadline and answers", function()
    assert.equal(503, ask(server, "/forever/pcall").status)
  end)

  it("leaves a deadline that says where it was", function()
    ask(server, "/forever/loop")
    assert.is_truthy(server:wait_log("passed its deadline[^\n]*preempt/app.lua:%d+"))
  end)

  it("ends its tasks and runs its deferred calls at the deadline", function()
    assert.equal(503, ask(server, "/tidy").status)
    local text = ""
    assert.is_truthy(posix.eventually(function()
      text = text .. " " .. ask(server, "/seen").body
      return text:find("deferred", 1, true)
    end, 5))
    assert.matches("waiting:false:the ", text, 1, true)
    assert.matches("computing:false:the ", text, 1, true)
  end)

  it("runs its deferred calls although it catches the error of its deadline", function()
    assert.equal(503, ask(server, "/tidy-stubborn").status)
    assert.is_truthy(posix.eventually(function()
      return ask(server, "/seen").body:find("deferred", 1, true)
    end, 5))
    assert.is_truthy(server:wait_log("a handler was given up"))
    assert.is_truthy(server:wait_log("a task was given up"))
  end)

  it("has its stream broken off at the deadline", function()
    local text, how = begin(server, "/stream"):receive_all(5)
    assert.matches("200 OK", text, 1, true)
    assert.matches("begun", text, 1, true)
    assert.is_nil(text:find("\r\n0\r\n\r\n", 1, true))
    assert.equal("reset", how)
  end)

  it("ends the tasks that it has left behind", function()
    assert.equal("answered", ask(server, "/left-behind").body)
  end)

  it("is not given more time by an on_error that computes, too", function()
    assert.equal(503, ask(server, "/in-on-error").status)
  end)

  it("may be a task of the worker", function()
    assert.equal("detached", ask(server, "/detach").body)
    for _ = 1, 5 do
      assert.equal("hello", ask(server, "/").body)
    end
  end)

end)

describe("a handler that computes for a second", function()
  teardown(process.cleanup)

  it("is told of in the log, once for its route, with its traceback", function()
    local server = process.server({ app = APP, workers = 2 })
    local a, b = begin(server, "/long/calls"), begin(server, "/long/calls")
    local line = server:wait_log("[^\n]*computes for long[^\n]*GET /long/calls[^\n]*", 10)
    assert.matches("preempt/app.lua:%d+", line)
    local c = begin(server, "/long/calls")
    posix.sleep(1.5)
    a:close()
    b:close()
    c:close()
    assert.equal(1, count(server:log(), "computes for long[^\n]*GET /long/calls"))
  end)
end)

describe("a worker", function()
  teardown(process.cleanup)

  it("says how often it has interrupted handlers when it ends", function()
    local server = serve("vm.slice=2s") -- deadlines don't wait for the end of a slice
    local from = posix.now()
    assert.equal(503, ask(server, "/forever/loop").status)
    assert.is_true(posix.now() - from < 1.5)
    assert.equal(503, ask(server, "/forever/pcall-nest").status)
    server:stop()
    assert.matches('handlers were interrupted[^\n]*"overdue":2[^\n]*"given_up":1',
      server:log())
  end)
end)

describe("what cannot be suspended", function()
  teardown(process.cleanup)

  it("is ended after half of vm.stuck_timeout, before its worker is", function()
    local server = serve("vm.stuck_timeout=1s", "timeouts.handler=30s")
    ask(server, "/")
    local pid = worker_of(server)
    for _, path in ipairs({ "/stay/sort", "/stay/atomic", "/stay/callback" }) do
      local from = posix.now()
      assert.equal(503, ask(server, path).status)
      assert.is_true(posix.now() - from < 5)
    end
    assert.equal(pid, worker_of(server))
  end)
end)

describe("tasks without end that are detached without end", function()
  teardown(process.cleanup)

  it("leave requests their turns", function()
    local server = serve("vm.slice=1ms", "limits.tasks_per_worker=500")
    assert.equal(503, ask(server, "/flood").status)
    for _ = 1, 5 do
      assert.equal("hello", ask(server, "/").body)
    end
  end)
end)

describe("preemption", function()
  local server

  setup(function() server = serve("vm.slice=1ms") end)
  teardown(process.cleanup)

  it("changes no result of coroutines inside coroutines", function()
    local noise, results = begin(server, "/long/loop"), {}
    for i = 1, 4 do
      results[i] = begin(server, "/sum")
    end
    for i = 1, 4 do
      local sum = decoded(answer(results[i], 20))
      assert.same({ last = 450000015000000, count = 30, empty = 30 }, sum)
    end
    noise:close()
  end)

  it("breaks no comparator", function()
    local wires = {}
    for i = 1, 4 do
      wires[i] = begin(server, "/sorted")
    end
    for i = 1, 4 do
      assert.equal("sorted", answer(wires[i], 20).body)
    end
  end)

  it("stays out of P.atomic", function()
    local wires = {}
    for i = 1, 16 do
      wires[i] = begin(server, "/move")
    end
    for i = 1, 16 do
      local balance = decoded(answer(wires[i], 20))
      assert.equal(1000, balance.a + balance.b)
    end
    assert.equal(984, decoded(ask(server, "/move")).a + 1)
  end)

  it("comes back after an error in P.atomic, which passes on", function()
    assert.same({ ok = false, code = 7, others = true }, decoded(ask(server, "/atomic-error")))
  end)

  it("refuses debug.sethook and LuaJIT's profiler, and says why", function()
    for _, path in ipairs({ "/sethook", "/profiler" }) do
      local r = decoded(ask(server, path))
      assert.is_false(r.ok)
      assert.matches("the server needs it to interrupt handlers", r.err, 1, true)
    end
  end)

  it("survives recursion without end, of functions and of coroutines", function()
    local pid = worker_of(server)
    for _, path in ipairs({ "/recursion", "/coroutines", "/recursion", "/coroutines" }) do
      assert.equal(500, ask(server, path).status)
    end
    assert.is_truthy(server:wait_log("stack overflow[^\n]*GET /coroutines"))
    assert.equal(pid, worker_of(server))
  end)
end)

describe("vm.memory_soft", function()
  local server, pid

  setup(function()
    server = serve("vm.memory_soft=64M", "vm.memory_hard=256M")
    ask(server, "/")
    pid = worker_of(server)
  end)
  teardown(process.cleanup)
  after_each(function()
    assert.equal("hello", ask(server, "/").body)
    assert.equal(pid, worker_of(server), "the worker was replaced")
  end)

  for _, way in ipairs({ "hoard", "hoard-sorted", "hoard-atomic" }) do
    it("fails a handler that keeps what it allocates, and names its route: " .. way, function()
      for _ = 1, 2 do
        assert.equal(503, ask(server, "/" .. way).status)
      end
      local route = "GET /" .. way:gsub("%-", "%%-") .. '"'
      assert.is_truthy(server:wait_log("it holds the most memory[^\n]*" .. route))
    end)
  end

  it("fails the largest, be it one that waits", function()
    local small, large = begin(server, "/hold/4"), begin(server, "/hold/45")
    posix.sleep(0.3)
    local last = begin(server, "/hold/25")
    assert.equal(503, answer(large).status)
    assert.is_nil(small:response({ seconds = 0.01 }))
    assert.is_nil(last:response({ seconds = 0.01 }))
    small:close()
    last:close()
  end)

  it("fails nobody for garbage", function()
    for _ = 1, 5 do
      assert.equal("littered", ask(server, "/litter/200").body)
    end
  end)

  it("fails a task of the worker, too", function()
    assert.equal("detached", ask(server, "/hoard-detached").body)
    assert.is_truthy(server:wait_log("a task is failed: it holds the most memory"))
  end)
end)
