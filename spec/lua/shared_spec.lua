-- P.shared and P.config inside one VM. Several workers: spec/system/shared_spec.lua.

local P = require("perilune")
local test = require("perilune.test")

local serial = 0
local function new_dict(capacity)
  serial = serial + 1
  return P.shared.dict("spec " .. serial, { capacity = capacity or "128K" })
end

local function fails(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return err
end

describe("a dictionary", function()
  it("gives back strings, numbers, booleans and tables", function()
    local d = new_dict()
    for _, value in ipairs({ "text", "", "a\0b", 1, -0.5, 2 ^ 53, 1 / 0, true, false }) do
      assert.is_true(d:set("k", value))
      assert.equal(value, d:get("k"))
    end
    local t = { 1, 2, { x = "y", [3] = false }, name = "t" }
    d:set("k", t)
    assert.same(t, d:get("k"))
    assert.are_not.equal(t, d:get("k"))
    d:set("k", 0 / 0)
    assert.are_not.equal(d:get("k"), d:get("k"))
  end)

  it("knows nothing of a key that was not set, was deleted or was set to nil", function()
    local d = new_dict()
    assert.is_nil(d:get("k"))
    d:set("k", 1)
    assert.is_true(d:delete("k"))
    assert.is_false(d:delete("k"))
    assert.is_nil(d:get("k"))
    d:set("k", 1)
    assert.is_true(d:set("k", nil))
    assert.is_nil(d:get("k"))
  end)

  it("takes large values, and keys of any bytes", function()
    local d = new_dict("8M")
    for _, bytes in ipairs({ 16383, 16384, 16385, 100000, 2 ^ 20 }) do
      local value = ("x"):rep(bytes - 1) .. "y"
      assert.is_true(d:set("\0\255" .. bytes, value))
      assert.is_true(d:get("\0\255" .. bytes) == value)
    end
  end)

  it("reads the same before and after a collection", function()
    local d, value = new_dict("1M"), ("v"):rep(2000)
    for i = 1, 200 do
      d:set("k" .. i, value .. i)
      collectgarbage()
      local others = {} -- what would lie where the buffer was
      for j = 1, 50 do
        others[j] = ("%d "):format(j):rep(3000)
      end
      assert.equal(value .. i, d:get("k" .. i))
      assert.equal(50, #others)
    end
  end)

  it("refuses as values what can happen", function()
    local d = new_dict()
    assert.same({ nil, "the key is too long" }, { d:set(("k"):rep(1025), 1) })
    assert.same({ nil, "the value is too large" }, { d:set("k", ("v"):rep(2 ^ 20 + 1)) })
    assert.same({ nil, "the value is too large" }, { d:set("k", ("v"):rep(2 ^ 16)) })
    assert.same({ nil, "the key is too long" }, { d:add(("k"):rep(1025), 1) })
    assert.same({ nil, "the key is too long" }, { d:delete(("k"):rep(1025)) })
    assert.is_nil(d:get(("k"):rep(1025)))
    d:set("s", "text")
    assert.same({ nil, "not a number" }, { d:incr("s") })
    assert.same({ nil, "not found" }, { d:incr("none") })
  end)

  it("raises for what is wrong use", function()
    local d = new_dict()
    assert.matches("shared_spec.lua:%d+: dict:get: the key is a string", fails(function()
      local value = d:get(1)
      return value
    end))
    assert.matches("dict:set: the key is a string", fails(d.set, d, nil, 1))
    assert.matches("a function cannot be stored", fails(d.set, d, "k", print))
    assert.matches("the ttl is", fails(d.set, d, "k", 1, "soon"))
    assert.matches("the ttl is", fails(d.set, d, "k", 1, -1))
    assert.matches("dict:incr adds numbers", fails(d.incr, d, "k", "1"))
    assert.matches("cannot compare tables", fails(d.cas, d, "k", {}, 1))
    assert.has_error(function() d:set("k", { print }) end)
    assert.has_error(function() P.shared.dict("") end)
    assert.has_error(function() P.shared.dict(1) end)
    assert.has_error(function() P.shared.dict(("n"):rep(64)) end)
    assert.has_error(function() P.shared.dict("other", { capacity = "much" }) end)
    assert.matches("at least 64K", fails(P.shared.dict, "other", { capacity = "1K" }))
    assert.matches("no room for 1024M", fails(P.shared.dict, "other", { capacity = "1G" }))
  end)

  it("adds what is not there", function()
    local d = new_dict()
    assert.is_true(d:add("k", "first"))
    assert.same({ false, "exists" }, { d:add("k", "second") })
    assert.equal("first", d:get("k"))
  end)

  it("increments numbers", function()
    local d = new_dict()
    assert.equal(11, d:incr("n", 1, 10))
    assert.equal(12, d:incr("n"))
    assert.equal(9.5, d:incr("n", -2.5, 10))
    assert.equal(9.5, d:get("n"))
    d:set("n", 2 ^ 53 - 1)
    assert.equal(2 ^ 53, d:incr("n"))
    d:set("n", 1 / 0)
    local sum, err = d:incr("n", -1 / 0)
    assert.is_true(sum ~= sum and err == nil)
  end)

  it("compares and sets", function()
    local d = new_dict()
    assert.same({ false, "differs" }, { d:cas("k", "a", "b") })
    assert.is_true(d:cas("k", nil, "a"))
    assert.is_false((d:cas("k", nil, "b")))
    assert.is_true(d:cas("k", "a", 7))
    assert.is_false((d:cas("k", 8, 9)))
    assert.is_true(d:cas("k", 7, true))
    assert.is_false((d:cas("k", 1, false)))
    assert.is_true(d:cas("k", true, { 1 }))
    assert.same({ 1 }, d:get("k"))
  end)

  it("forgets what has expired", function()
    local d = new_dict()
    local api = test.app(P.app())
    d:set("short", 1, 10)
    d:set("text", 2, "1m")
    d:set("long", 3, 0)
    d:add("added", 4, 10)
    d:incr("n", 1, 0, 10)
    assert.equal(1, d:get("short"))
    api:advance(9)
    assert.equal(2, d:incr("n", 1, 0, 1000))
    api:advance(1.1)
    assert.is_nil(d:get("short"))
    assert.is_nil(d:get("added"))
    assert.is_nil(d:get("n"))
    assert.equal(2, d:get("text"))
    assert.is_true(d:add("short", "again"))
    api:advance(50)
    assert.is_nil(d:get("text"))
    assert.equal(3, d:get("long"))
  end)

  it("lists its keys, all or some", function()
    local d, wanted = new_dict("1M"), {}
    for i = 1, 500 do
      wanted[i] = ("key %03d"):format(i)
      d:set(wanted[i], i)
    end
    local keys = d:keys()
    table.sort(keys)
    assert.same(wanted, keys)
    assert.equal(10, #d:keys(10))
    assert.same({}, d:keys(0))
  end)

  it("is empty after clear", function()
    local d = new_dict("1M")
    for i = 1, 500 do
      d:set("key " .. i, ("v"):rep(i))
    end
    assert.is_true(d:clear())
    assert.same({}, d:keys())
    assert.equal(0, d:stats().entries)
    assert.equal(0, d:stats().bytes)
  end)

  it("makes room by evicting what was not read", function()
    local d = new_dict("128K")
    d:set("hot", "kept")
    for i = 1, 5000 do
      assert.is_true(d:set("key " .. i, ("v"):rep(50)))
      assert.equal("kept", d:get("hot"))
    end
    local stats = d:stats()
    assert.is_true(stats.evictions > 3000 and stats.entries < 1000)
    assert.is_true(stats.bytes <= stats.capacity)
  end)

  it("tells its figures", function()
    local d = new_dict("256K")
    d:set("k", 1)
    d:get("k")
    d:get("k")
    d:get("none")
    assert.same({
      capacity = 262144, bytes = 128, entries = 1, hits = 2, misses = 1, evictions = 0, expired = 0,
    }, d:stats())
    assert.equal(262144, d:capacity())
  end)

  it("is the same for the same name, and keeps its capacity", function()
    local d = new_dict("256K")
    d:set("k", 1)
    assert.equal(d, P.shared.dict(d.name))
    assert.equal(262144, P.shared.dict(d.name, { capacity = "1M" }):capacity())
  end)

  it("gives each handler its own value while all are preempted", function()
    local d, app = new_dict("1M"), P.app()
    for i = 1, 20 do
      d:set("key " .. i, ("%02d"):format(i):rep(i * 100))
    end
    app:get("/:i<int>", function(_, i)
      local wanted, key = ("%02d"):format(i):rep(i * 100), "key " .. i
      for _ = 1, 20000 do
        if d:get(key) ~= wanted then
          return "wrong"
        end
      end
      return "right"
    end)
    local api = test.app(app)
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = P.detach("get", function() return api:get("/" .. i).body end)
    end
    for i = 1, 20 do
      assert.same({ "right" }, { tasks[i]:wait() })
    end
  end)
end)

describe("a counter", function()
  it("adds, gets and sets whole numbers", function()
    local c = P.shared.counter("spec")
    c:set(0)
    assert.equal(1, c:add())
    assert.equal(6, c:add(5))
    assert.equal(-4, c:add(-10))
    assert.equal(-4, c:get())
    c:set(2 ^ 52)
    assert.equal(2 ^ 52 + 1, c:add(1))
    assert.equal(c, P.shared.counter("spec"))
  end)

  it("refuses what is no whole number, and no name", function()
    local c = P.shared.counter("spec")
    assert.matches("counter:add takes a whole number", fails(c.add, c, 0.5))
    assert.matches("counter:set takes a whole number", fails(c.set, c, 2 ^ 60))
    assert.has_error(function() c:add("1x") end)
    assert.has_error(function() P.shared.counter("") end)
  end)
end)

describe("P.config", function()
  it("gives what was published last, decoded once", function()
    local first = P.config.version()
    if first == 0 then
      assert.is_nil(P.config.get())
    end
    local version = assert(P.config.publish({ limit = 5, names = { "a", "b" } }))
    assert.equal(first + 1, version)
    assert.equal(version, P.config.version())
    assert.same({ limit = 5, names = { "a", "b" } }, P.config.get())
    assert.equal(P.config.get(), P.config.get())
    P.config.publish({ limit = 6 })
    assert.equal(6, P.config.get().limit)
  end)

  it("refuses what is too large or no table", function()
    local version = P.config.version()
    assert.same({ nil, "the configuration is too large" },
      { P.config.publish({ ("x"):rep(262144) }) })
    assert.matches("takes a table", fails(P.config.publish, "text"))
    assert.equal(version, P.config.version())
  end)
end)
