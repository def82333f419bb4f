-- Tables that handlers return: the C encoder of small replies writes what P.json.encode writes,
-- and leaves to it what it does not take.

local P = require("perilune")
local test = require("perilune.test")

local VALUES = {
  ["an object"] = { a = 1, b = "two", c = true, d = false, e = 1.5 },
  ["an array"] = { 1, 2, 3, "four", { 5 } },
  ["an empty object"] = {},
  ["an empty array"] = P.json.array({}),
  ["null"] = { gone = P.json.null, list = { P.json.null, 1 } },
  ["text that is escaped"] = { text = 'quote " backslash \\ newline \n tab \t NUL \0 é €' },
  ["numbers"] = { 0, -0.1, 1e21, 2 ^ 53, -2 ^ 53, 1 / 3, 12345678901234567 },
  ["nested containers"] = { a = { b = { c = { {}, P.json.array({}), { d = 1 } } } } },
  ["64-bit integers, which it leaves to Lua"] = { big = 2 ^ 62 * 2LL, u = 18446744073709551615ULL },
  ["a table with a metatable, which it leaves to Lua"] = setmetatable({ a = 1 }, {}),
  ["40 tables in each other, which it leaves to Lua"] = (function()
    local t = { leaf = true }
    for _ = 1, 40 do
      t = { inner = t }
    end
    return t
  end)(),
  ["a document of 200 KB, which it leaves to Lua"] = (function()
    local t = {}
    for i = 1, 2000 do
      t[i] = ("x"):rep(100)
    end
    return t
  end)(),
}

local REFUSED = {
  ["a gap"] = { 1, nil, 3 },
  ["keys of both kinds"] = { 1, 2, name = 3 },
  ["a function"] = { f = print },
  ["NaN"] = { n = 0 / 0 },
  ["invalid UTF-8"] = { s = "\255" },
  ["an invalid name"] = { ["\255"] = 1 },
}

describe("a table as an answer", function()
  local app = P.app()
  app:get("/value", function(c)
    return VALUES[c:query("name")]
  end)
  app:get("/refused", function(c)
    return REFUSED[c:query("name")]
  end)
  app:get("/typed", function()
    return { ok = true }, 201, { ["content-type"] = "application/vnd.api+json" }
  end)
  local api = test.app(app)

  for name, value in pairs(VALUES) do
    it("is encoded as P.json.encode encodes " .. name, function()
      local r = api:get("/value", { query = { name = name } })
      assert.equal(200, r.status)
      assert.equal("application/json", r.headers["content-type"])
      assert.equal(P.json.encode(value), r.body)
    end)
  end

  for name in pairs(REFUSED) do
    it("is a 500 problem when it holds " .. name, function()
      local r = api:get("/refused", { query = { name = name }, allow_error = true })
      assert.equal(500, r.status)
      assert.equal("application/problem+json", r.headers["content-type"])
    end)
  end

  it("keeps the status and the media type that the handler has set", function()
    local r = api:get("/typed")
    assert.equal(201, r.status)
    assert.equal("application/vnd.api+json", r.headers["content-type"])
    assert.equal('{"ok":true}', r.body)
  end)

  it("has a head and no body for HEAD", function()
    local r = api:head("/value", { query = { name = "an object" } })
    assert.equal(200, r.status)
    assert.equal("", r.body)
    assert.equal(tostring(#P.json.encode(VALUES["an object"])), r.headers["content-length"])
  end)
end)
