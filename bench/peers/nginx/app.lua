-- bench/peers/nginx/app.lua - the scenarios as an OpenResty app: one function per location.
-- luacheck: globals ngx

local cjson = require("cjson.safe")

local ngx = ngx
local tonumber, type = tonumber, type
local find = ngx.re.find

local TEXT = "Hello, World!"
local BIG = ("x"):rep(1024 * 1024)

local M = {}

---@param status integer
---@param text string
local function answer(status, text)
  ngx.status = status
  ngx.header.content_length = #text
  ngx.print(text)
end

function M.plain()
  answer(200, TEXT)
end

function M.big()
  answer(200, BIG)
end

-- The three steps before the handler; a step that answers returns true.

local function step_request_id(state)
  state.request_id = ngx.var.request_id
  ngx.header["X-Request-Id"] = state.request_id
end

local function step_auth()
  if ngx.var.http_authorization ~= "Bearer bench-token" then
    answer(401, "unauthorized")
    return true
  end
end

local function step_headers()
  local header = ngx.header
  header["X-Content-Type-Options"] = "nosniff"
  header["Cache-Control"] = "no-store"
end

local STEPS = { step_request_id, step_auth, step_headers }

---@param route string "r0" to "r199"
---@param prefix_bytes integer of the location; what follows in the path is the id
function M.item(route, prefix_bytes)
  local state = {}
  for i = 1, #STEPS do
    if STEPS[i](state) then
      return
    end
  end

  local text = ngx.var.uri:sub(prefix_bytes + 1)
  if not find(text, "^[0-9]{1,15}$", "jo") then
    return answer(404, "not found")
  end
  local id = tonumber(text)
  answer(200, cjson.encode({
    id = id,
    route = route,
    name = "Item " .. text,
    description = "One of the things this shop sells",
    price_cents = id * 100 + 99,
    currency = "EUR",
    in_stock = id % 2 == 0,
    quantity = id % 100,
    category = "tools",
    request_id = state.request_id,
  }))
end

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

function M.echo()
  if ngx.req.get_method() ~= "POST" then
    return answer(405, "method not allowed")
  end
  ngx.req.read_body()
  local order = cjson.decode(ngx.req.get_body_data() or "")
  if order == nil then
    return answer(400, "malformed JSON")
  end
  if not order_is_valid(order) then
    return answer(422, "not an order")
  end
  answer(200, cjson.encode(order))
end

return M
