local units = require("perilune.units")

describe("perilune.units", function()
  it("reads durations as seconds", function()
    for text, seconds in pairs({ ["250ms"] = 0.25, ["5s"] = 5, ["1m"] = 60, ["2h"] = 7200,
      ["1d"] = 86400, ["7"] = 7, ["1.5s"] = 1.5 }) do
      assert.equal(seconds, units.seconds(text))
    end
    assert.equal(3, units.seconds(3))
  end)

  it("reads sizes as whole bytes", function()
    for text, bytes in pairs({ ["64K"] = 65536, ["10M"] = 10485760, ["1G"] = 1073741824,
      ["12"] = 12, ["5B"] = 5, ["1.5K"] = 1536 }) do
      assert.equal(bytes, units.bytes(text))
    end
    assert.equal(3, units.bytes(3.7))
  end)

  it("gives nil for what is neither", function()
    for _, bad in ipairs({ "", "s", "5x", "-1s", "1s ", "1e3", "0x10", -1, math.huge, true, {} }) do
      assert.is_nil(units.seconds(bad))
      assert.is_nil(units.bytes(bad))
    end
    assert.is_nil(units.seconds(0 / 0))
    assert.is_nil(units.bytes("5ms"))
  end)
end)
