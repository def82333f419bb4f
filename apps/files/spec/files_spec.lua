local test = require("perilune.test")

describe("files", function()
  local api, folder

  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    api = test.app("apps/files", { config = { settings = { folder = folder } } })
  end)

  after_each(function()
    for _, file in ipairs(api:get("/files"):json()) do
      api:delete("/files/" .. file.name)
    end
    os.remove(folder)
  end)

  it("shows a page", function()
    local r = api:get("/")
    assert.equal(200, r.status)
    assert.equal("text/html; charset=utf-8", r.headers["content-type"])
    assert.equal("no-cache", r.headers["cache-control"])
    assert.matches("<title>Files</title>", r.body, 1, true)
  end)

  it("gives back what was put", function()
    local r = api:put("/files/a.txt", { body = "some text" })
    assert.equal(201, r.status)
    assert.same({ name = "a.txt", bytes = 9 }, r:json())
    assert.equal("some text", api:get("/files/a.txt").body)
  end)

  it("takes a file that is larger than a receive buffer", function()
    local body = ("0123456789abcdef"):rep(20000)
    assert.equal(201, api:put("/files/big.bin", { body = body }).status)
    assert.is_true(body == api:get("/files/big.bin").body)
  end)

  it("takes a file in chunks", function()
    local raw = api:raw("PUT /files/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 1)
    assert.matches("^HTTP/1.1 201", raw)
    assert.equal("abcde", api:get("/files/c").body)
  end)

  it("lists the files by name", function()
    api:put("/files/b", { body = "22" })
    api:put("/files/a", { body = "1" })
    assert.same({ { name = "a", bytes = 1 }, { name = "b", bytes = 2 } }, api:get("/files"):json())
  end)

  it("answers a range", function()
    api:put("/files/r", { body = "0123456789" })
    local r = api:get("/files/r", { headers = { range = "bytes=2-4" } })
    assert.equal(206, r.status)
    assert.equal("234", r.body)
    assert.equal("bytes 2-4/10", r.headers["content-range"])
  end)

  it("answers 304 to who has the file already", function()
    api:put("/files/e", { body = "x" })
    local etag = api:get("/files/e").headers.etag
    assert.equal(304, api:get("/files/e", { headers = { ["if-none-match"] = etag } }).status)
  end)

  it("lets no file run scripts in the page's name", function()
    api:put("/files/x.html", { body = "<script>1</script>" })
    assert.equal("sandbox", api:get("/files/x.html").headers["content-security-policy"])
  end)

  it("offers the file's name for a download", function()
    api:put("/files/d.txt", { body = "x" })
    local r = api:get("/files/d.txt", { query = { download = "1" } })
    assert.matches("^attachment", r.headers["content-disposition"])
  end)

  it("removes a file", function()
    api:put("/files/a", { body = "1" })
    assert.equal(204, api:delete("/files/a").status)
    assert.equal(404, api:get("/files/a").status)
    assert.equal(404, api:delete("/files/a").status)
  end)

  for _, name in ipairs({ "..%2Fx", ".hidden", "x.part", ("n"):rep(201) }) do
    it("refuses the name " .. name:sub(1, 12), function()
      assert.equal(400, api:put("/files/" .. name, { body = "x" }).status)
      assert.equal(404, api:get("/files/" .. name).status)
    end)
  end

  it("keeps nothing of an upload that breaks off", function()
    local connection = api:connect()
    connection:send("PUT /files/half HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    require("perilune").sleep(0)
    connection:close()
    require("perilune").sleep(0)
    assert.same({}, api:get("/files"):json())
    local left = io.popen("ls -A '" .. folder .. "' 2>/dev/null")
    assert.equal("", left:read("*a"))
    left:close()
  end)
end)
