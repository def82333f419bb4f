local actions = require("perilune.actions")

local function condition(text)
  local c, err = actions.condition(text)
  return c and { c.name, c.op, c.limit, c.is_rate } or err
end

local function rule(opts, action, name)
  return assert(actions.rule(name or "r", opts, action or "collect", "app.lua:1"))
end

--- An engine whose figures are the fields of the snapshot; what it does is in `did`.
local function engine_of(rules, act)
  local did, held = {}, {}
  local engine = actions.engine {
    read = function(c, s) return s[c.name] end,
    act = act or function() return true end,
    told = function(event) did[#did + 1] = event.rule .. " " .. event.action end,
    held = function(r, reason) held[#held + 1] = r.name .. ": " .. reason end,
  }
  for _, one in ipairs(rules) do
    assert(engine:add(one))
  end
  return engine, did, held
end

local function state(engine, at)
  return engine:report(0).rules[at or 1].state
end

describe("perilune.actions", function()
  describe(".condition", function()
    it("reads figures, comparisons and limits with their units", function()
      assert.same({ "p99", ">", 0.15, false }, condition("p99 > 150ms"))
      assert.same({ "memory", ">=", 10 * 2 ^ 20, false }, condition("memory >= 10M"))
      assert.same({ "allocation", ">", 2 ^ 30, false }, condition("allocation>1G/s"))
      assert.same({ "error_share", "<", 0.05, false }, condition("  error_share < 5%  "))
      assert.same({ "a_total", "<=", 3, true }, condition("rate(a_total) <= 3"))
    end)

    it("reads the labels of a metric", function()
      local c = actions.condition('rate(x_total{kind="a b",code="5xx"}) > 1')
      assert.same({ kind = "a b", code = "5xx" }, c.labels)
      assert.equal("x_total", c.name)
    end)

    for _, bad in ipairs({ "", "p99", "p99 >", "p99 = 3", "p99 > x", "x{a} > 1", "rate() > 1",
      "1 > 2", "x{a=b} > 1" }) do
      it("refuses " .. (bad == "" and "nothing" or bad), function()
        assert.is_string((select(2, actions.condition(bad))))
      end)
    end
  end)

  describe(".rule", function()
    local function fault(...)
      return select(2, actions.rule(...))
    end

    it("has defaults for how long, and how often", function()
      local r = rule({ when = "p99 > 1" })
      assert.equal(10, r.for_)
      assert.equal(300, r.cooldown)
      assert.same({ "collect" }, r.actions)
    end)

    it("says what is wrong with one", function()
      assert.matches("name of an action", fault("a b", { when = "p99 > 1" }, "collect", "x"))
      assert.matches("no option \"for\"",
        fault("a", { when = "p99 > 1", ["for"] = 1 }, "collect", "x"))
      assert.matches("no action \"dance\"", fault("a", { when = "p99 > 1" }, "dance", "x"))
      assert.matches("when is a condition", fault("a", {}, "collect", "x"))
      assert.matches("for_ is a number", fault("a", { when = "a > 1", for_ = "x" }, "collect", "x"))
      assert.matches("needs a level", fault("a", { when = "a > 1" }, "log_level", "x"))
      assert.matches("workers_max",
        fault("a", { when = "a > 1", workers_max = 0 }, "add_worker", "x"))
      assert.matches("what is to be done", fault("a", { when = "a > 1" }, {}, "x"))
    end)
  end)

  describe("an engine", function()
    it("acts once the condition has held for its time, and not before", function()
      local engine, did = engine_of({ rule({ when = "p99 > 1", for_ = 3 }) })
      for now = 0, 2 do
        engine:look({ p99 = 2 }, now)
        assert.equal("over", state(engine))
      end
      engine:look({ p99 = 2 }, 3)
      assert.same({ "r collect" }, did)
      assert.equal("cooling", state(engine))
    end)

    it("begins anew when it was within bounds in between", function()
      local engine, did = engine_of({ rule({ when = "p99 > 1", for_ = 2 }) })
      for now, value in ipairs({ 2, 2, 0, 2, 2 }) do
        engine:look({ p99 = value }, now)
      end
      assert.same({}, did)
      engine:look({ p99 = 2 }, 6)
      assert.equal(1, #did)
    end)

    it("keeps the cooldown", function()
      local engine, did = engine_of({ rule({ when = "p99 > 1", for_ = 0, cooldown = 10 }) })
      for now = 1, 25 do
        engine:look({ p99 = 2 }, now)
      end
      assert.equal(3, #did) -- at 1, 11 and 21
    end)

    it("does several things, and tells of each", function()
      local fn = function() end
      local engine, did = engine_of({ rule({ when = "p99 > 1", for_ = 0 }, { "collect", fn }) })
      engine:look({ p99 = 2 }, 1)
      assert.same({ "r collect", "r function" }, did)
      assert.equal(2, #engine:report(1).firings)
    end)

    it("says once why nothing can be done, and tries again", function()
      local can = false
      local engine, did, held = engine_of({ rule({ when = "p99 > 1", for_ = 0 }) }, function()
        return can or nil, "there are 2 workers"
      end)
      for now = 1, 5 do
        engine:look({ p99 = 2 }, now)
      end
      assert.equal("held", state(engine))
      assert.same({ "r: there are 2 workers" }, held)
      can = true
      engine:look({ p99 = 2 }, 6)
      assert.equal(1, #did)
    end)

    it("does one costly thing a minute, unless a rule wants two at once", function()
      local engine, did = engine_of({
        rule({ when = "p99 > 1", for_ = 0, cooldown = 600 }, { "record", "heap_profile" }, "a"),
        rule({ when = "p99 > 1", for_ = 0, cooldown = 5 }, "cpu_profile", "b"),
      })
      engine:look({ p99 = 2 }, 1)
      for now = 2, 60 do
        engine:look({ p99 = 2 }, now)
      end
      assert.same({ "a record", "a heap_profile" }, did)
      assert.equal("held", state(engine, 2))
      engine:look({ p99 = 2 }, 61)
      assert.equal("b cpu_profile", did[3])
    end)

    it("knows that it does not know", function()
      local engine, did = engine_of({ rule({ when = "nothing > 1", for_ = 0 }) })
      engine:look({}, 1)
      assert.equal("unknown", state(engine))
      assert.same({}, did)
    end)

    it("asks a function, and survives what that raises", function()
      local engine, did = engine_of({
        rule({ when = function(s) return s.x > 1, s.x end, for_ = 0 }, nil, "good"),
        rule({ when = function() error("oh") end, for_ = 0 }, nil, "bad"),
      })
      engine:look({ x = 2 }, 1)
      assert.same({ "good collect" }, did)
      assert.equal("unknown", state(engine, 2))
      assert.matches("oh", engine:report(1).rules[2].reason)
    end)

    it("survives an action that raises", function()
      local engine, did, held = engine_of({ rule({ when = "x > 1", for_ = 0 }) }, function()
        error("no", 0)
      end)
      engine:look({ x = 2 }, 1)
      assert.same({}, did)
      assert.same({ "r: no" }, held)
    end)

    it("hands on what cools", function()
      local one = { rule({ when = "p99 > 1", for_ = 0, cooldown = 10 }) }
      local before = engine_of(one)
      before:look({ p99 = 2 }, 1)
      local after, did = engine_of(one)
      after:adopt(before:save())
      after:look({ p99 = 2 }, 5)
      assert.same({}, did)
      after:look({ p99 = 2 }, 11)
      assert.equal(1, #did)
      assert.equal(2, after:report(11).rules[1].fired)
    end)

    it("takes an app's rule in the place of a default of that name, and no third", function()
      local default = rule({ when = "p99 > 1" })
      default.where = "perilune"
      local engine = engine_of({ default })
      assert.is_true(engine:add(rule({ when = "p99 > 2" })))
      assert.equal(1, #engine.rules)
      assert.is_nil((engine:add(rule({ when = "p99 > 3" }))))
    end)
  end)
end)
