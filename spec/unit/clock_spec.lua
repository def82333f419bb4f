local P = require("perilune")
local test = require("perilune.test")

local function compute(seconds)
  local due = os.clock() + seconds
  repeat until os.clock() >= due
end

describe("P.monotonic", function()
  it("goes on while a handler computes, although P.now stands still", function()
    P.atomic(function() -- or the tick might come in between
      local start, now = P.monotonic(), P.now()
      compute(0.02)
      assert.is_true(P.monotonic() - start >= 0.018)
      assert.equal(now, P.now())
    end)
  end)

  it("never goes back", function()
    local last = P.monotonic()
    for _ = 1, 1000 do
      local time = P.monotonic()
      assert.is_true(time >= last)
      last = time
    end
  end)

  it("follows the time that a spec moves", function()
    local start = P.monotonic()
    test.app(P.app()):advance("1h")
    local passed = P.monotonic() - start
    assert.is_true(passed >= 3600 and passed < 3610)
  end)
end)

describe("P.sleep", function()
  it("begins when it is called, also behind a computation", function()
    compute(0.03)
    local start = P.monotonic()
    P.sleep(0.02)
    assert.is_true(P.monotonic() - start >= 0.018)
  end)
end)

describe("c:time_left", function()
  it("shrinks while the handler computes", function()
    local app, before, behind = P.app(), nil, nil
    app:get("/", { timeout = "2s" }, function(c)
      before = c:time_left()
      compute(0.02)
      behind = c:time_left()
    end)
    test.app(app):get("/")
    assert.is_true(before - behind >= 0.018)
  end)
end)
