local compilation = require("perilune.compilation")
local json = require("perilune.json")
local vmdef = require("jit.vmdef")

describe("perilune.compilation", function()
  describe(".advise", function()
    it("knows every reason that this LuaJIT has", function()
      for code = 0, #vmdef.traceerr do
        local reason = vmdef.traceerr[code]:gsub("%%[sd]", "X")
        local advice = compilation.advise(reason)
        assert.is_nil(advice.text:find("does not know", 1, true), reason)
        assert.is_true(#advice.text > 20, reason)
      end
    end)

    it("tells what is harmless from what is not", function()
      assert.equal("harmless", compilation.advise("leaving loop in root trace").weight)
      assert.equal("costly", compilation.advise("NYI: bytecode FNEW").weight)
      assert.equal("costly", compilation.advise("blacklisted").weight)
    end)

    it("has a word for the bytecodes that people meet", function()
      assert.matches("closure", compilation.advise("NYI: bytecode FNEW").text)
      assert.matches("pairs", compilation.advise("NYI: bytecode ITERN").text)
      assert.matches("Move it out", compilation.advise("NYI: bytecode XYZ").text)
    end)

    it("admits what it does not know", function()
      assert.matches("does not know", compilation.advise("something new").text)
    end)
  end)

  local FACTS = json.encode({ traces = 12, aborts = 3, flushes = 1, code_bytes = 4096, lost = 0,
    left_out = 2, list = json.array({
      { reason = "NYI: bytecode FNEW", at = "app.lua:4", from = "app.lua:3", route = "GET /",
        count = 22, workers = 2, blacklisted = "loop" },
      { reason = "leaving loop in root trace", at = "app.lua:9", from = "app.lua:9",
        route = json.null, count = 1, workers = 1, blacklisted = json.null },
    }) })
  local SHARES = json.encode({ routes = json.array({
    { route = "GET /", compiled = 75, interpreted = 20, c = 4,
      collector = 1, compiler = 0, samples = 100 } }) })

  it("puts places, reasons and advice together", function()
    local report = compilation.report(FACTS)
    assert.equal("costly", report.list[1].weight)
    assert.matches("begins at app.lua:3 was given up for good.*closure", report.list[1].advice)
    assert.equal("harmless", report.list[2].weight)
    assert.is_nil(report.list[2].route)
    assert.is_nil(report.shares)
  end)

  it("prints them", function()
    local text = compilation.text(compilation.report(FACTS, SHARES), false)
    assert.matches("^12 traces compiled, 3 given up, 1 flushes, 4 KiB", text)
    assert.matches("GET / +75%.0 %% +20%.0 %% +4%.0 %% +1%.0 %% +100", text)
    assert.matches("BLACKLISTED loop  app%.lua:4: NYI: bytecode FNEW  %(22 times, GET /%)", text)
    assert.matches("the trace began at app%.lua:3", text)
    assert.matches("harmless  app%.lua:9: leaving loop in root trace  %(1 times%)", text)
    assert.matches("2 kinds more are not shown", text)
    assert.is_nil(text:find("\27", 1, true))
    assert.is_truthy(compilation.text(compilation.report(FACTS), true):find("\27[31m", 1, true))
  end)

  it("says so when nothing was given up, and when shares are not known", function()
    local text = compilation.text(compilation.report(json.encode({ traces = 0, aborts = 0,
      flushes = 0, code_bytes = 0, lost = 0, left_out = 0, list = json.array({}) })), false)
    assert.matches("Nothing was given up so far", text)
    assert.matches("not available", text)
  end)
end)
