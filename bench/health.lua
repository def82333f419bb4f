-- bench/health.lua - the time that clients of grpc.health.v1 wait for a Check, while the server is
-- at rest and while all its workers loop.
--
-- Usage: luajit bench/health.lua [--rounds N] [--calls N] [--perilune FILE]
--
-- The clients are those of the specs, grpcio and grpc-js (`.ci/setup test` installs them), one call
-- at a time over one connection; each round has both, and the figure is the median of its calls.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local client = require("client")
local process = require("process")
local script = require("script").new("health", [[
usage: luajit bench/health.lua [--rounds N] [--calls N] [--perilune FILE]
]])
local fail = script.fail

local PORT, ADMIN_PORT = 18896, 18897
local READY_S_MAX = 15
local LOOP_S = 120 -- longer than all rounds take
local APP = [[
local P = require("perilune")
local app = P.app {}
app:get("/loop", function()
  P.atomic(function() while true do end end)
end)
return app
]]

local SPECS = script.source .. "/../spec/support/grpc"
local CLIENTS = {
  { name = "grpcio", argv = { "/usr/bin/python3", SPECS .. "/client.py" } },
  { name = "grpc-js", argv = { "node", SPECS .. "/client.js" } },
}

local function ask(one, command)
  local argv = { one.argv[1], one.argv[2], "127.0.0.1:" .. ADMIN_PORT, command }
  local ok, output = process.run(argv, 60)
  if not ok then
    fail("%s: %s", one.name, output)
  end
  return output
end

local function start(opts, temp)
  local file = assert(io.open(temp .. "/app.lua", "w"))
  file:write(APP)
  file:close()
  local pid = process.start({ output = temp .. "/output", argv = {
    opts.perilune, "run", temp, "--workers", "2",
    "--listen", "127.0.0.1:" .. PORT, "--set", "admin.listen=127.0.0.1:" .. ADMIN_PORT,
    "--set", ("timeouts.handler=%ds"):format(LOOP_S),
    "--set", ("vm.stuck_timeout=%ds"):format(LOOP_S),
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

local function measure(opts, what)
  for round = 1, opts.rounds do
    for _, one in ipairs(CLIENTS) do
      local ms = ask(one, "time:" .. opts.calls):match("time (%S+)")
      print(("%-16s %-8s round %d  median %s ms"):format(what, one.name, round, ms or "?"))
    end
  end
end

local function main()
  local opts = script.parse({ numbers = { rounds = { 3, 1, 100 }, calls = { 1000, 1, 100000 } } })
  local temp = process.make_temp_folder()
  local pid = start(opts, temp)

  measure(opts, "at rest")
  for _ = 1, 8 do -- both workers get some
    client.request(PORT, { path = "/loop", seconds_max = 1 })
  end
  local due = process.now() + READY_S_MAX
  while not ask(CLIENTS[1], "check:"):find("NOT_SERVING", 1, true) do
    if process.now() > due then
      fail("the workers do not hang")
    end
  end
  measure(opts, "workers loop")
  process.stop(pid)
  process.run({ "rm", "-rf", temp }, 60)
end

main()
