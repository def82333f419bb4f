--- Specs of @NAME@: `perilune test` runs them.

local test = require "perilune.test"

describe("@NAME@", function()
  local api = test.app(".")

  it("has a front page", function()
    local r = api:get("/")
    assert.equal(200, r.status)
    assert.matches("@NAME@", r.body, 1, true)
  end)

  it("greets by name", function()
    assert.equal("moon", api:get("/hello/moon"):json().hello)
  end)

  it("doubles whole numbers, and nothing else", function()
    assert.same({ n = 21, double = 42 }, api:get("/double/21"):json())
    assert.equal(404, api:get("/double/many").status)
  end)

  it("says in a problem document what is not there", function()
    local r = api:get("/nowhere")
    assert.equal(404, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
  end)
end)
