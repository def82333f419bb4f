--- P.keep alone: what is handed from one generation to the next.

local buffer = require("string.buffer")
local ffi = require("ffi")

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

  for what, case in pairs({
    ["a function among keys"] = { { [print] = 1 }, ".x is a table with a key that is a function" },
    ["a table among keys"] = { { [{}] = 1 }, ".x is a table with a key that is a table" },
    ["a coroutine"] = { coroutine.create(print), ".x is a thread" },
    ["userdata"] = { newproxy(), ".x is a userdata" },
    ["a struct of C"] = { { ffi.new("int[3]") }, ".x%[1%] is a cdata" },
    ["a pointer of C"] = { ffi.cast("void *", 8), ".x is a cdata" },
  }) do
    it("names the place of " .. what, function()
      local keep = generation()
      keep.keep("a", 1, init).x = case[1]
      local ok, err = pcall(keep.save, {})
      assert.is_false(ok)
      assert.matches('^P.keep%("a"%): ' .. case[2] .. ", which cannot be kept$", err)
    end)
  end

  it("names the place where tables lie in too many others", function()
    local function save(levels)
      local keep = generation()
      local at = keep.keep("a", 1, init)
      for _ = 2, levels do
        at.t = {}
        at = at.t
      end
      return pcall(keep.save, {})
    end
    assert.is_true(save(90))
    for _, levels in ipairs({ 91, 150, 1e5 }) do
      local ok, err = save(levels)
      assert.is_false(ok)
      assert.matches('^P.keep%("a"%): [.t]+ is a table within 90 others, which cannot be', err)
    end
  end)

  it("keeps whatever has no place outside", function()
    local keep = generation()
    local value = keep.keep("a", 1, init)
    value.list = { 1, -0.5, 1e300, "\0\255", "", true, false }
    value[true], value[2.5], value[7] = "boolean", "number", "index"
    value.long = 9007199254740993LL
    assert.same(value, after(keep).keep("a", 1, init))
    assert.equal(9007199254740993LL, after(keep).keep("a", 1, init).long)
  end)

  it("makes two of a table that lies in two places", function()
    local keep = generation()
    local value, shared = keep.keep("a", 1, init), { 1 }
    value.one, value.two = shared, shared
    local later = after(keep).keep("a", 1, init)
    assert.same(value, later)
    assert.not_equal(later.one, later.two)
  end)

  it("hands over what init has made, without calling it again", function()
    local keep = generation()
    keep.keep("a", 1, function() return { n = 42 } end)
    assert.same({ n = 42 }, after(keep).keep("a", 1, function() error("again") end))
  end)

  it("changes nothing that was offered when the one before goes on", function()
    local keep = generation()
    local value = keep.keep("a", 1, init)
    local later = after(keep).keep("a", 1, init)
    value.n = 1
    assert.same({ n = 0 }, later)
    later.n = 2
    assert.same({ n = 1 }, value)
  end)

  it("leaves all tables as they are when one cannot be migrated", function()
    local function made(migrate)
      local keep = generation()
      keep.offer("")
      return keep, keep.keep("a", 1, init), keep.keep("b", 2, init, migrate)
    end
    local keep = generation()
    keep.keep("a", 1, init).n = 5
    keep.keep("b", 1, init).n = 6
    local later, a, b = made(function() error("no way", 0) end)
    assert.has_error(function() later.adopt(keep.save({})) end, "no way")
    assert.same({ { n = 0 }, { n = 0 } }, { a, b })
    later = made(function() return 7 end)
    assert.has_error(function() later.adopt(keep.save({})) end,
      'P.keep("b"): migrate returned a number; what is kept is a table')
  end)

  it("migrates once more, into the same table", function()
    local keep = generation()
    local value = keep.keep("a", 1, init)
    local later = after(keep)
    local mine = later.keep("a", 2, init, function(old) return { sum = old.n } end)
    value.n = 8
    later.adopt(keep.save({}))
    assert.same({ sum = 8 }, mine)
  end)

  it("takes over nothing that the code does not ask for", function()
    local keep = generation()
    keep.keep("a", 1, init)
    local later = after(keep)
    local mine = later.keep("b", 1, init)
    later.adopt(keep.save({}))
    assert.same({ n = 0 }, mine)
    assert.is_nil(buffer.decode(later.save({})).kept.a)
  end)

  it("forgets what was offered once it has taken over", function()
    local keep = generation()
    keep.keep("a", 1, init).n = 5
    local later = after(keep)
    later.adopt(keep.save({}))
    assert.same({ n = 0 }, later.keep("a", 1, init))
  end)

  it("offers nothing when nothing was kept", function()
    local keep = generation()
    keep.offer(nil)
    keep.offer("")
    assert.same({ n = 0 }, keep.keep("a", 1, init))
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
