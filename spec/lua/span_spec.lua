local P = require("perilune")
local test = require("perilune.test")

--- Runs a handler; what it returns is what this returns.
local function within(fn)
  local app, result = P.app(), nil
  app:get("/", function(c)
    result = fn(c)
    return "ok"
  end)
  assert.equal(200, test.app(app):get("/").status)
  return result
end

local function ids()
  local now = P.context.current()
  return now.span_id, now.parent_id
end

describe("P.span", function()
  it("gives its function the arguments, and returns what it returns", function()
    local results = within(function()
      return { n = select("#", P.span("s", function() end)),
        P.span("s", function(...) return select("#", ...), ... end, 1, nil, "x", nil) }
    end)
    assert.same({ n = 0, 4, 1, nil, "x", nil }, results)
  end)

  it("is a span of its own, whose parent is the one around it", function()
    local seen_ids = within(function(c)
      local seen = {}
      seen[1] = { ids() }
      P.span("outer", function()
        seen[2] = { ids() }
        P.span("inner", function() seen[3] = { ids() } end)
      end)
      seen[4] = { ids() }
      assert.equal(c.span_id, seen[1][1])
      return seen
    end)
    local root, outer, inner, after = unpack(seen_ids)
    assert.is_nil(root[2])
    assert.not_equal(root[1], outer[1])
    assert.equal(root[1], outer[2])
    assert.not_equal(outer[1], inner[1])
    assert.equal(outer[1], inner[2])
    assert.equal(root[1], after[1])
  end)

  it("is the parent in the headers of what is asked meanwhile", function()
    within(function()
      P.span("s", function()
        local parent = P.context.headers().traceparent:match("^00%-%x+%-(%x+)%-")
        assert.equal((ids()), parent)
      end)
    end)
  end)

  it("is that of tasks which are spawned in it, and not of others", function()
    within(function(c)
      local before = P.spawn(function()
        P.sleep(0.005)
        return ids()
      end)
      P.span("s", function()
        local own, parent = ids()
        local task = P.spawn(function()
          local id, up = ids()
          local deep, over = P.span("in it", ids)
          return { id, up, deep, over }
        end)
        local seen = task:wait()
        assert.equal(own, seen[1])
        assert.equal(parent, seen[2])
        assert.equal(own, seen[4])
        assert.not_equal(own, seen[3])
      end)
      assert.equal(c.span_id, (before:wait()))
    end)
  end)

  it("is the parent of a detached task that it starts", function()
    within(function()
      local own = P.span("s", function()
        local id = ids()
        local task = P.detach("later", function() return { ids() } end)
        local seen = task:wait()
        assert.equal(id, seen[2])
        assert.not_equal(id, seen[1])
        return id
      end)
      assert.equal(16, #own)
    end)
  end)

  it("goes on over waits, also of tasks side by side", function()
    within(function()
      local function work(ms)
        return P.span("work", function()
          local first = ids()
          P.sleep(ms / 1000)
          return first == ids() and first
        end)
      end
      local a, b = P.all({ { work, 3 }, { work, 1 } })
      assert.is_truthy(a)
      assert.is_truthy(b)
      assert.not_equal(a, b)
    end)
  end)

  it("raises again what its function raises, whatever that is", function()
    within(function(c)
      local what = { "a table" }
      local ok, err = pcall(P.span, "s", error, what)
      assert.is_false(ok)
      assert.equal(what, err)
      ok, err = pcall(P.span, "s", error, "a text", 0)
      assert.is_false(ok)
      assert.equal("a text", err)
      assert.equal(c.span_id, (ids())) -- and has ended
    end)
  end)

  it("runs its function where eight others are already around it", function()
    within(function(c)
      local function deeper(n)
        return n == 0 and "here" or P.span("level " .. n, deeper, n - 1)
      end
      assert.equal("here", deeper(20))
      assert.equal(c.span_id, (ids()))
    end)
  end)

  it("ends only what is its own, when a coroutine is left in the middle of it", function()
    within(function(c)
      local left = coroutine.wrap(function()
        P.span("left", coroutine.yield, "inside")
      end)
      P.span("outer", function()
        local own = ids()
        assert.equal("inside", left())
        P.span("next", function() end)
        assert.not_equal(c.span_id, own)
      end)
      assert.equal(c.span_id, (ids()))
      left() -- ends long after
      assert.equal(c.span_id, (ids()))
    end)
  end)

  it("runs its function while the app loads", function()
    assert.equal(3, P.span("at load", function(n) return n end, 3))
  end)

  it("refuses what is no name and no function", function()
    assert.has_error(function() P.span(1, print) end,
      "P.span takes a name, a function, and arguments for it")
    assert.has_error(function() P.span("s", "f") end, "P.span takes a function, not a string")
  end)
end)

describe("P.span_set", function()
  it("takes texts, numbers and booleans", function()
    within(function()
      P.span_set("text", "t")
      P.span_set("number", 1.5)
      P.span_set("truth", false)
    end)
  end)

  it("refuses anything else", function()
    assert.has_error(function() P.span_set(1, 1) end,
      "P.span_set takes a key, which is a string, and a value")
    assert.has_error(function() P.span_set("key", {}) end,
      "the value of P.span_set is a string, a number or a boolean, not a table")
    assert.has_error(function() P.span_set("key", nil) end,
      "the value of P.span_set is a string, a number or a boolean, not a nil")
  end)
end)
