local test = require("perilune.test")

describe("hello", function()
  local api = test.app("apps/hello")

  it("greets in plain text", function()
    local r = api:get("/")
    assert.equal(200, r.status)
    assert.equal("text/plain; charset=utf-8", r.headers["content-type"])
    assert.equal("hello\n", r.body)
  end)

  it("greets by name in JSON", function()
    local r = api:get("/hello/moon%20rise")
    assert.equal("application/json", r.headers["content-type"])
    assert.same({ hello = "moon rise" }, r:json())
  end)
end)
