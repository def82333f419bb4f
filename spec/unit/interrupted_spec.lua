-- What several coroutines use at the same time stays whole although each is interrupted anywhere.

local P = require("perilune")
local clock = require("perilune.clock")
local posix = require("spec.support.posix")
local test = require("perilune.test")

local COMPUTE_S = 0.15 -- some slices

--- Runs `fn` in so many tasks side by side; what each returned.
local function side_by_side(count, fn, ...)
  local calls = {}
  for i = 1, count do
    calls[i] = { fn, ... }
  end
  return { P.all(calls) }
end

local function until_over(fn)
  local due = os.clock() + COMPUTE_S
  repeat
    fn()
  until os.clock() >= due
end

--- How far P.monotonic is ahead of the kernel's clock.
local function drift()
  while true do
    local before = posix.now()
    local time = P.monotonic()
    if posix.now() - before < 0.001 then -- nobody has come between
      return time - before
    end
  end
end

describe("P.monotonic", function()
  it("keeps the kernel's time although ticks come while it is read", function()
    local before = drift()
    side_by_side(3, until_over, P.monotonic)
    local after = drift()
    assert.is_true(math.abs(after - before) < 0.002, after - before)
  end)

  it("is never behind the tick", function()
    local least = 0
    side_by_side(3, until_over, function()
      least = math.min(least, clock.since_tick())
    end)
    assert.equal(0, least)
  end)
end)

describe("P.json.encode", function()
  local value = {}
  for i = 1, 10000 do
    value[i] = { i, "text " .. i, { i % 2 == 0 } }
  end
  local text = P.json.encode(value)

  it("takes turns with others that encode", function()
    for _, result in ipairs(side_by_side(4, P.json.encode, value)) do
      assert.is_true(result == text)
    end
  end)

  it("is fit after a deadline has ended it in its midst", function()
    local app = P.app()
    app:get("/", { timeout = "50ms" }, function()
      while true do
        P.json.encode(value)
      end
    end)
    local api = test.app(app)
    for _ = 1, 3 do
      assert.equal(503, api:get("/", { allow_error = true }).status)
      assert.is_true(P.json.encode(value) == text)
    end
  end)
end)

describe("the context of a request", function()
  it("is shared by its tasks: none loses data or deferred calls of another", function()
    local app, made = P.app(), 0
    local function count()
      made = made + 1 -- deferred calls run one after the other
    end
    app:get("/", function(c)
      side_by_side(4, function()
        local own = {}
        until_over(function()
          c:defer(count)
          own[#own + 1] = true
          for _ = 1, 10000 do end -- or they would be too many to keep
        end)
        c.data[own] = #own
      end)
      local owed = 0
      for _, own in pairs(c.data) do
        owed = owed + own
      end
      return { owed = owed }
    end)
    local owed = test.app(app):get("/"):json().owed
    assert.is_true(owed > 0)
    for _ = 1, 500 do -- they run behind the answer
      if made == owed then
        break
      end
      P.sleep(0.01)
    end
    assert.equal(owed, made)
  end)
end)

describe("perilune.test", function()
  it("keeps every error of handlers that fail at the same time", function()
    local app = P.app()
    app:get("/", function()
      until_over(function() end)
      error("wanted")
    end)
    local api, wires = test.app(app), {}
    for i = 1, 8 do
      wires[i] = api:connect()
      wires[i]:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    end
    for _, wire in ipairs(wires) do
      assert.equal(500, wire:response("GET").status)
      wire:close()
    end
    assert.equal(8, #api:errors())
  end)
end)
