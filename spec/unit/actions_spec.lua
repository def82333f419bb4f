local actions = require("perilune.actions")

local function condition(text)
  local c, err = actions.condition(text)
  return c and { c.name, c.op, c.limit, c.is_rate } or err
end

local function rule(opts, action, name)
  return assert(actions.rule(name or "r", opts, action or "collect", "app.lua:1"))
end

--- An engine whose figures are the fields of the snapshot; what it does is in `did`, what it
--- cannot do in `held`, and what goes wrong in `failed`.
local function engine_of(rules, act)
  local did, held, failed = {}, {}, {}
  local engine = actions.engine {
    read = function(c, s) return s[c.name] end,
    act = act or function(_, _, settle) settle("done") end,
    told = function(e)
      local list = ({ done = did, held = held, failed = failed })[e.outcome]
      list[#list + 1] = e.outcome == "done" and e.rule .. " " .. e.action
        or e.rule .. ": " .. e.reason
    end,
  }
  for _, one in ipairs(rules) do
    assert(engine:add(one))
  end
  return engine, did, held, failed
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

    it("reads labels with all that they can have", function()
      local c = actions.condition([[x{a="> 1, }b=\"c\"",b="\\",c=""}>=2]])
      assert.same({ a = '> 1, }b="c"', b = "\\", c = "" }, c.labels)
      assert.same({ ">=", 2 }, { c.op, c.limit })
    end)

    for _, bad in ipairs({ "", "p99", "p99 >", "p99 = 3", "p99 > x", "x{a} > 1", "rate() > 1",
      "1 > 2", "x{a=b} > 1", 'x{a="b} > 1', 'x{a="b" c="d"} > 1' }) do
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
      assert.matches("name of an action is \"a b\"",
        fault("a b", { when = "p99 > 1" }, "collect", "x"))
      assert.matches("no action \"dance\"", fault("a", { when = "p99 > 1" }, "dance", "x"))
      assert.matches("when is a condition", fault("a", {}, "collect", "x"))
      assert.matches("needs a level", fault("a", { when = "a > 1" }, "log_level", "x"))
      assert.matches("what is to be done", fault("a", { when = "a > 1" }, {}, "x"))
    end)

    -- option, value, action, and the error behind `action "a": `
    for _, one in ipairs({
      { "for_", "x", "collect", 'for_ is "x"; expected is 0s to 24h' },
      { "for_", -1, "collect", "for_ is -1; expected is 0s to 24h" },
      { "for_", "25h", "collect", 'for_ is "25h"; expected is 0s to 24h' },
      { "cooldown", "8d", "collect", 'cooldown is "8d"; expected is 0s to 7d' },
      { "seconds", 0.5, "log_level", "seconds is 0.5; expected is 1s to 24h, for log_level" },
      { "seconds", "25h", "log_level", 'seconds is "25h"; expected is 1s to 24h, for log_level' },
      { "seconds", "20m", "cpu_profile",
        'seconds is "20m"; expected is 1s to 900s, for cpu_profile' },
      { "seconds", "48h", "trace_boost",
        'seconds is "48h"; expected is 1s to 24h, for trace_boost' },
      { "seconds", "20m", { "trace_boost", "cpu_profile" },
        'seconds is "20m"; expected is 1s to 900s, for cpu_profile' },
      { "level", "loud", "log_level",
        'level is "loud"; expected is debug, info, warn or error' },
      { "share", 0, "trace_boost", "share is 0; expected is a number above 0, up to 1" },
      { "share", 1.5, "trace_boost", "share is 1.5; expected is a number above 0, up to 1" },
      { "workers_max", 0, "add_worker",
        "workers_max is 0; expected is a whole number from 1 to 256" },
      { "workers_max", 2.5, "add_worker",
        "workers_max is 2.5; expected is a whole number from 1 to 256" },
      { "workers_max", 300, "add_worker",
        "workers_max is 300; expected is a whole number from 1 to 256" },
      { "route", "notes", "collect",
        'route is "notes"; expected is a route such as "GET /notes" or "/notes"' },
      { "for", 1, "collect", 'there is no option "for": when, for_, cooldown, route, seconds, '
        .. "level, share and workers_max there are" },
      { "seconds", 5, "collect", "the option seconds is for cpu_profile and log_level and "
        .. "trace_boost, which it does not do" },
      { "share", 1, "log_level", "the option share is for trace_boost, which it does not do" },
    }) do
      local option, value, action, expected = unpack(one)
      it(("refuses %s = %s of %s"):format(option, value,
        type(action) == "table" and table.concat(action, ", ") or action), function()
        local opts = { when = "p99 > 1", level = action == "log_level" and "debug" or nil }
        opts[option] = value
        assert.equal('action "a": ' .. expected, fault("a", opts, action, "x"))
      end)
    end

    it("takes options at both ends of what is allowed", function()
      for _, one in ipairs({
        { { seconds = 1, level = "warn" }, "log_level" },
        { { seconds = "24h", level = "warn" }, "log_level" },
        { { seconds = 1 }, "cpu_profile" }, { { seconds = "15m" }, "cpu_profile" },
        { { seconds = "24h", share = 1 }, "trace_boost" }, { { share = 0.001 }, "trace_boost" },
        { { workers_max = 1 }, "add_worker" }, { { workers_max = 256 }, "add_worker" },
        { { for_ = 0, cooldown = 0 }, "collect" }, { { for_ = "24h", cooldown = "7d" }, "collect" },
      }) do
        one[1].when = "p99 > 1"
        assert.same({}, { fault("a", one[1], one[2], "x") })
      end
    end)

    it("refuses a route where the figure has none", function()
      assert.matches('action "a": the option route is for conditions of error_share, errors, p50',
        fault("a", { when = "memory > 1", route = "GET /" }, "collect", "x"))
      assert.is_nil(fault("a", { when = "p99 > 1", route = "GET /" }, "collect", "x"))
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
      local engine, did, held = engine_of({ rule({ when = "p99 > 1", for_ = 0 }) },
        function(_, _, settle)
          settle(can and "done" or "held", "there are 2 workers")
        end)
      for now = 1, 5 do
        engine:look({ p99 = 2 }, now)
      end
      assert.equal("held", state(engine))
      assert.same({ "r: there are 2 workers" }, held)
      assert.equal("held", engine:report(5).firings[1].outcome)
      can = true
      engine:look({ p99 = 2 }, 6)
      assert.equal(1, #did)
    end)

    it("says it again when something was done, or all was well, in between", function()
      local engine, did, held = engine_of({
        rule({ when = "p99 > 1", for_ = 0, cooldown = 2 }, { "collect", "add_worker" }),
      }, function(action, _, settle)
        settle(action == "collect" and "done" or "held", "no room")
      end)
      engine:look({ p99 = 2 }, 1)
      engine:look({ p99 = 2 }, 3)
      assert.same({ 2, 2 }, { #did, #held })
      local quiet, _, again = engine_of({ rule({ when = "p99 > 1", for_ = 0 }) },
        function(_, _, settle) settle("held", "no") end)
      for now, value in ipairs({ 2, 2, 0, 2 }) do
        quiet:look({ p99 = value }, now)
      end
      assert.equal(2, #again)
    end)

    it("tells each refusal of a rule that wants several things", function()
      local engine, _, held = engine_of({
        rule({ when = "p99 > 1", for_ = 0 }, { "collect", "add_worker" }),
      }, function(action, _, settle) settle("held", "no " .. action) end)
      engine:look({ p99 = 2 }, 1)
      assert.same({ "r: no collect", "r: no add_worker" }, held)
    end)

    it("waits for what takes longer than its cooldown, and says so", function()
      local finish
      local engine, did, held = engine_of({ rule({ when = "p99 > 1", for_ = 0, cooldown = 2 }) },
        function(_, _, settle) finish = settle end)
      engine:look({ p99 = 2 }, 1)
      engine:look({ p99 = 2 }, 2)
      assert.equal("acting", state(engine))
      engine:look({ p99 = 2 }, 3)
      engine:look({ p99 = 2 }, 4)
      assert.equal("held", state(engine))
      assert.same({ "r: what it did 2 s ago still goes on" }, held)
      assert.same({}, did)
      finish("done")
      finish("failed", "twice")
      assert.same({ "r collect" }, did)
      engine:look({ p99 = 2 }, 5)
      finish("done")
      assert.equal(2, #did)
      assert.equal(2, engine:report(5).rules[1].fired)
    end)

    it("cools down after what has failed, too", function()
      local engine, did, _, failed = engine_of({
        rule({ when = "p99 > 1", for_ = 0, cooldown = 3 }),
      }, function(_, _, settle) settle("failed", "disk full") end)
      for now = 1, 4 do
        engine:look({ p99 = 2 }, now)
      end
      assert.same({}, did)
      assert.same({ "r: disk full", "r: disk full" }, failed) -- at 1 and 4
      assert.equal("disk full", engine:report(4).rules[1].reason)
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

    it("is quiet about a figure that has no value yet", function()
      local engine, did = engine_of({ rule({ when = "later < 1", for_ = 0 }) })
      engine.means.read = function(_, s) return s.later, true end
      engine:look({}, 1)
      assert.same({ "quiet", "it has no value yet" },
        { state(engine), engine:report(1).rules[1].reason })
      engine:look({ later = 2 }, 2)
      assert.is_nil(engine:report(2).rules[1].reason)
      assert.same({}, did)
      engine:look({ later = 0 }, 3)
      assert.same({ "r collect" }, did)
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

    it("judges other rules while a function is run, and acts once that is done", function()
      local said, tries = nil, 0
      local engine, did = engine_of({
        rule({ when = function() end, for_ = 0 }, nil, "slow"),
        rule({ when = "x > 1", for_ = 0, cooldown = 0 }, nil, "other"),
      })
      engine.means.try = function()
        tries = tries + 1
        return function() return said, true, 5 end
      end
      engine:look({ x = 2 }, 1)
      engine:look({ x = 2 }, 2)
      engine:settle(2)
      assert.same({ { "other collect", "other collect" }, 1 }, { did, tries })
      assert.is_true(engine:is_trying())
      said = true
      engine:settle(3)
      assert.equal("slow collect", did[3])
      assert.is_false(engine:is_trying())
      assert.equal(5, engine:report(3).rules[1].value)
    end)

    it("does not run a function again at once that took too long, and tells it", function()
      local tries, told = 0, {}
      local engine = engine_of({ rule({ when = function() end, for_ = 0 }, nil, "late") })
      engine.means.try = function()
        tries = tries + 1
        return function() return false, "it takes longer than 2 s", true end
      end
      engine.means.unjudged = function(r, reason, is_new)
        told[#told + 1] = ("%s: %s, %s"):format(r.name, reason, tostring(is_new))
      end
      for now = 1, 31 do
        engine:look({}, now)
      end
      assert.equal(2, tries)
      assert.same({
        "late: it takes longer than 2 s, true", "late: it takes longer than 2 s, false",
      }, told)
      local one = engine:report(31).rules[1]
      assert.same({ "unknown", "it takes longer than 2 s", 2 },
        { one.state, one.reason, one.unjudged })
    end)

    it("tells of an action that raises", function()
      local engine, did, _, failed = engine_of({ rule({ when = "x > 1", for_ = 0 }) }, function()
        error("no", 0)
      end)
      engine:look({ x = 2 }, 1)
      assert.same({}, did)
      assert.same({ "r: no" }, failed)
      assert.equal("cooling", state(engine))
    end)

    it("can be shown as JSON, whatever figures and reasons are", function()
      local json = require("perilune").json
      local engine = engine_of({ rule({ when = function() return true, 1 / 0 end, for_ = 0 }) },
        function() error("\255" .. ("\195\164"):rep(400), 0) end)
      engine:look({}, 1)
      assert.is_string(json.encode(engine:report(1)))
      assert.is_string(json.encode(engine:save()))
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

    it("hands on that something is being done, and that it is costly", function()
      local rules = {
        rule({ when = "p99 > 1", for_ = 0, cooldown = 10 }, "record", "a"),
        rule({ when = "p99 > 1", for_ = 0, cooldown = 10 }, "heap_profile", "b"),
      }
      local before = engine_of({ rules[1] }, function() end)
      before:look({ p99 = 2 }, 1)
      local after, did, held = engine_of(rules)
      after:adopt(before:save())
      assert.equal(1, after:report(1).rules[1].fired)
      after:look({ p99 = 2 }, 5)
      assert.same({}, did)
      assert.same({ "b: another costly action was done 4 s ago" }, held)
      after:look({ p99 = 2 }, 61)
      assert.equal("a record", did[1])
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
