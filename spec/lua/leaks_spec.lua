--- Coroutines that nobody can wake: found by the collector, ended, and nobody else is.

local P = require("perilune")
local test = require("perilune.test")

local function run(handler)
  local app = P.app()
  app:get("/", handler)
  local api = test.app(app)
  return api:get("/")
end

--- Long enough for waits to be looked at, then two cycles.
local function collect()
  for _ = 1, 4 do
    P.sleep(0.01)
  end
  for _ = 1, 2 do
    collectgarbage()
    P.sleep(0.001)
  end
end

describe("a wait that nobody can end", function()
  it("ends a task with an error, when it is for a channel that nobody else has", function()
    local outcome = run(function()
      local seen = {}
      P.detach("leak", function()
        seen.ok, seen.err = pcall(function() return P.channel():recv() end)
        seen.text = tostring(seen.err)
      end)
      collect()
      return { seen.ok, seen.text }
    end)
    assert.same({ false, "nobody can wake this" }, outcome:json())
  end)

  it("answers a request with 500", function()
    local app = P.app()
    app:get("/leak", function() P.channel():recv() end)
    local api = test.app(app)
    local leak = P.detach("client", function() return api:get("/leak").status end)
    collect()
    assert.equal(500, leak:wait())
  end)

  it("is found where tasks wait for each other in a circle", function()
    local texts = {}
    do
      local a, b
      a = P.detach("a", function()
        P.sleep(0.001)
        texts[1] = tostring(select(2, pcall(b.wait, b)))
      end)
      b = P.detach("b", function()
        P.sleep(0.001)
        texts[2] = tostring(select(2, pcall(a.wait, a)))
      end)
    end
    collect()
    table.sort(texts)
    -- The one that ends first wakes the other, if that had not been found as well.
    assert.equal("nobody can wake this", texts[1])
    assert.equal(2, #texts)
  end)

  it("is found inside a coroutine of the user's own", function()
    local text
    P.detach("leak", function()
      coroutine.wrap(function()
        text = tostring(select(2, pcall(function() P.channel(1):recv() end)))
      end)()
    end)
    collect()
    assert.equal("nobody can wake this", text)
  end)

  it("can be tried again, and is found again", function()
    local found = 0
    P.detach("leak", function()
      local ch = P.channel()
      for _ = 1, 3 do
        local ok, err = pcall(ch.recv, ch)
        found = found + ((not ok and tostring(err) == "nobody can wake this") and 1 or 0)
      end
    end)
    for _ = 1, 3 do
      collect()
    end
    assert.equal(3, found)
  end)
end)

describe("a wait that somebody can end", function()
  it("goes on: for a channel that a sleeping task has", function()
    local got = {}
    do
      local ch = P.channel()
      P.detach("receiver", function() got[1] = ch:recv() end)
      P.detach("sender", function() P.sleep(0.1) ch:send("late") end)
    end
    collect()
    P.sleep(0.15)
    assert.equal("late", got[1])
  end)

  it("goes on: for a task that sleeps", function()
    local got
    P.detach("waiter", function()
      got = P.detach("sleeper", function() P.sleep(0.1) return "slept" end):wait()
    end)
    collect()
    P.sleep(0.15)
    assert.equal("slept", got)
  end)

  it("goes on: the task itself can be cancelled by who has it", function()
    local text
    local task = P.detach("waiter", function()
      text = tostring(select(2, pcall(function() P.channel():recv() end)))
    end)
    collect()
    assert.is_nil(text)
    task:cancel()
    P.sleep(0.001)
    assert.equal("the task was cancelled", text)
  end)

  it("goes on: with a time of its own", function()
    local value, err
    P.detach("waiter", function() value, err = P.channel():recv(0.1) end)
    collect()
    assert.is_nil(err)
    P.sleep(0.15)
    assert.same({ nil, "timeout" }, { value, err })
  end)

  it("is never taken for a leak while a thousand others are", function()
    local honest, leaked, woken = P.channel(), 0, 0
    for _ = 1, 1000 do
      assert(P.detach("leak", function()
        local ok, err = pcall(function() P.channel():recv() end)
        leaked = leaked + ((not ok and tostring(err) == "nobody can wake this") and 1 or 0)
      end))
      assert(P.detach("honest", function()
        local one = honest:recv()
        woken = woken + one
      end))
    end
    collect()
    assert.equal(1000, leaked)
    assert.equal(0, woken)
    for _ = 1, 1000 do
      honest:send(1)
    end
    P.sleep(0.001)
    assert.equal(1000, woken)
  end)
end)
