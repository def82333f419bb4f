-- P.metric inside one VM: what it takes, what it refuses, and what it costs.

local P = require("perilune")
local process = require("spec.support.process")

local metric = P.metric

describe("P.metric", function()
  describe(".counter", function()
    it("adds one, or what it is given", function()
      local c = metric.counter("spec_a_total", "As.")
      c:add()
      c:add(2)
      c:add(0)
      c:add(0.5)
      assert.equal(3.5, c:get())
      assert.equal("spec_a_total", c.name)
    end)

    it("is the same one when it is asked for again", function()
      assert.equal(metric.counter("spec_b_total", "Bs."), metric.counter("spec_b_total", "Bs."))
      local labels = { "x" }
      local c = metric.counter("spec_c_total", "Cs.", labels)
      labels[1] = "y"
      assert.equal(c, metric.counter("spec_c_total", "Cs.", { "x" }))
    end)

    for _, bad in ipairs({ -1, 0 / 0, math.huge, "1", true, {} }) do
      it("does not add " .. tostring(bad):gsub("0x%x+", ""), function()
        local c = metric.counter("spec_d_total", "Ds.")
        assert.has_error(function() c:add(bad) end,
          'P.metric.counter("spec_d_total"):add takes a number from 0 on, got ' .. tostring(bad))
        assert.equal(0, c:get())
      end)
    end
  end)

  describe(".gauge", function()
    it("goes up and down and is set", function()
      local g = metric.gauge("spec_gauge", "Gs.")
      g:set(5)
      g:add()
      g:add(-10)
      assert.equal(-4, g:get())
    end)

    it("is put together as it says, always the same way", function()
      metric.gauge("spec_most", "Gs.", nil, "max")
      assert.has_error(function() metric.gauge("spec_most", "Gs.", nil, "sum") end,
        'P.metric.gauge("spec_most"): workers are put together by "max" already')
      assert.has_error(function() metric.gauge("spec_least", "Gs.", nil, "min") end,
        'P.metric.gauge("spec_least"): workers are put together by "sum", "max" or "each"')
      assert.has_error(function() metric.gauge("spec_own", "Gs.", { "a", "worker" }, "each") end,
        'P.metric.gauge("spec_own"): the label worker is given by "each"')
      metric.gauge("spec_own", "Gs.", { "my_worker", "workers" }, "each")
    end)
  end)

  describe(".histogram", function()
    for _, bad in ipairs({ -0.1, 0 / 0, "1" }) do
      it("does not record " .. tostring(bad), function()
        local h = metric.histogram("spec_seconds", "Hs.")
        h:record(0)
        h:record(1e300)
        assert.has_error(function() h:record(bad) end,
          'P.metric.histogram("spec_seconds"):record takes a number from 0 on, got '
          .. tostring(bad))
        assert.has_error(function() h:record() end)
      end)
    end
  end)

  describe(":with", function()
    it("leads to a series for each set of values", function()
      local c = metric.counter("spec_labels_total", "Ls.", { "a", "b" })
      c:with("x", "y"):add()
      c:with("x", "y"):add()
      c:with("x", "z"):add(5)
      assert.equal(2, c:with("x", "y"):get())
      assert.equal(5, c:with("x", "z"):get())
      assert.equal(0, c:with("y", "x"):get())
      assert.equal(c:with("x", "y"), c:with("x", "y"))
    end)

    it("takes numbers and booleans as their text", function()
      local c = metric.counter("spec_texts_total", "Ts.", { "a" })
      c:with(1):add()
      c:with("1"):add()
      c:with(true):add(7)
      assert.equal(2, c:with(1):get())
      assert.equal(7, c:with("true"):get())
    end)

    for count = 1, 8 do
      it("takes " .. count .. " labels", function()
        local names, values = {}, {}
        for i = 1, count do
          names[i], values[i] = "l" .. i, "v" .. i
        end
        local c = metric.counter(("spec_%d_total"):format(count), "Ns.", names)
        c:with(unpack(values)):add()
        c:with(unpack(values)):add()
        assert.equal(2, c:with(unpack(values)):get())
        values[count] = "other value"
        assert.equal(0, c:with(unpack(values)):get())
        values[count + 1] = "one more"
        assert.has_error(function() c:with(unpack(values)) end)
        assert.has_error(function() c:with(unpack(values, 1, count - 1)) end)
      end)
    end

    it("says what is wrong", function()
      local c = metric.counter("spec_wrong_total", "Ws.", { "kind", "state" })
      assert.has_error(function() c:with("a") end,
        'P.metric.counter("spec_wrong_total"): with takes 2 values (kind, state), got 1')
      assert.has_error(function() c:with("a", nil) end,
        'P.metric.counter("spec_wrong_total"): the value of state is a text, got nil')
      assert.has_error(function() c:with("a", 0 / 0) end,
        'P.metric.counter("spec_wrong_total"): the value of state is a text, got NaN')
      assert.has_error(function() c:add(1) end,
        'P.metric.counter("spec_wrong_total") has labels (kind, state): add goes behind :with(...)')
      assert.has_error(function() c:get() end,
        'P.metric.counter("spec_wrong_total") has labels (kind, state): get goes behind :with(...)')
      assert.has_error(function() c:with("a", "b"):with("c") end,
        'P.metric.counter("spec_wrong_total") has no labels')
      assert.has_error(function() metric.counter("spec_a_total", "As."):with("c") end,
        'P.metric.counter("spec_a_total") has no labels')
    end)

    it("counts together what is past metrics.series_max, and keeps no more", function()
      local c = metric.counter("spec_many_total", "Ms.", { "id" })
      for i = 1, 3000 do
        c:with(i):add()
      end
      assert.equal(1, c:with(7):get())
      assert.equal(2000, c:with(3001):get())
      assert.equal(c:with(3001), c:with(3002))
      local kept = 0
      for _ in pairs(c._children) do
        kept = kept + 1
      end
      assert.equal(1000, kept)
    end)

    it("does not keep an object for each of the values that are one series", function()
      local c = metric.counter("spec_alike_total", "As.", { "id" })
      local long = ("x"):rep(128)
      for i = 1, 1000 do
        c:with(long .. i):add()
      end
      assert.equal(1000, c:with(long):get())
      for i = 0, 39999 do -- no UTF-8
        c:with(string.char(128 + i % 64, 128 + i / 64 % 64, 128 + i / 4096)):add()
      end
      assert.equal(40000, c:with("\255\255\255"):get())
      local kept = 0
      for _ in pairs(c._children) do
        kept = kept + 1
      end
      assert.is_true(kept <= 16384)
    end)
  end)

  describe("refuses", function()
    local NO_TOTAL = "it takes a name of up to 127 letters, digits and _ that does not end in"
      .. " _total, _bucket, _sum, _count or _created"
    local NO_LABEL = "label %d is no name of letters, digits and _, or it is le, or begins with __"
    local CASES = {
      { "counter", "spec_x", "Help.", nil,
        "it takes a name of up to 127 letters, digits and _ that ends in _total" },
      { "counter", "spec-x_total", "Help.", nil,
        "it takes a name of up to 127 letters, digits and _ that ends in _total" },
      { "gauge", "spec_x_total", "Help.", nil, NO_TOTAL },
      { "histogram", "spec_x_count", "Help.", nil, NO_TOTAL },
      { "gauge", "1x", "Help.", nil, NO_TOTAL },
      { "gauge", ("x"):rep(128), "Help.", nil, NO_TOTAL },
      { "gauge", 5, "Help.", nil, "the name is a text" },
      { "gauge", "perilune_x", "Help.", nil,
        "names that begin with perilune_ are the server's own" },
      { "gauge", "spec_x", "", nil, "the second argument is a text that explains it" },
      { "gauge", "spec_x", { "a" }, nil, "the second argument is a text that explains it" },
      { "gauge", "spec_x", "Help.", "a", "the labels are a list of names, got a string" },
      { "gauge", "spec_x", "Help.", { a = "b" }, "the labels are a list of names" },
      { "gauge", "spec_x", "Help.", { "a", "a" }, "label a is there twice" },
      { "gauge", "spec_x", "Help.", { "le" }, NO_LABEL:format(1) },
      { "gauge", "spec_x", "Help.", { "a", "b-c" }, NO_LABEL:format(2) },
      { "gauge", "spec_x", "Help.", { 1 }, NO_LABEL:format(1) },
      { "gauge", "spec_x", "Help.", { "a", "b", "c", "d", "e", "f", "g", "h", "i" },
        "at most 8 labels" },
    }
    for i, case in ipairs(CASES) do
      it(("%s %s (%d)"):format(case[1], tostring(case[2]), i), function()
        local kind, name, help, labels, why = unpack(case, 1, 5)
        assert.has_error(function() metric[kind](name, help, labels) end,
          ("P.metric.%s(%q): %s"):format(kind, tostring(name), why))
      end)
    end

    it("a name that is another type's, or has other labels", function()
      metric.gauge("spec_y", "Ys.", { "a" })
      assert.has_error(function() metric.histogram("spec_y", "Ys.", { "a" }) end,
        'P.metric.histogram("spec_y"): it is a gauge already')
      assert.has_error(function() metric.gauge("spec_y", "Ys.", { "b" }) end,
        'P.metric.gauge("spec_y"): it has the labels (a) already')
      assert.has_error(function() metric.counter("spec_y_total", "Ys.") end,
        'P.metric.counter("spec_y_total"): this server has counted it as another type since it'
        .. " was started, or put workers together in another way; or it differs from another metric"
        .. " in _total only")
    end)

    it("at the place where it was asked wrongly", function()
      local ok, err = pcall(function() metric.gauge("spec_x", "") end)
      assert.is_false(ok)
      assert.matches("^[^\n]*spec/lua/metric_spec.lua:%d+: P.metric.gauge", err)
      ok, err = pcall(function() metric.counter("spec_a_total", "As."):add(-1) end)
      assert.is_false(ok)
      assert.matches("^[^\n]*spec/lua/metric_spec.lua:%d+: P.metric.counter", err)
      ok, err = pcall(function() metric.counter("spec_c_total", "Cs.", { "x" }):with() end)
      assert.is_false(ok)
      assert.matches("^[^\n]*spec/lua/metric_spec.lua:%d+: P.metric.counter", err)
    end)
  end)

  it("counts without allocating, in compiled code", function()
    local c = metric.counter("spec_fast_total", "Fs.", { "kind", "state" })
    local h, g = metric.histogram("spec_fast_seconds", "Fs."), metric.gauge("spec_fast_size", "Fs.")
    local function work(n)
      for i = 1, n do
        c:with("a", "b"):add(1)
        h:record(i)
        g:set(i)
      end
    end
    work(1000)
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    work(100000)
    local grown = collectgarbage("count") - before
    collectgarbage("restart")
    assert.is_true(grown < 16, grown .. " KiB")
  end)

  it("has a spec's own memory, which ends with it", function()
    local folder = process.folder({ ["one_spec.lua"] = [[
      local P = require("perilune")
      it("begins at zero", function()
        local c = P.metric.counter("again_total", "Again.")
        assert.equal(0, c:get())
        c:add(1)
      end)]] })
    for _ = 1, 2 do
      assert.equal(0, process.run({ "test", folder .. "/one_spec.lua" }).code)
    end
    process.cleanup()
  end)
end)
