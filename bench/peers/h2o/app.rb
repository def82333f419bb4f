# bench/peers/h2o/app.rb - the scenarios as an mruby handler of h2o: a Rack-like app with a table
# of routes, made once.

TEXT = "Hello, World!"
BIG = "x" * (1024 * 1024)
TEXT_TYPE = "text/plain; charset=utf-8"

def answer(status, type, body, headers = {})
  headers["content-type"] = type
  headers["content-length"] = body.bytesize.to_s
  [status, headers, [body]]
end

class RequestId
  def initialize(app)
    @app = app
    @prefix = (rand * 0x40000000).to_i.to_s(16)
    @count = 0
  end

  def call(env, id)
    @count += 1
    env["request_id"] = "#{@prefix}-#{@count}"
    reply = @app.call(env, id)
    reply[1]["x-request-id"] = env["request_id"]
    reply
  end
end

class Auth
  def initialize(app)
    @app = app
  end

  def call(env, id)
    return answer(401, TEXT_TYPE, "unauthorized") unless env["HTTP_AUTHORIZATION"] == "Bearer bench-token"
    @app.call(env, id)
  end
end

class SafeHeaders
  def initialize(app)
    @app = app
  end

  def call(env, id)
    reply = @app.call(env, id)
    reply[1]["x-content-type-options"] = "nosniff"
    reply[1]["cache-control"] = "no-store"
    reply
  end
end

class Item
  def initialize(route)
    @route = route
  end

  def call(env, id)
    answer(200, "application/json", JSON.generate({
      "id" => id,
      "route" => @route,
      "name" => "Item #{id}",
      "description" => "One of the things this shop sells",
      "price_cents" => id * 100 + 99,
      "currency" => "EUR",
      "in_stock" => id % 2 == 0,
      "quantity" => id % 100,
      "category" => "tools",
      "request_id" => env["request_id"]
    }))
  end
end

def natural?(value)
  value.is_a?(Numeric) && value >= 1 && value == value.floor
end

def item_valid?(item)
  item.is_a?(Hash) &&
    item["sku"].is_a?(String) && item["sku"].size > 0 &&
    natural?(item["quantity"]) &&
    item["price"].is_a?(Numeric) && item["price"] >= 0
end

def order_valid?(order)
  return false unless order.is_a?(Hash)
  return false unless order["title"].is_a?(String) && order["title"].size.between?(1, 200)
  customer = order["customer"]
  return false unless customer.is_a?(Hash) && customer["email"].is_a?(String)
  return false unless customer["email"].include?("@")
  items = order["items"]
  return false unless items.is_a?(Array) && items.size.between?(1, 100)
  items.all? { |item| item_valid?(item) }
end

def echo(env)
  input = env["rack.input"]
  begin
    order = JSON.parse(input ? input.read : "")
  rescue StandardError
    return answer(400, TEXT_TYPE, "malformed JSON")
  end
  return answer(422, TEXT_TYPE, "not an order") unless order_valid?(order)
  answer(200, "application/json", JSON.generate(order))
end

ROUTES = {}
200.times do |i|
  route = "r#{i}"
  ROUTES[route] = RequestId.new(Auth.new(SafeHeaders.new(Item.new(route))))
end

def natural_text?(text)
  return false if text.nil? || text.size < 1 || text.size > 15
  text.each_byte { |b| return false if b < 48 || b > 57 }
  true
end

lambda do |env|
  path = env["PATH_INFO"]
  return answer(200, TEXT_TYPE, TEXT) if path == "/"
  return answer(200, "application/octet-stream", BIG) if path == "/big"
  return echo(env) if path == "/echo" && env["REQUEST_METHOD"] == "POST"
  _, first, route, id, rest = path.split("/", 5)
  app = first == "api" && rest.nil? ? ROUTES[route] : nil
  return app.call(env, id.to_i) if app && natural_text?(id)
  answer(404, TEXT_TYPE, "not found")
end
