-- bench/apps/bench/app.lua - the scenarios of bench/ as a Perilune app.

local P = require("perilune")

local ROUTE_COUNT = 200
local BIG = ("x"):rep(1024 * 1024)

local app = P.app({ title = "Bench" })

app:get("/", function()
  return "Hello, World!"
end)

app:get("/big", function(c)
  return c:bytes(BIG, "application/octet-stream")
end)

-- The api scenario: three steps of middleware, then one of 200 routes.

local function request_id(c, next)
  c:set("X-Request-Id", c.id)
  next(c)
end

local function auth(c, next)
  if c:header("Authorization") ~= "Bearer bench-token" then
    return c:problem(401)
  end
  next(c)
end

local function safe_headers(c, next)
  c:set("X-Content-Type-Options", "nosniff")
  c:set("Cache-Control", "no-store")
  next(c)
end

local api = app:group("/api", request_id, auth, safe_headers)

local function item_handler(route)
  return function(c, id)
    return {
      id = id,
      route = route,
      name = "Item " .. id,
      description = "One of the things this shop sells",
      price_cents = id * 100 + 99,
      currency = "EUR",
      in_stock = id % 2 == 0,
      quantity = id % 100,
      category = "tools",
      request_id = c.id,
    }
  end
end

for i = 0, ROUTE_COUNT - 1 do
  local route = "r" .. i
  api:get("/" .. route .. "/:id<int>", item_handler(route))
end

-- The body scenario.

local function item_is_valid(item)
  return type(item) == "table"
    and type(item.sku) == "string" and #item.sku > 0
    and type(item.quantity) == "number" and item.quantity >= 1 and item.quantity % 1 == 0
    and type(item.price) == "number" and item.price >= 0
end

local function order_is_valid(order)
  if type(order) ~= "table"
    or type(order.title) ~= "string" or #order.title < 1 or #order.title > 200
    or type(order.customer) ~= "table"
    or type(order.customer.email) ~= "string"
    or not order.customer.email:find("@", 1, true)
    or type(order.items) ~= "table" or #order.items < 1 or #order.items > 100
  then
    return false
  end
  for i = 1, #order.items do
    if not item_is_valid(order.items[i]) then
      return false
    end
  end
  return true
end

app:post("/echo", function(c)
  local order = c:json()
  if not order_is_valid(order) then
    return c:problem(422, "not an order")
  end
  return order
end)

return app
