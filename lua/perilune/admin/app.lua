--- The admin plane, an app like any other: it is served by control, beside the workers.
---
--- Probes are open, since those who ask them cannot show a token; all that tells more is not,
--- once there is one.

local P = require("perilune")
local core = require("perilune.core")
local health = require("perilune.health")
local origin = require("perilune.admin.origin")

local app = P.app { title = "Perilune's admin plane", version = P.version }

local TEXT = { ["Content-Type"] = "text/plain; charset=utf-8", ["Cache-Control"] = "no-store" }

--- Rooms of the plane, each a module of its own beside this one: `index`, its lines of the list
--- below, and `routes(inner)`, which adds its routes to those that take the token.
local ROOMS = { "dashboard", "actions", "coroutines", "heap", "jit", "profile", "spans", "trace" }

local INDEX = [[
Perilune's admin plane

GET /livez            200 while it answers
GET /readyz           200 while requests should come here, else 503
GET /startupz         200 once the server serves, else 503
GET /healthz          200 unless something critical is unhealthy; ?verbose: all checks, as JSON
GET /metrics          for Prometheus; OpenMetrics where it is accepted, or ?format=openmetrics
GET /status           the server at a glance, as JSON; ?format=text: for people
]]

-- Whatever an answer is, a browser takes it for what it says it is, and runs nothing of it. A page
-- that needs more says so.
local POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

--- Middleware of all answers: what browsers may make of them, and do for others.
app:use(function(c, next)
  c:set("X-Content-Type-Options", "nosniff")
  c:set("Content-Security-Policy", POLICY)
  if core.report("exposed") ~= "" then
    local status, why = origin.fault(function(name)
      return c:header(name)
    end, c.method)
    if status then
      return c:problem(status, why)
    end
  end
  return next(c)
end)

--- Middleware: the token, where one is configured.
local function with_token(c, next)
  if core.report("allowed", c:header("authorization") or "") == "" then
    c:set("WWW-Authenticate", 'Bearer realm="perilune"')
    return c:problem(401, "the admin plane takes a bearer token: Authorization: Bearer TOKEN")
  end
  return next(c)
end

local function answer(good, text)
  return text .. "\n", good and 200 or 503, TEXT
end

app:get("/livez", function()
  return answer(true, "ok")
end)

app:get("/readyz", function()
  local ready = health.is_ready()
  return answer(ready, ready and "ok" or "not ready")
end)

app:get("/startupz", function()
  local started = health.has_started()
  return answer(started, started and "ok" or "starting")
end)

local inner = app:group("", with_token)

local index = INDEX
for _, name in ipairs(ROOMS) do
  local room = require("perilune.admin." .. name)
  index = index .. room.index
  room.routes(inner)
end

require("perilune.admin.dashboard").page(app, index, function(c)
  return with_token(c, function()
    return index, 200, TEXT
  end)
end)

inner:get("/healthz", function(c)
  local state = health.overall()
  if c:query("verbose") then
    c:set("Cache-Control", "no-store")
    return c:json(health.report(), state == "unhealthy" and 503 or 200)
  end
  return answer(state ~= "unhealthy", state)
end)

-- Media types as their formats name them.
local PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
local OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

inner:get("/metrics", function(c)
  local accept = c:header("accept") or ""
  local open = c:query("format") == "openmetrics"
    or accept:find("application/openmetrics-text", 1, true) ~= nil
  return core.report("metrics", open and "open" or nil), 200, {
    ["Content-Type"] = open and OPENMETRICS or PROMETHEUS, ["Cache-Control"] = "no-store",
  }
end)

inner:get("/status", function(c)
  local as_text = c:query("format") == "text"
  local text = core.report("status", as_text and "text" or nil)
  return text, 200, {
    ["Content-Type"] = as_text and TEXT["Content-Type"] or "application/json",
    ["Cache-Control"] = "no-store",
  }
end)

P.detach("health", health.start)
P.detach("actions", require("perilune.admin.actions").start)

return app
