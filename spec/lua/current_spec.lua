local P = require("perilune")
local process = require("spec.support.process")
local test = require("perilune.test")

local TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
local PARENT = ("00-%s-%s-01"):format(TRACE, SPAN)
local HEADERS = {
  traceparent = PARENT, tracestate = "rojo=1, congo=t61", baggage = "user=Am%C3%A9lie;p=1, b = 2",
}

--- Runs a handler; what it returns is what this returns.
local function within(fn, opts)
  local app, result = P.app(), nil
  app:get("/", function(c)
    result = fn(c)
    return "ok"
  end)
  local r = test.app(app):get("/", opts)
  assert.equal(200, r.status)
  return result
end

describe("the context of a request", function()
  it("continues the trace of its traceparent, as a span of its own", function()
    within(function(c)
      assert.equal(TRACE, c.trace_id)
      assert.matches("^%x+$", c.span_id)
      assert.equal(16, #c.span_id)
      assert.not_equal(SPAN, c.span_id)
      local now = P.context.current()
      assert.equal(c.trace_id, now.trace_id)
      assert.equal(c.span_id, now.span_id)
      assert.equal(SPAN, now.parent_id)
      assert.is_true(now.sampled)
      assert.equal(c.id, now.request_id)
      assert.equal(c.request_id, now.request_id)
      assert.equal(c.deadline, now.deadline)
      assert.equal("normal", now.tier)
      assert.is_nil(now.tenant)
    end, { headers = HEADERS })
  end)

  it("begins a trace where there is none", function()
    local first = within(function() return P.context.current() end)
    local second = within(function() return P.context.current() end)
    assert.equal(32, #first.trace_id)
    assert.not_equal(first.trace_id, second.trace_id)
    assert.is_nil(first.parent_id)
    assert.is_false(first.sampled)
  end)

  it("has a deadline by the clock of P.monotonic", function()
    within(function(c)
      local left = c.deadline - P.monotonic()
      assert.is_true(left > 0 and left <= 30)
      assert.is_true(math.abs(left - c:time_left()) < 1)
    end)
  end)

  it("has no deadline where its route has none", function()
    local app, seen = P.app(), {}
    app:get("/", { timeout = false }, function(c)
      seen = { c.deadline == nil, P.context.current().deadline == nil }
      return ""
    end)
    test.app(app):get("/")
    assert.same({ true, true }, seen)
  end)

  it("reads baggage, decoded", function()
    within(function(c)
      assert.equal("Amélie", c:baggage("user"))
      assert.equal("2", c:baggage("b"))
      assert.is_nil(c:baggage("User"))
      assert.equal("Amélie", P.context.baggage("user"))
      assert.is_nil(P.context.baggage("none"))
      assert.has_error(function() c:baggage(1) end, "a name is a string")
    end, { headers = HEADERS })
    within(function(c) assert.is_nil(c:baggage("user")) end)
  end)

  it("does not believe everybody about tenant, tier and request id", function()
    within(function(c)
      assert.is_nil(c.tenant)
      assert.equal("normal", c.tier)
      assert.not_equal("mine", c.id)
    end, { headers = { ["x-tenant"] = "acme", ["x-tier"] = "high", ["x-request-id"] = "mine" } })
  end)

  it("takes tenant and tier of middleware", function()
    local app, seen = P.app(), {}
    app:use(function(c, next)
      c.tenant, c.tier = "acme", "high"
      next(c)
    end)
    app:get("/", function(c)
      seen = { c.tenant, c.tier, P.context.current().tenant, P.context.current().tier }
      c.tenant = nil
      seen[5] = c.tenant == nil
      return "ok"
    end)
    test.app(app):get("/")
    assert.same({ "acme", "high", "acme", "high", true }, seen)
  end)

  it("refuses what is no tenant and no tier, at the line that sets it", function()
    within(function(c)
      for _, bad in ipairs({ "", ("x"):rep(65), "a\nb", 7, true }) do
        local ok, err = pcall(function() c.tenant = bad end)
        assert.is_false(ok)
        assert.matches("current_spec.lua:%d+: a tenant is a string of 1 to 64 bytes", err)
      end
      c.tenant = ("x"):rep(64)
      assert.equal(("x"):rep(64), c.tenant)
      local ok, err = pcall(function() c.tier = "gold" end)
      assert.is_false(ok)
      assert.matches("current_spec.lua:%d+: a tier is", err)
      ok, err = pcall(function() c.trace_id = "x" end)
      assert.is_false(ok)
      assert.matches("no field \"trace_id\" to set", err)
    end)
  end)

  it("ends with the request", function()
    local kept = within(function(c) return c end)
    for _, use in ipairs({
      function() return kept.span_id end, function() kept.tenant = "x" end,
      function() return kept:baggage("a") end,
    }) do
      local ok, err = pcall(use)
      assert.is_false(ok)
      assert.matches("context used after its request ended", err)
    end
  end)

  it("is another one for the next request on the same connection", function()
    local app, seen = P.app(), {}
    app:get("/:name", function(c, name)
      seen[name] = { c.trace_id, c.span_id, c:baggage("a"), c.tenant == nil }
      c.tenant = name
      return ""
    end)
    test.app(app):raw(("GET /one HTTP/1.1\r\nHost: x\r\nTraceparent: %s\r\nBaggage: a=1\r\n\r\n")
      :format(PARENT) .. "GET /two HTTP/1.1\r\nHost: x\r\n\r\n", 2)
    assert.equal(TRACE, seen.one[1])
    assert.equal("1", seen.one[3])
    assert.not_equal(TRACE, seen.two[1])
    assert.not_equal(seen.one[2], seen.two[2])
    assert.is_nil(seen.two[3])
    assert.is_true(seen.two[4])
  end)
end)

describe("P.context follows", function()
  it("a handler through its waits, beside others", function()
    local app, seen = P.app(), {}
    app:get("/:name", function(c, name)
      c.tenant = name
      for _ = 1, 3 do
        P.sleep(0.002)
        local now = P.context.current()
        seen[#seen + 1] = now.tenant == name and now.span_id == c.span_id
      end
      return ""
    end)
    local api, tasks = test.app(app), {}
    for i = 1, 8 do
      tasks[i] = P.detach("client", function() return api:get("/" .. i).status end)
    end
    for i = 1, 8 do
      assert.equal(200, tasks[i]:wait())
    end
    assert.equal(24, #seen)
    for _, right in ipairs(seen) do
      assert.is_true(right)
    end
  end)

  it("tasks that were spawned, as the same span", function()
    within(function(c)
      c.tenant = "acme"
      local now = P.spawn(function()
        P.sleep(0)
        return P.spawn(P.context.current):wait()
      end):wait()
      assert.equal(c.trace_id, now.trace_id)
      assert.equal(c.span_id, now.span_id)
      assert.equal("acme", now.tenant)
      assert.equal(c.deadline, now.deadline)
    end, { headers = HEADERS })
  end)

  it("tasks that were detached, linked: same trace, a span of their own", function()
    local task, span, id
    within(function(c)
      c.tenant, c.tier = "acme", "low"
      span, id = c.span_id, c.id
      task = P.detach("later", function()
        P.sleep(0.01) -- the request has ended meanwhile
        return { P.context.current(), P.context.headers(), P.context.baggage("user") }
      end)
    end, { headers = HEADERS })
    within(function() end, { headers = { baggage = "user=other" } }) -- its slot has been used again
    local now, headers, user = unpack(task:wait())
    assert.equal(TRACE, now.trace_id)
    assert.not_equal(span, now.span_id)
    assert.equal(span, now.parent_id)
    assert.equal(id, now.request_id)
    assert.equal("acme", now.tenant)
    assert.equal("low", now.tier)
    assert.is_nil(now.deadline)
    assert.same({
      traceparent = ("00-%s-%s-01"):format(TRACE, now.span_id),
      tracestate = "rojo=1,congo=t61", baggage = "user=Am%C3%A9lie;p=1,b = 2",
    }, headers)
    assert.equal("Amélie", user)
  end)

  it("what such a task spawns, and detaches again", function()
    local task
    within(function()
      task = P.detach("one", function()
        local own = P.context.current()
        local spawned = P.spawn(function() return P.context.current() end):wait()
        local detached = P.detach("two", function()
          return { P.context.current(), P.context.headers().baggage }
        end):wait()
        return { own, spawned, detached[1], detached[2] }
      end)
    end, { headers = HEADERS })
    local own, spawned, detached, baggage = unpack(task:wait())
    assert.equal(own.span_id, spawned.span_id)
    assert.equal(own.parent_id, spawned.parent_id)
    assert.equal(TRACE, detached.trace_id)
    assert.equal(own.span_id, detached.parent_id)
    assert.equal("user=Am%C3%A9lie;p=1,b = 2", baggage)
  end)

  it("deferred calls", function()
    local span, now
    within(function(c)
      span = c.span_id
      c:defer(function() now = P.context.current() end)
    end)
    P.sleep(0.01)
    assert.equal(span, now.span_id)
  end)

  it("timers, each run in a trace of its own", function()
    local folder = process.folder({ ["app.lua"] = [[
      local P = require("perilune")
      local app, seen, start = P.app(), {}, nil
      P.every("10ms", "tick", function()
        local now = P.context.current()
        now.traceparent = P.context.headers().traceparent
        seen[#seen + 1] = now
      end)
      P.detach("start", function()
        start = P.context.current()
      end)
      app:get("/", function() return seen end)
      app:get("/start", function() return start end)
      return app
    ]] })
    local api = test.app(folder, { timers = true })
    local seen
    repeat
      P.sleep("10ms")
      seen = api:get("/"):json()
    until #seen >= 2
    assert.equal(32, #seen[1].trace_id)
    assert.not_equal(seen[1].trace_id, seen[2].trace_id)
    assert.not_equal(seen[1].span_id, seen[2].span_id)
    assert.is_nil(seen[1].request_id)
    assert.is_nil(seen[1].deadline)
    assert.equal(("00-%s-%s-02"):format(seen[1].trace_id, seen[1].span_id), seen[1].traceparent)
    assert.equal(32, #api:get("/start"):json().trace_id)
    process.cleanup()
  end)
end)

describe("P.context.headers", function()
  it("names this span as the parent, and passes on the rest", function()
    within(function(c)
      local headers = P.context.headers()
      assert.same({
        traceparent = ("00-%s-%s-01"):format(TRACE, c.span_id),
        tracestate = "rojo=1,congo=t61", baggage = "user=Am%C3%A9lie;p=1,b = 2",
      }, headers)
    end, { headers = HEADERS })
  end)

  it("marks a new trace as random and not as sampled", function()
    within(function(c)
      assert.same({ traceparent = ("00-%s-%s-02"):format(c.trace_id, c.span_id) },
        P.context.headers())
    end)
  end)

  it("adds to a table, in place of what another request has left there", function()
    within(function()
      local into = { accept = "text/plain", tracestate = "old=1", baggage = "old=1" }
      assert.equal(into, P.context.headers(into))
      assert.equal("text/plain", into.accept)
      assert.is_nil(into.tracestate)
      assert.is_nil(into.baggage)
    end)
  end)

  it("tells services of one's own more", function()
    within(function(c)
      c.tenant = "acme"
      local headers = P.context.headers(nil, true)
      assert.equal(c.id, headers["x-request-id"])
      assert.equal("acme", headers["x-tenant"])
      assert.equal("normal", headers["x-tier"])
    end)
  end)

  it("drops what is malformed, and the tracestate of a trace that was not taken", function()
    within(function()
      assert.is_nil(P.context.headers().tracestate)
      assert.equal("a=1", P.context.headers().baggage)
    end, { headers = { traceparent = PARENT, tracestate = "FOO=1", baggage = "a=1,b" } })
    within(function()
      assert.is_nil(P.context.headers().tracestate)
      assert.equal("a=1", P.context.headers().baggage)
    end, { headers = { tracestate = "foo=1", baggage = "a=1" } })
  end)

  it("can be as long as the limits of both allow", function()
    local baggage = "a=" .. ("x"):rep(8190)
    local state = "a=" .. ("x"):rep(252) .. ",b=" .. ("y"):rep(254)
    within(function(c)
      assert.equal(baggage, P.context.headers().baggage)
      assert.equal(state, P.context.headers().tracestate)
      assert.equal(8190, #c:baggage("a"))
    end, { headers = { traceparent = PARENT, tracestate = state, baggage = baggage } })
  end)
end)
