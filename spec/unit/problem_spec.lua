local problem = require("perilune.problem")

describe("perilune.problem", function()
  it("makes documents with type, title, status and detail (RFC 9457)", function()
    assert.same({ type = "about:blank", title = "Not Found", status = 404, detail = "x" },
      problem.document(404, "x"))
  end)

  it("adds members, which may replace type and title", function()
    local document = problem.document(422, nil, { type = "/errors/1", balance = 5 })
    assert.equal("/errors/1", document.type)
    assert.equal(5, document.balance)
    assert.is_nil(document.detail)
  end)

  it("raises errors that are answers, and knows them", function()
    local ok, err = pcall(problem.raise, 415, "no")
    assert.is_false(ok)
    assert.is_true(problem.is(err))
    assert.equal(415, err.status)
    assert.equal("415 Unsupported Media Type: no", tostring(err))
    assert.is_true(problem.is(problem.DEADLINE))
    for _, other in ipairs({ {}, "x", 5, setmetatable({}, {}) }) do
      assert.is_false(problem.is(other))
    end
  end)
end)
