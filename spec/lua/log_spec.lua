-- What P.log refuses, and that it compiles.

local P = require("perilune")

describe("P.log", function()
  for _, level in ipairs({ "debug", "info", "warn", "error" }) do
    it(level .. " refuses a message that is no string", function()
      for _, message in ipairs({ 1, true, {} }) do
        assert.error_matches(function() P.log[level](message) end,
          "P.log." .. level .. " takes a message, a string")
      end
    end)

    it(level .. " refuses fields that are neither a table nor begin with a name", function()
      for _, fields in ipairs({ 1, true, print }) do
        assert.error_matches(function() P.log[level]("message", fields) end,
          "the fields of P.log." .. level .. " are a table, or names and values")
      end
    end)
  end

  it("refuses names that are no strings, wherever they stand", function()
    local args = { "a", 1, "b", 2, "c", 3, "d", 4, "e", 5, "f", 6, "g", 7, "h", 8 }
    for at = 3, #args, 2 do
      local bad = { unpack(args) }
      bad[at] = 12
      assert.error_matches(function() P.log.error("message", unpack(bad)) end,
        "P.log.error takes names, which are strings, and values in turn")
    end
  end)

  it("blames the line that calls it", function()
    local _, err = pcall(function() P.log.info("message", 1) end)
    assert.matches("log_spec.lua:%d+: the fields", err)
    _, err = pcall(function() P.log.error("message", "a", 1, 2, 3) end)
    assert.matches("log_spec.lua:%d+: P.log.error takes names", err)
    _, err = pcall(function()
      P.log.error("message", "a", 1, "b", 2, "c", 3, "d", 4, "e", 5, "f", 6, "g", 7, 8)
    end)
    assert.matches("log_spec.lua:%d+: P.log.error takes names", err)
  end)

  it("gives up no trace of those that log", function()
    local util = require("jit.util")
    local aborts = {}
    local function on_trace(what, _, func, pc)
      if what == "abort" then
        local place = util.funcinfo(func, pc).loc or "?"
        if place:find("log", 1, true) then
          aborts[#aborts + 1] = place
        end
      end
    end
    local function by_pairs(i)
      P.log.debug("compiled", "a", i, "b", true, "c", "text", "d", 0.5, "e", i)
    end
    jit.attach(on_trace, "trace")
    for i = 1, 300 do
      by_pairs(i)
    end
    jit.attach(on_trace)
    assert.same({}, aborts)
  end)
end)
