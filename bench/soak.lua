-- bench/soak.lua - what must hold under load and for long: right results under preemption,
-- neighbours of handlers that never end, requests beside workers that are killed, a dictionary
-- whose writers are killed, logs whose outputs fail, telemetry whose collector is away.
--
-- Usage: luajit bench/soak.lua SCENARIO [options]      (see usage below)
--
-- Everything happens on 127.0.0.1; what is started here ends here. Ends with 1 when anything was
-- wrong. Knows no servers but ours: those are run.lua's.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/?.lua;" .. folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("soak", [[
usage: luajit bench/soak.lua SCENARIO [options]

scenarios:
  stress   jobs of all kinds on many connections, every result compared
  spin     quick requests at a fixed rate, with and without some that never end
  kill     a worker is killed every second; what was answered, lost and logged is counted
  log-kill   the same, and the process that writes the log is killed at random points
  log-full   the log's disk is full for the second third of the time (root only)
  log-stall  the reader of the log's pipe stands still for the second third of the time
  otlp-down  the OpenTelemetry collector is away for the second third of the time
  dict     two writers and two readers of a dictionary, writers killed every few milliseconds
  upgrade  the program is replaced by USR2 again and again
  reload   the app is reloaded again and again, good and broken versions in turn
  leaks    leaks are planted among honest waits, with reloads: all are found, and nothing else is

  --seconds N         of each measurement (default 60; spin 15)
  --connections N     stress, kill, log-*, otlp-down (default 64)
  --workers N         (default 2; spin 1, so that the clients have a core of their own)
  --rate N            requests/s: spin (default 1000), kill, log-*, otlp-down (default 2000),
                      leaks (default 100)
  --rounds N          spin: pairs of measurements (default 3)
  --reloads N         reload: how many (default 1000)
  --kills N           reload: 1 kills a worker every second meanwhile (default 0)
  --upgrades N        upgrade: how many (default 200, half of which must fail)
  --slice TIME        vm.slice, for example 1ms
  --set KEY=VALUE     a setting of the server; may be repeated
  --seed N            of the stress (default: the time)
  --perilune FILE     the launcher (default build/release/bin/perilune)
  --library FOLDER    that the server loads LuaJIT from, for example
                      build/peers/usr/lib/x86_64-linux-gnu (.ci/setup bench)
]])

---@class perilune.soak.Options
---@field scenario string
---@field source string the folder bench/
---@field folder string temporary
---@field app string
---@field perilune string
---@field library? string
---@field settings string[] "key=value"
---@field seconds? integer
---@field connections integer
---@field workers? integer
---@field rate? integer
---@field rounds integer
---@field reloads integer
---@field upgrades integer
---@field kills boolean
---@field seed integer

local settings = {}

local ARGUMENTS = {
  numbers = { -- default, least, most
    seconds = { nil, 1, 86400 }, connections = { 64, 1, 2000 }, workers = { nil, 1, 64 },
    upgrades = { 200, 2, 100000 }, reloads = { 1000, 10, 1000000 }, kills = { 0, 0, 1 },
    rate = { nil, 1, 100000 }, rounds = { 3, 1, 1000 }, seed = { nil, 1, 2147483646 },
  },
  files = { library = false },
  texts = {
    set = function(_, value) table.insert(settings, value) end,
    slice = function(_, value) table.insert(settings, "vm.slice=" .. value) end,
  },
  word = function(opts, word)
    local is_first = not opts.scenario
    opts.scenario = opts.scenario or word
    return is_first
  end,
}

local SCENARIOS = { stress = "soak.stress", spin = "soak.spin", kill = "soak.kill",
  ["log-kill"] = "soak.kill", ["log-full"] = "soak.log", ["log-stall"] = "soak.log",
  ["otlp-down"] = "soak.otlp",
  dict = "soak.dict", reload = "soak.reload", leaks = "soak.leaks", upgrade = "soak.upgrade" }

local function main()
  local opts = script.parse(ARGUMENTS)
  opts.settings = settings
  opts.seed = opts.seed or os.time() % 1000000 + 1
  local scenario = SCENARIOS[opts.scenario or ""] or script.misuse("which scenario?")
  opts.source = script.source
  opts.app = opts.source .. "/../spec/support/app/stress"
  opts.seconds = opts.seconds or opts.scenario == "spin" and 15
    or opts.scenario == "reload" and opts.reloads
    or opts.scenario == "upgrade" and opts.upgrades * 5 or 60
  opts.kills = opts.kills == 1
  opts.folder = process.make_temp_folder()
  local _, commit = process.run({ "git", "-C", opts.source, "describe", "--always", "--dirty" }, 10)
  print(("soak %s, commit %s, seed %d"):format(table.concat(arg, " "), commit:gsub("\n", ""),
    opts.seed))
  local ok, result = xpcall(require(scenario).run, debug.traceback, opts)
  process.run({ "rm", "-rf", opts.folder }, 60)
  if not ok then
    io.stderr:write("soak: ", tostring(result), "\n")
  end
  print(ok and result and "soak: all is well" or "soak: FAILED")
  os.exit(ok and result and 0 or 1)
end

main()
