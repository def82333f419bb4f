--- The page of `perilune top`, from a status to text.

local json = require("perilune.json")
local top = require("perilune.top")

local function status(more)
  local s = {
    name = "shop", state = "serving", generation = 7, hash = "1a2b3c4d5e6f7081", uptime_s = 11520,
    pid = 1234, version = "0.1.0", reloads = { committed = 7, rejected = 0 }, crashes = 0,
    requests_per_s = 12345, errors_per_s = 0, p50_ms = 0.214, p99_ms = 4.9,
    log = { dropped = { debug = 0, info = 0, warn = 0, error = 0 } },
    workers = {
      { index = 0, pid = 1236, state = "serving", generation = 7, requests_per_s = 12345.2,
        in_flight = 4, connections = 320, busy = 0.41, lag_ms = 0.31, memory_bytes = 12687769,
        restarts = 0 },
    },
    routes = {
      { method = "GET", route = "/hello/:name", requests = 1000000, requests_per_s = 12000,
        errors_per_s = 0, p50_ms = 0.2, p99_ms = 4.1 },
      { method = "POST", route = "/orders", requests = 345, requests_per_s = 0.5,
        errors_per_s = 0.25, p50_ms = 120, p99_ms = 12345 },
    },
  }
  for key, value in pairs(more or {}) do
    s[key] = value or nil
  end
  return json.encode(s)
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n") do
    lines[#lines + 1] = line
  end
  return lines
end

describe("the page of perilune top", function()
  it("tells of the server, its workers and its routes", function()
    local page = top.page(status(), "100", "0", "")
    assert.matches("^shop  serving  generation 7 %(1a2b3c4d%)  up 3h 12m  pid 1234", page)
    assert.matches("\n12,345 requests/s   p50 0.21 ms   p99 4.90 ms   errors 0.0 %%", page)
    assert.matches("\n0 +1236  serving +7  12,345 +4 +320  41 %% +0.31 ms  12.1 MiB", page)
    assert.matches("\nGET /hello/:name  12,000 +0.0 %%  0.20 ms  4.10 ms  1,000,000", page)
    assert.matches("\nPOST /orders +0.5 +50.0 %%   120 ms   12.3 s +345", page)
    assert.is_nil(page:find("\27", 1, true))
  end)

  it("shows what a status lacks as lacking", function()
    local page = top.page(status({ requests_per_s = false, p99_ms = false,
      log = false, routes = false }), "100", "0", "")
    assert.matches("\n%- requests/s   p50 0.21 ms   p99 %-   errors %-", page)
    assert.is_nil(page:find("ROUTE", 1, true))
  end)

  it("keeps tables within the columns, and the page within the rows", function()
    local routes = {}
    for i = 1, 40 do
      routes[i] = { method = "GET", route = "/" .. ("é"):rep(60) .. i, requests = 1,
        requests_per_s = 1, errors_per_s = 0, p50_ms = 1, p99_ms = 1 }
    end
    local lines = lines_of(top.page(status({ routes = routes }), "70", "20", ""))
    assert.equal(20, #lines)
    assert.matches("^%.%.%. %d+ lines more$", lines[20])
    assert.equal(3, #lines_of(top.page(status({ routes = routes }), "70", "3", "")))
    for i = 5, 19 do
      local _, width = lines[i]:gsub("[^\128-\191]", "")
      assert.is_true(width <= 70, lines[i])
    end
    assert.is_truthy(lines[10]:find("é…", 1, true))
  end)

  it("paints what is out of order", function()
    local page = top.page(status({ state = "draining", crashes = 3,
      reloads = { committed = 7, rejected = 1 },
      last_reload = { error = "app.lua:3: no luck\n[C]: in ?" } }), "100", "0", "colour")
    assert.is_truthy(page:find("\27[33mdraining\27[0m", 1, true))
    assert.is_truthy(page:find("crashes \27[31m3\27[0m", 1, true))
    assert.is_truthy(page:find("\27[33m (1 rejected)\27[0m", 1, true))
    assert.matches("\27%[31mlast reload rejected: app.lua:3: no luck *\27%[0m\n", page)
    assert.matches("\27%[31mPOST /orders", page)
  end)
end)
