local test = require("perilune.test")

describe("notes", function()
  local api

  before_each(function()
    api = test.app("apps/notes", { config = { settings = {} } }) -- a new store each time
  end)

  local function add(title, text)
    return api:post("/notes", { json = { title = title, text = text } })
  end

  it("says where the notes are", function()
    assert.equal("/notes", api:get("/"):json().notes)
  end)

  it("begins with an empty list", function()
    assert.equal("[]", api:get("/notes").body)
  end)

  it("makes a note and tells its place", function()
    local r = add("milk", "two litres")
    assert.equal(201, r.status)
    assert.equal("/notes/1", r.headers.location)
    assert.same({ id = 1, title = "milk", text = "two litres" }, r:json())
    assert.same(r:json(), api:get(r.headers.location):json())
  end)

  it("lists the notes that contain a text", function()
    add("milk")
    add("bread", "with milk")
    add("salt")
    local r = api:get("/notes", { query = { q = "milk" } })
    assert.equal(2, #r:json())
  end)

  it("replaces a note", function()
    add("milk")
    local r = api:put("/notes/1", { json = { title = "oat milk" } })
    assert.equal(200, r.status)
    assert.equal("oat milk", api:get("/notes/1"):json().title)
  end)

  it("removes a note, once", function()
    add("milk")
    assert.equal(204, api:delete("/notes/1").status)
    assert.equal(404, api:delete("/notes/1").status)
    assert.equal(404, api:get("/notes/1").status)
  end)

  it("refuses a note without a title and points to it", function()
    local r = add(nil, "x")
    assert.equal(422, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.equal("/title", r:json().errors[1].pointer)
  end)

  it("refuses a body that is no JSON", function()
    local r = api:post("/notes", {
      body = "{", headers = { ["content-type"] = "application/json" },
    })
    assert.equal(400, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
  end)

  it("refuses a body past the limit of the route", function()
    assert.equal(413, add(("x"):rep(70000)).status)
  end)

  it("has no note with an id that is no number", function()
    assert.equal(404, api:get("/notes/milk").status)
  end)

  it("allows reading and making on the list only", function()
    local r = api:delete("/notes")
    assert.equal(405, r.status)
    assert.equal("GET, HEAD, OPTIONS, POST", r.headers.allow)
  end)

  it("tells how long it took", function()
    assert.matches("^app;dur=", api:get("/").headers["server-timing"])
  end)

  describe("with a token", function()
    before_each(function()
      api = test.app("apps/notes", { config = { settings = { token = "secret" } } })
    end)

    it("lets anyone read", function()
      assert.equal(200, api:get("/notes").status)
    end)

    it("lets nobody write without it", function()
      local r = add("milk")
      assert.equal(401, r.status)
      assert.equal("Bearer", r.headers["www-authenticate"])
    end)

    it("lets those write who have it", function()
      local r = api:post("/notes", {
        json = { title = "milk" }, headers = { authorization = "Bearer secret" },
      })
      assert.equal(201, r.status)
    end)
  end)
end)
