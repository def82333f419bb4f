--- The admin plane's page for browsers, and what it shows, as JSON.
---
--- The page itself is open: it says nothing about the server, and asks for the token where one is
--- needed. Its data is not. Nothing comes from elsewhere, and the policy says so to the browser.

local bit = require("bit")
local core = require("perilune.core")
local health = require("perilune.health")
local json = require("perilune.json")

local M = {}

M.index = [[
GET /                 for browsers: the dashboard
GET /dashboard/data   what it shows, as JSON; ?heat=N&log=N: only what is new since
]]

local POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
  .. "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

local HEADERS = {
  ["Content-Security-Policy"] = POLICY,
  ["Referrer-Policy"] = "no-referrer",
  ["Cache-Control"] = "no-cache",
}

local TYPES = {
  html = "text/html; charset=utf-8",
  css = "text/css; charset=utf-8",
  js = "text/javascript; charset=utf-8",
}

local files = {} -- name -> { text, tag }

--- FNV-1a, in hex: enough to tell one version from another.
local function hash(text)
  local h = bit.tobit(2166136261)
  for i = 1, #text do
    h = bit.bxor(h, text:byte(i))
    h = bit.tobit(h + bit.lshift(h, 1) + bit.lshift(h, 4) + bit.lshift(h, 7) + bit.lshift(h, 8)
      + bit.lshift(h, 24))
  end
  return bit.tohex(h)
end

local function file(name)
  if not files[name] then
    local text = core.report("page", name)
    files[name] = { text = text, tag = ('"%s-%d"'):format(hash(text), #text) }
  end
  return files[name]
end

local function serve(c, name)
  local one = file(name)
  for key, value in pairs(HEADERS) do
    c:set(key, value)
  end
  c:set("ETag", one.tag)
  if c:header("if-none-match") == one.tag then
    return "", 304
  end
  return one.text, 200, { ["Content-Type"] = TYPES[name] }
end

--- Whether whoever asks would rather have a page than a text.
local function wants_page(c)
  local accept = c:header("accept") or ""
  return accept:find("text/html", 1, true) ~= nil
end

--- What the parts of the data are, each as JSON; "null" where nobody knows.
local function part(topic, argument)
  local text = core.report(topic, argument)
  return text and text ~= "" and text or "null"
end

local function number(c, name)
  return (c:query(name) or ""):match("^%d+$") or "0"
end

-- By which a page knows that numbers of columns and records begin anew.
local plane = ("%s-%d"):format(tostring(files):match("%x+$"), os.time())

local paths = json.array({}) -- that the plane has, so that the page asks for no others

local function data(c)
  local parts = {
    '"plane":', json.encode(plane), ',"paths":', json.encode(paths),
    ',"status":', part("status"), ',"vitals":', part("vitals"),
    ',"heat":', part("heat", number(c, "heat")), ',"log":', part("tail", number(c, "log")),
    ',"health":', json.encode(health.report()),
  }
  return "{" .. table.concat(parts) .. "}", 200, {
    ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store",
  }
end

--- The page at `/`; whoever wants none gets what `otherwise` answers.
---@param app perilune.App
---@param index string of the plane: what there is, a line each
---@param otherwise fun(c: perilune.Context): any
function M.page(app, index, otherwise)
  for path in index:gmatch("GET /([%w/_-]+)") do
    paths[#paths + 1] = path
  end
  app:get("/", function(c)
    c:set("Vary", "Accept")
    if wants_page(c) then
      return serve(c, "html")
    end
    return otherwise(c)
  end)
  for _, name in ipairs({ "css", "js" }) do
    app:get("/dashboard." .. name, function(c)
      return serve(c, name)
    end)
  end
end

function M.routes(inner)
  inner:get("/dashboard/data", data)
end

return M
