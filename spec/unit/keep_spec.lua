--- P.keep alone: what is handed from one generation to the next.

local buffer = require("string.buffer")

--- A module of its own, as each generation has.
local function generation()
  package.loaded["perilune.keep"] = nil
  local keep = require("perilune.keep")
  package.loaded["perilune.keep"] = nil
  return keep
end

local function init()
  return { n = 0 }
end

local function after(keep, text)
  local next_one = generation()
  next_one.offer(text or keep.save({}))
  return next_one
end

describe("P.keep", function()
  local own

  setup(function() own = package.loaded["perilune.keep"] end)
  teardown(function() package.loaded["perilune.keep"] = own end)

  it("begins with what init makes", function()
    assert.same({ n = 0 }, generation().keep("a", 1, init))
  end)

  it("hands a table over, whole", function()
    local keep = generation()
    local value = keep.keep("a", 1, init)
    value.n, value.list, value.deep = 7, { 1, "two", true }, { a = { b = { c = 1.5 } } }
    assert.same(value, after(keep).keep("a", 1, init))
  end)

  it("hands over once more, into the table that the app holds already", function()
    local keep = generation()
    local value = keep.keep("a", 1, init)
    value.old = true
    local later = after(keep)
    local mine = later.keep("a", 1, init)
    value.n, value.old = 9, nil
    assert.same({}, later.adopt(keep.save({})))
    assert.same({ n = 9 }, mine)
  end)

  it("carries the clocks of timers", function()
    local keep = generation()
    local clocks = { tick = { seconds = 10, left = 3 } }
    assert.same(clocks, generation().adopt(keep.save(clocks)))
    assert.equal("", keep.save({}))
  end)

  it("migrates, with the version that was there", function()
    local keep = generation()
    keep.keep("a", 1, init).n = 5
    local value = after(keep).keep("a", 3, init, function(old, version)
      return { sum = old.n, from = version }
    end)
    assert.same({ sum = 5, from = 1 }, value)
  end)

  it("refuses another version without migrate, also an older one", function()
    local keep = generation()
    keep.keep("a", 2, init)
    for _, version in ipairs({ 1, 3 }) do
      local ok, err = pcall(after(keep).keep, "a", version, init)
      assert.is_false(ok)
      assert.matches("P.keep%(\"a\"%): what is kept has version 2, the code has version "
        .. version, err)
    end
  end)

  it("names the place of what cannot be kept", function()
    local keep = generation()
    local value = keep.keep("a", 1, init)
    value.list = { 1, { f = print } }
    local _, err = pcall(keep.save, {})
    assert.matches("P.keep%(\"a\"%): .list%[2%].f is a function, which cannot be kept", err)
    value.list = nil
    value.self = value
    _, err = pcall(keep.save, {})
    assert.matches(".self is a table that is in itself", err)
  end)

  it("takes tables only, names once, and says what it wants", function()
    local keep = generation()
    assert.has_error(function() keep.keep("a", 1, function() return 7 end) end,
      'P.keep("a"): init returned a number; what is kept is a table')
    keep.keep("b", 1, init)
    for _, case in ipairs({
      { "P.keep%(\"b\"%) is called twice", "b", 1, init },
      { "begins with a name", 1, 1, init },
      { "takes a version, a number", "c", "1", init },
      { "takes a function that makes the first value", "c", 1, {} },
      { "the last argument of P.keep is a function", "c", 1, init, 7 },
    }) do
      local ok, err = pcall(keep.keep, unpack(case, 2, 5))
      assert.is_false(ok)
      assert.matches(case[1], err)
    end
  end)

  it("begins anew with each app that specs load", function()
    local keep = generation()
    keep.keep("a", 1, init)
    keep.begin_loading()
    assert.same({ n = 0 }, keep.keep("a", 1, init))
  end)

  it("keeps nothing of what the code does not ask for any more", function()
    local keep = generation()
    keep.keep("a", 1, init)
    local later = after(keep)
    later.keep("b", 1, init)
    local saved = buffer.decode(later.save({}))
    assert.is_nil(saved.kept.a)
    assert.is_table(saved.kept.b)
  end)
end)
