local P = require("perilune")
local test = require("perilune.test")

local function run(handler, opts)
  local app = P.app()
  app:get("/", opts or {}, handler)
  local api = test.app(app)
  return api:get("/"), api
end

describe("waiting", function()
  it("sleeps in seconds or as text", function()
    local start, r = P.monotonic(), run(function()
      P.sleep(0.01)
      P.sleep("10ms")
      return "awake"
    end)
    assert.equal("awake", r.body)
    assert.is_true(P.monotonic() - start >= 0.018)
  end)

  it("does not hold up others", function()
    local app, order = P.app(), {}
    app:get("/slow", function() P.sleep(0.05) order[#order + 1] = "slow" return "" end)
    app:get("/fast", function() order[#order + 1] = "fast" return "" end)
    local api = test.app(app)
    local slow = P.detach("slow", function() return api:get("/slow").status end)
    api:get("/fast")
    assert.equal(200, slow:wait())
    assert.same({ "fast", "slow" }, order)
  end)

  it("passes through coroutines of the user's own", function()
    local r = run(function()
      local seen = {}
      local step = coroutine.wrap(function(a)
        P.sleep(0.001)
        local b = coroutine.yield(a + 1)
        P.sleep(0.001)
        seen[#seen + 1] = coroutine.status(coroutine.running())
        return b * 2
      end)
      local first, second = step(1), step(21)
      return { first, second, seen[1] }
    end)
    assert.same({ 2, 42, "running" }, r:json())
  end)

  it("passes through nested coroutines, and leaves errors as they are", function()
    local r = run(function()
      local outer = coroutine.create(function()
        local inner = coroutine.wrap(function()
          P.sleep(0)
          error("from within", 0)
        end)
        return inner()
      end)
      local ok, err = coroutine.resume(outer)
      return { ok, (err:gsub("^.-:%d+: ", "")) }
    end)
    assert.same({ false, "from within" }, r:json())
  end)

  it("refuses coroutine.yield where no coroutine of the user's runs", function()
    local r = run(function() return { pcall(coroutine.yield, 1) } end)
    assert.matches("outside a coroutine of your own", r:json()[2])
  end)

  it("ends at the deadline with 503, and every wait after it", function()
    local app, caught = P.app(), {}
    app:get("/", { timeout = "20ms" }, function()
      for i = 1, 3 do
        local ok, err = pcall(P.sleep, 10)
        caught[i] = not ok and tostring(err)
      end
      P.sleep(10)
      return "never"
    end)
    local start, r = P.monotonic(), test.app(app):get("/")
    assert.equal(503, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.is_true(P.monotonic() - start < 5)
    assert.equal(3, #caught)
    assert.matches("deadline", caught[3])
  end)

  it("ends when the client goes away", function()
    local app, ended = P.app(), nil
    app:get("/", function(c)
      local ok, err = pcall(P.sleep, 60)
      ended = { ok, tostring(err), c:aborted() }
      P.sleep(60)
    end)
    local api = test.app(app)
    local connection = api:connect()
    connection:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    P.sleep(0.01)
    connection:close()
    P.sleep(0.01)
    assert.same({ false, "the client is gone", true }, ended)
    assert.same({}, api:errors())
  end)

  it("is moved by api:advance", function()
    local app, asleep, awake = P.app(), false, false
    app:get("/", { timeout = "2h" }, function()
      asleep = true
      P.sleep("1h")
      awake = true
      return ""
    end)
    local api = test.app(app)
    local task = P.detach("get", function() return api:get("/").status end)
    repeat
      P.sleep(0.001)
    until asleep
    api:advance("30m")
    assert.is_false(awake)
    api:advance("31m")
    assert.equal(200, task:wait())
    assert.is_true(awake)
  end)
end)

describe("tasks", function()
  it("run beside the handler and give their results", function()
    local r = run(function()
      local task = P.spawn(function(a, b) P.sleep(0.001) return a + b, "two" end, 1, 2)
      local sum, text = task:wait()
      return { sum, text, task:done() }
    end)
    assert.same({ 3, "two", true }, r:json())
  end)

  it("give nil and the error when they raise", function()
    local app = P.app()
    app:get("/", function()
      local task = P.spawn(function() error("lost") end)
      local value, err = task:wait()
      return { value == nil, err }
    end)
    local r = test.app(app):get("/", { allow_error = true })
    assert.is_true(r:json()[1])
    assert.matches("tasks_spec.lua:%d+: lost", r:json()[2])
  end)

  it("are cancelled and waited for at the end of the request", function()
    local log = {}
    run(function()
      P.spawn(function()
        local ok, err = pcall(P.sleep, 60)
        log[#log + 1] = ok or tostring(err)
      end)
      P.sleep(0)
      return "x"
    end)
    P.sleep(0.01)
    assert.same({ "the task was cancelled" }, log)
  end)

  it("can be cancelled", function()
    local r = run(function()
      local task = P.spawn(P.sleep, 60)
      P.sleep(0)
      task:cancel()
      local value, err = task:wait()
      return { value == nil, err }
    end)
    assert.same({ true, "cancelled" }, r:json())
  end)

  it("that catch their cancellation again and again are given up, and so are handlers", function()
    local app, rounds = P.app(), 0
    local function stubborn()
      while true do
        rounds = rounds + 1
        pcall(P.sleep, 10)
      end
    end
    app:get("/task", function()
      P.spawn(stubborn)
      return "answered"
    end)
    app:get("/handler", { timeout = "50ms" }, stubborn)
    app:get("/stream", { timeout = "50ms" }, function(c)
      return c:stream(function(out)
        out:write("begun")
        stubborn()
      end)
    end)
    local api = test.app(app)
    assert.equal("answered", api:get("/task").body)
    assert.equal(503, api:get("/handler").status)
    local raw, closed = api:raw("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.is_nil(raw:find("\r\n0\r\n", 1, true))
    assert.is_true(closed)
    api:advance(1)
    local before = rounds
    api:advance(1)
    assert.equal(before, rounds)
    assert.is_true(rounds > 3 and rounds < 1000, rounds)
  end)

  it("have a cap per request", function()
    local r = run(function()
      local count = 0
      while true do
        local task, err = P.spawn(P.sleep, 60)
        if not task then
          return { count, err }
        end
        count = count + 1
      end
    end)
    assert.same({ 100, "too many tasks" }, r:json())
  end)

  it("that are detached outlive the request", function()
    local done = false
    run(function()
      P.detach("later", function() P.sleep(0.005) done = true end)
      return "x"
    end)
    assert.is_false(done)
    P.sleep(0.02)
    assert.is_true(done)
  end)

  it("run side by side with P.all, which gives the first result of each", function()
    local r = run(function()
      local function slow(x) P.sleep(0.2) return x end
      local start = P.monotonic()
      local a, b, c = P.all({ { slow, 1 }, { slow, nil }, { slow, 3 } })
      return { a, b == nil, c, P.monotonic() - start < 0.5 }
    end)
    assert.same({ 1, true, 3, true }, r:json())
  end)

  it("that fail in P.all cancel the others and raise", function()
    local app, other = P.app(), nil
    app:get("/", function()
      local ok, err = pcall(P.all, {
        { function() local _, e = pcall(P.sleep, 60) other = tostring(e) end },
        { function() error("failed", 0) end },
      })
      return { ok, err }
    end)
    assert.same({ false, "failed" }, test.app(app):get("/", { allow_error = true }):json())
    assert.equal("the task was cancelled", other)
  end)

  it("run fn as it is with P.atomic", function()
    local r = run(function()
      return { P.atomic(function(a, b) return b, a end, 3, 4) }
    end)
    assert.same({ 4, 3 }, r:json())
  end)
end)

describe("time", function()
  it("is the epoch's seconds, and a clock that goes forward", function()
    -- At least the real one: specs before this may have moved it forward.
    assert.is_true(P.now() > os.time() - 5)
    local before = P.monotonic()
    P.sleep(0.002)
    assert.is_true(P.monotonic() > before)
  end)
end)
