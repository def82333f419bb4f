-- bench/harness/scenarios.lua - what is measured, and what a right answer is. Every server has to
-- pass the checks of a scenario before it is measured in it.

local cjson = require("cjson.safe")
local client = require("client")

local TEXT = "Hello, World!"
local BIG_BYTES = 1024 * 1024
local AUTH = { ["Authorization"] = "Bearer bench-token" }

local function expect(is_so, format, ...)
  if not is_so then
    error({ fault = format:format(...) })
  end
end

local function ask(port, request)
  local reply, err = client.request(port, request)
  expect(reply, "%s: %s", request.path, tostring(err))
  return reply
end

local function check_plain(port)
  local reply = ask(port, { path = "/" })
  expect(reply.status == 200, "/: status %d", reply.status)
  expect(reply.body == TEXT, "/: body %q", reply.body:sub(1, 80))
  local kind = reply.headers["content-type"] or "none"
  expect(kind:find("^text/plain"), "/: content type %s", kind)
  expect(reply.headers["date"], "/: no Date")
  expect(reply.headers["content-length"] == "13", "/: no Content-Length")
end

local function expected_item(route, id)
  return {
    id = id,
    route = "r" .. route,
    name = "Item " .. id,
    description = "One of the things this shop sells",
    price_cents = id * 100 + 99,
    currency = "EUR",
    in_stock = id % 2 == 0,
    quantity = id % 100,
    category = "tools",
  }
end

---@return string request_id
local function check_item(port, route, id)
  local path = ("/api/r%d/%d"):format(route, id)
  local reply = ask(port, { path = path, headers = AUTH })
  expect(reply.status == 200, "%s: status %d", path, reply.status)
  local item = cjson.decode(reply.body)
  expect(type(item) == "table", "%s: no JSON object", path)

  local fields = 0
  for _ in pairs(item) do
    fields = fields + 1
  end
  expect(fields == 10, "%s: %d fields", path, fields)
  for name, value in pairs(expected_item(route, id)) do
    expect(item[name] == value, "%s: %s is %s", path, name, tostring(item[name]))
  end
  local request_id = reply.headers["x-request-id"]
  expect(request_id and item.request_id == request_id, "%s: request id differs", path)
  expect(reply.headers["x-content-type-options"] == "nosniff", "%s: not nosniff", path)
  expect(reply.headers["cache-control"] == "no-store", "%s: not no-store", path)
  return request_id
end

local function check_status(port, request, low, high)
  local reply = ask(port, request)
  expect(reply.status >= low and reply.status <= high, "%s: status %d", request.path, reply.status)
end

local function check_api(port)
  local seen = {}
  for route = 0, 199 do
    local request_id = check_item(port, route, route * 501 + 7)
    expect(not seen[request_id], "the request id %s came twice", request_id)
    seen[request_id] = true
  end
  check_status(port, { path = "/api/r17/42" }, 401, 401)
  check_status(port, { path = "/api/r200/42", headers = AUTH }, 404, 404)
  -- A server whose types are schemas may say 400 where one whose types route says 404.
  check_status(port, { path = "/api/r17/4x2", headers = AUTH }, 400, 404)
end

local function equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not equal(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

local function post(body)
  return {
    method = "POST",
    path = "/echo",
    headers = { ["Content-Type"] = "application/json" },
    body = body,
  }
end

local function check_body(port, order_text)
  local reply = ask(port, post(order_text))
  expect(reply.status == 200, "/echo: status %d", reply.status)
  local order = cjson.decode(order_text)
  expect(equal(cjson.decode(reply.body), order), "/echo: another order came back")

  order.items[1].quantity = -1
  check_status(port, post(cjson.encode(order)), 400, 422)
  check_status(port, post(order_text:sub(1, -2)), 400, 400)
end

local function check_big(port)
  local reply = ask(port, { path = "/big" })
  expect(reply.status == 200, "/big: status %d", reply.status)
  expect(#reply.body == BIG_BYTES, "/big: %d bytes", #reply.body)
end

---@class perilune.bench.Scenario
---@field name string
---@field what string one line for the reader
---@field path string
---@field connections integer
---@field access_log boolean whether the servers write one
---@field is_pipelined? boolean wrk corrects its latencies by the mean time between two answers of
---  a connection; with pipelining that is not the time between two sends, and the percentiles it
---  gives are wrong (some are 0): none are reported
---@field check fun(port: integer, order_text: string) raises { fault = ... }

local M = {}

---@type perilune.bench.Scenario[]
M.list = {
  {
    name = "plain",
    what = "GET /, 13 bytes of text, 64 connections",
    path = "/",
    connections = 64,
    access_log = false,
    check = check_plain,
  },
  {
    name = "plain16",
    what = "the same, 16 requests pipelined",
    path = "/",
    connections = 64,
    is_pipelined = true,
    access_log = false,
    check = check_plain,
  },
  {
    name = "api",
    what = "200 routes, typed parameter, 3 steps of middleware, JSON of 10 fields, access log",
    path = "/api/r0/1",
    connections = 64,
    access_log = true,
    check = check_api,
  },
  {
    name = "body",
    what = "POST of 1 KiB JSON: decoded, validated, echoed",
    path = "/echo",
    connections = 64,
    access_log = false,
    check = check_body,
  },
  {
    name = "big",
    what = "an answer of 1 MiB, 16 connections",
    path = "/big",
    connections = 16,
    access_log = false,
    check = check_big,
  },
  {
    name = "idle",
    what = "10,000 idle keep-alive connections: memory",
    path = "/",
    connections = 10000,
    access_log = false,
    check = check_plain,
  },
}

---@param name string
---@return perilune.bench.Scenario?
function M.find(name)
  for _, scenario in ipairs(M.list) do
    if scenario.name == name then
      return scenario
    end
  end
end

--- Checks a server's answers.
---@param scenario perilune.bench.Scenario
---@param port integer
---@param order_text string what `body` posts
---@return boolean ok
---@return string? fault
function M.check(scenario, port, order_text)
  local ok, err = pcall(scenario.check, port, order_text)
  if ok then
    return true
  end
  if type(err) == "table" and err.fault then
    return false, err.fault
  end
  error(err, 0)
end

return M
