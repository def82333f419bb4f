--- The admin plane's profiles, where `go tool pprof` looks for them.
---
--- Samples are always taken, so a profile of the time to come is waited for and then made of what
--- was sampled meanwhile; one of the past is there at once.

local P = require("perilune")
local core = require("perilune.core")
local make = require("perilune.admin.make")

local M = {}

M.index = [[
GET /debug/pprof/     profiles for `go tool pprof`; profile?seconds=30&ago=0&format=svg: CPU
GET /debug/jit/shares of each route, the samples in compiled, interpreted and C code, as JSON
]]

local SECONDS, SECONDS_MAX = 30, 900
local TEXT = "text/plain; charset=utf-8"

local TYPES = {
  pprof = "application/octet-stream",
  folded = TEXT,
  text = TEXT,
  svg = "image/svg+xml",
}

--- What each profile is: those are listed whose topic, or the one behind, the server knows.
local PROFILES = {
  { "profile", "where the processor's time goes, of all workers, by line of Lua and by phase of the"
    .. " core; ?seconds=30 waits, &ago=60 is of the past; &format=folded, svg or text" },
  { "heap", "what Lua has allocated and still holds, by line" },
  { "allocs", "what Lua has allocated, by line", "heap" },
  { "coroutine", "what each coroutine waits for, and who has started it; ?debug=1 or 2: as text" },
  { "goroutine", "the same", "coroutine" },
  { "coroutineleak", "coroutines that wait for what can never come" },
  { "block", "where coroutines wait, and how long" },
}

local OTHERS = {
  { "cmdline", "how the server was started" },
  { "symbol", "for pprof: names are in the profiles already" },
}

---@param text string?
---@return integer? number
local function whole(text, min)
  local n = tonumber(text or "")
  return n and n >= min and n <= SECONDS_MAX and n % 1 == 0 and n or nil
end

local function list()
  local there = {}
  for name in (core.report("topics") or ""):gmatch("[^\n]+") do
    there[name] = true
  end
  local lines = { "Profiles of this server. Open one with", "",
    "    go tool pprof http://HOST:PORT/debug/pprof/profile?seconds=30", "" }
  for _, one in ipairs(PROFILES) do
    if there[one[3] or one[1]] then
      lines[#lines + 1] = ("%-14s %s"):format(one[1], one[2])
    end
  end
  for _, one in ipairs(OTHERS) do
    lines[#lines + 1] = ("%-14s %s"):format(one[1], one[2])
  end
  return table.concat(lines, "\n") .. "\n"
end

-- A picture has a style of its own, and nothing else.
local PICTURE = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
  .. "form-action 'none'; frame-ancestors 'none'"

local function profile(c)
  local ago, format = c:query("ago"), c:query("format") or "pprof"
  local seconds = whole(c:query("seconds") or tostring(SECONDS), 1)
  local past = ago == nil and 0 or whole(ago, 0)

  if not seconds or not past then
    return c:problem(400, "seconds and ago are whole numbers up to " .. SECONDS_MAX)
  elseif not TYPES[format] then
    return c:problem(400, "format is pprof, folded, svg or text")
  end
  if ago == nil then
    P.sleep(seconds)
  end
  local fields = { ["Content-Type"] = TYPES[format], ["Cache-Control"] = "no-store" }
  if format == "svg" then
    fields["Content-Security-Policy"] = PICTURE
  elseif format == "pprof" then
    fields["Content-Disposition"] = 'attachment; filename="profile.pb.gz"'
  end
  local query = ("seconds=%d&ago=%d&format=%s"):format(seconds, past, format)
  return make.answer(c, "profile", query, fields)
end

--- The arguments of the master, each behind the other as pprof wants them: separated by NUL.
local function cmdline()
  local status = io.open("/proc/self/stat")
  local parent = status and status:read("*a"):match("^%d+ %(.*%) %S (%d+)")
  local file = parent and io.open("/proc/" .. parent .. "/cmdline")
  local text = file and file:read("*a") or ""
  if status then
    status:close()
  end
  if file then
    file:close()
  end
  text = text:gsub("%z$", ""):gsub("(%f[%w_.][%w_.]*token=)%Z*", "%1***")
    :gsub("(%f[%w_.][%w_.]*headers=)%Z*", "%1***") -- keys that `perilune config` does not show
  return text, 200, { ["Content-Type"] = TEXT, ["Cache-Control"] = "no-store" }
end

local function symbol()
  return "num_symbols: 0\n", 200, { ["Content-Type"] = TEXT }
end

function M.routes(inner)
  local plain = { ["Content-Type"] = TEXT, ["Cache-Control"] = "no-store" }

  inner:get("/debug/pprof/", function()
    return list(), 200, plain
  end)
  inner:get("/debug/pprof", function(c)
    return c:redirect("/debug/pprof/", 301)
  end)
  inner:get("/debug/pprof/profile", { timeout = SECONDS_MAX + 30 }, profile)
  inner:get("/debug/pprof/cmdline", cmdline)
  inner:get("/debug/pprof/symbol", symbol)
  inner:post("/debug/pprof/symbol", symbol)
  inner:get("/debug/jit/shares", function(c)
    return make.answer(c, "shares", nil,
      { ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store" })
  end)
end

return M
