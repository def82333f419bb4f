-- bench/profile.lua - whether profiles share the processor's time as it was spent: two compiled
-- functions, one of which gets 70 % of the time, told by their own clock; and what tells of it,
-- beside what `go tool pprof` makes of the same samples.
--
-- Usage: luajit bench/profile.lua [--seconds N] [--share N] [--perilune FILE]
--
-- Exits 1 when the profile is more than three points off. With 30 seconds (the default) that is
-- five times the deviation of 7,500 samples.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local client = require("client")
local process = require("process")
local script = require("script").new("profile", [[
usage: luajit bench/profile.lua [--seconds N] [--share N] [--perilune FILE]
]])
local fail = script.fail

local PORT, ADMIN_PORT = 18894, 18895
local READY_S_MAX = 15
local TOLERANCE = 3 -- points
local APP = [[
local P = require("perilune")
local app = P.app {}
local function heavy(n)
  local x = 0
  for i = 1, n do x = (x * 31 + i) %% 1000003 end
  return x
end
local function light(n)
  local x = 0
  for i = 1, n do x = (x * 31 + i) %% 1000003 end
  return x
end
app:get("/mix", function(c)
  local stop, in_heavy, in_light = P.monotonic() + %d, 0, 0
  local now = P.monotonic()
  while now < stop do
    heavy(%d)
    local then_ = P.monotonic()
    light(%d)
    in_heavy, in_light = in_heavy + then_ - now, in_light - then_
    now = P.monotonic()
    in_light = in_light + now
  end
  return ("%%.4f"):format(in_heavy / (in_heavy + in_light))
end)
return app
]]

local function start(opts, temp)
  local file = assert(io.open(temp .. "/app.lua", "w"))
  file:write(APP:format(opts.seconds, opts.share * 7000, (100 - opts.share) * 7000))
  file:close()
  local pid = process.start({ output = temp .. "/output", argv = {
    opts.perilune, "run", temp, "--workers", "1",
    "--listen", "127.0.0.1:" .. PORT, "--set", "admin.listen=127.0.0.1:" .. ADMIN_PORT,
    "--set", ("timeouts.handler=%ds"):format(opts.seconds + 60),
  } })
  local due = process.now() + READY_S_MAX
  repeat
    process.sleep(0.01)
    local reply = client.request(ADMIN_PORT, { path = "/readyz" })
    if process.now() > due then
      fail("it does not get ready, see %s/output", temp)
    end
  until reply and reply.status == 200
  return pid
end

local function profile(opts, format)
  local path = ("/debug/pprof/profile?ago=0&format=%s&seconds=%d"):format(format, opts.seconds + 5)
  local reply = client.request(ADMIN_PORT, { path = path, seconds_max = 30 })
  return reply and reply.status == 200 and reply.body or fail("no profile")
end

local function main()
  local opts = script.parse({ numbers = { seconds = { 30, 1, 600 }, share = { 70, 1, 99 } } })
  local temp = process.make_temp_folder()
  local pid = start(opts, temp)
  local reply = client.request(PORT, { path = "/mix", seconds_max = opts.seconds + 30 })
  local truth = reply and tonumber(reply.body) or fail("the app does not answer")
  local stacks = profile(opts, "folded")
  local heavy = tonumber(stacks:match(";heavy app%.lua:3 (%d+)")) or 0
  local light = tonumber(stacks:match(";light app%.lua:8 (%d+)")) or 0
  local told = heavy / (heavy + light)

  print(("asked for %.1f %%, by the app's clock %.1f %%, by the profile %.1f %%, of %.2f s of CPU")
    :format(opts.share, truth * 100, told * 100, (heavy + light) / 1e6))
  print(profile(opts, "text"))
  local ok, output = process.run({ "env", "PPROF_TMPDIR=" .. temp, "go", "tool", "pprof", "-top",
    ("http://127.0.0.1:%d/debug/pprof/profile?ago=0&seconds=%d"):format(ADMIN_PORT,
      opts.seconds + 5) }, 60)
  print(output)
  process.stop(pid)
  process.run({ "rm", "-rf", temp }, 60)
  if not ok or math.abs(told * 100 - opts.share) > TOLERANCE then
    fail("it is more than %d points off, or pprof fails", TOLERANCE)
  end
end

main()
