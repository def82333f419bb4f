-- bench/dev.lua - from a save to new code serving, under `perilune dev`.
--
-- Usage: luajit bench/dev.lua [--saves N] [--perilune FILE]
--
-- Saves apps/hello with another greeting, again and again, and asks until the new one answers. The
-- clock starts before the new file takes the old one's place and stops with the first answer.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local client = require("client")
local process = require("process")
local script = require("script").new("dev", [[
usage: luajit bench/dev.lua [--saves N] [--perilune FILE]
]])

local BOUND_MS = 100
local PATIENCE_S = 10
local PAUSE_S = 0.15 -- between saves, as no one saves faster

local opts = script.parse({ numbers = { saves = { 50, 1, 10000 } } })

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function save(path, text)
  local file = assert(io.open(path .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

local function start(place)
  local output = place .. "/output"
  local pid = process.start({
    argv = { opts.perilune, "dev", place .. "/app", "--listen", "127.0.0.1:0",
      "--set", "admin.listen=127.0.0.1:0", "--set", "log.access=false" },
    env = { XDG_RUNTIME_DIR = place }, output = output,
  })
  local due = process.now() + PATIENCE_S
  while process.now() < due do
    process.sleep(0.01)
    local port = read(output):match("serving [^\n]-http://127%.0%.0%.1:(%d+)")
    if port then
      return pid, tonumber(port)
    end
  end
  error("perilune dev did not start: " .. read(output))
end

local function measure(port, path, text, n)
  local greeting = "greeting number " .. n
  local begin = process.now()
  save(path, ("%s\napp:get('/bench', function() return %q end)\nreturn app\n"):format(text,
    greeting))
  while process.now() - begin < PATIENCE_S do
    local reply = client.request(port, { path = "/bench", seconds_max = 5 })
    if reply and reply.body == greeting then
      return (process.now() - begin) * 1e3
    end
    process.sleep(0.001)
  end
  error("save " .. n .. " was never served")
end

local place = process.make_temp_folder()
process.make_folder(place .. "/app")
local text = read(script.source .. "/../apps/hello/app.lua"):gsub("return app%s*$", "")
save(place .. "/app/app.lua", text .. "return app\n")
local pid, port = start(place)
local times = {}
for n = 1, opts.saves do
  process.sleep(PAUSE_S)
  times[n] = measure(port, place .. "/app/app.lua", text, n)
end
process.stop(pid)
process.run({ "rm", "-rf", place }, 10)
table.sort(times)
local median = times[math.ceil(#times / 2)]
print(("dev: from save to served, %d saves: median %.0f ms, least %.0f, P90 %.0f, most %.0f")
  :format(
  #times, median, times[1], times[math.ceil(#times * 0.9)], times[#times]))
os.exit(median < BOUND_MS and 0 or 1)
