local P = require("perilune")
local test = require("perilune.test")

local function api_of(build)
  local app = P.app()
  build(app)
  return test.app(app)
end

describe("routes", function()
  it("hand typed parameters to the handler as values", function()
    local api = api_of(function(app)
      app:get("/int/:n<int>", function(_, n) return type(n) .. " " .. n end)
      app:get("/text/:s", function(_, s) return type(s) .. " " .. s end)
      app:get("/files/*path", function(_, path) return path end)
      app:get("/two/:a/:b<int>", function(_, a, b) return a .. ":" .. (b + 1) end)
    end)
    assert.equal("number 42", api:get("/int/42").body)
    assert.equal("string a b", api:get("/text/a%20b").body)
    assert.equal("x/y.txt", api:get("/files/x/y.txt").body)
    assert.equal("k:8", api:get("/two/k/7").body)
    assert.equal(404, api:get("/int/4x").status)
  end)

  it("prefer static segments to parameters, and those to wildcards", function()
    local api = api_of(function(app)
      app:get("/a/*rest", function() return "wildcard" end)
      app:get("/a/:p", function() return "parameter" end)
      app:get("/a/:p<int>", function() return "int" end)
      app:get("/a/b", function() return "static" end)
    end)
    assert.equal("static", api:get("/a/b").body)
    assert.equal("int", api:get("/a/5").body)
    assert.equal("parameter", api:get("/a/c").body)
    assert.equal("wildcard", api:get("/a/c/d").body)
  end)

  it("serve every method, and several at once", function()
    local api = api_of(function(app)
      for _, method in ipairs({ "get", "post", "put", "patch", "delete" }) do
        app[method](app, "/" .. method, function(c) return c.method end)
      end
      app:any("/any", function(c) return c.method end)
      app:route({ "GET", "post" }, "/both", function(c) return c.method end)
    end)
    for _, method in ipairs({ "get", "post", "put", "patch", "delete" }) do
      assert.equal(method:upper(), api[method](api, "/" .. method).body)
      assert.equal(method:upper(), api[method](api, "/any").body)
    end
    assert.equal("GET", api:get("/both").body)
    assert.equal("POST", api:post("/both").body)
    assert.equal(405, api:put("/both").status)
  end)

  it("answer HEAD from GET without the body", function()
    local api = api_of(function(app)
      app:get("/", function(c) return c.method end)
    end)
    local r = api:head("/")
    assert.equal(200, r.status)
    assert.equal("", r.body)
    assert.equal("4", r.headers["content-length"])
  end)

  it("answer OPTIONS and 405 with Allow", function()
    local api = api_of(function(app)
      app:get("/x", function() return "" end)
      app:post("/x", function() return "" end)
    end)
    local options, wrong = api:options("/x"), api:delete("/x")
    assert.equal(204, options.status)
    assert.equal("GET, HEAD, OPTIONS, POST", options.headers.allow)
    assert.equal(405, wrong.status)
    assert.equal("GET, HEAD, OPTIONS, POST", wrong.headers.allow)
    assert.equal("application/problem+json", wrong.headers["content-type"])
  end)

  it("know their pattern and their parameters by name", function()
    local api = api_of(function(app)
      app:get("/n/:id<int>/:name", function(c)
        return { c.route, c:param("id"), c:param("name"), c:param("none") == nil }
      end)
    end)
    assert.same({ "/n/:id<int>/:name", 7, "x", true }, api:get("/n/7/x"):json())
  end)
end)

describe("groups and mounts", function()
  it("put a prefix before their routes, and nest", function()
    local api = api_of(function(app)
      local v1 = app:group("/v1")
      v1:get("/", function() return "v1" end)
      v1:group("/deep"):get("/x", function(c) return c.route end)
    end)
    assert.equal("v1", api:get("/v1").body)
    assert.equal("/v1/deep/x", api:get("/v1/deep/x").body)
  end)

  it("run their middleware for their routes only, the outermost first", function()
    local api = api_of(function(app)
      local function mark(name)
        return function(c, next)
          c:add("x-order", name)
          return next(c)
        end
      end
      local group = app:group("/g", mark("2"))
      group:get("/x", mark("4"), function() return "x" end)
      group:use(mark("3"))
      app:get("/y", function() return "y" end)
      app:use(mark("1"))
    end)
    assert.equal("1, 2, 3, 4", api:get("/g/x").headers["x-order"])
    assert.equal("1", api:get("/y").headers["x-order"])
  end)

  it("bring a mounted app's own errors, not_found and middleware", function()
    local inner = P.app()
    inner:use(function(c, next) c:set("x-inner", "1") return next(c) end)
    inner:get("/x", function() return "inner" end)
    inner:get("/err", function() error("inner boom") end)
    inner:on_error(function() return "inner error", 500 end)
    inner:not_found(function() return "inner missing", 404 end)
    local api = api_of(function(app)
      app:mount("/in", inner)
      app:get("/err", function() error("outer boom") end)
    end)
    assert.equal("inner", api:get("/in/x").body)
    assert.equal("1", api:get("/in/x").headers["x-inner"])
    assert.equal("inner error", api:get("/in/err", { allow_error = true }).body)
    assert.equal("inner missing", api:get("/in/nothing").body)
    assert.equal("application/problem+json",
      api:get("/err", { allow_error = true }).headers["content-type"])
    assert.equal("application/problem+json", api:get("/nothing").headers["content-type"])
  end)
end)

describe("registration", function()
  local function message(fn)
    local ok, err = pcall(fn)
    assert.is_false(ok)
    return err
  end

  it("names both places of equal patterns", function()
    local app = P.app()
    app:get("/a/:x", function() end)
    app:get("/a/:y", function() end)
    local err = message(function() test.app(app) end)
    local places = {}
    for line in err:gmatch("routing_spec.lua:(%d+)") do
      places[#places + 1] = tonumber(line)
    end
    local n = #places
    assert.equal(places[n - 1], places[n] + 1)
    assert.matches("GET /a/:y is registered already", err, 1, true)
  end)

  it("names the caller's line for wrong use", function()
    local app = P.app()
    for what, fn in pairs({
      ["the handler of a route is a function, not a string"] = function() app:get("/", "x") end,
      ["has no handler"] = function() app:get("/") end,
      ["begins with its pattern"] = function() app:get(function() end) end,
      ["begins with \"/\""] = function() app:get("x", function() end) end,
      ["no parameter type <float>"] = function() app:get("/:a<float>", function() end) end,
      ["no option \"timeuot\""] = function() app:get("/", { timeuot = 1 }, function() end) end,
      ["timeout is a number"] = function() app:get("/", { timeout = "2x" }, function() end) end,
      ["no option \"titel\""] = function() P.app({ titel = "x" }) end,
      ["write \"/admin/*\""] = function() app:use("/admin", function() end) end,
      ["takes an app"] = function() app:mount("/x", {}) end,
    }) do
      local err = message(fn)
      assert.matches("routing_spec.lua:%d+: ", err)
      assert.matches(what, err, 1, true)
    end
  end)

  it("is over once the app has been loaded", function()
    local app = P.app()
    test.app(app)
    assert.matches("has been loaded", message(function() app:get("/", function() end) end))
  end)

  it("refuses an app that is mounted inside itself", function()
    local app = P.app()
    app:mount("/x", app)
    assert.matches("inside itself", message(function() test.app(app) end))
  end)
end)
