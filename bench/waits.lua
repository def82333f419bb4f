-- bench/waits.lua - what it costs to know of each coroutine where and how long it waits.
--
-- Usage: luajit bench/waits.lua [--rounds N] [--perilune FILE] [--against FILE]
--
-- Parks a hundred tasks again and again, by turns in a server, which keeps the wait table and the
-- block profile, and in a tool (`perilune request`), which keeps neither; but it too notes when
-- somebody parks. For the whole price give a launcher that was built before there was any of it
-- (--against). Told are CPU nanoseconds of one park and resume.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("waits", [[
usage: luajit bench/waits.lua [--rounds N] [--perilune FILE] [--against FILE]
]])
local fail = script.fail

local BOUND_NS = 40
local TASKS, PARKS = 100, 2000 -- limits.tasks is 100
local PORT = 18499

local function run(argv)
  local ok, output = process.run(argv, 60)
  local ns = ok and tonumber((output:gsub("%s+$", "")))
  if not ns then
    fail("%s says: %s", table.concat(argv, " "), output)
  end
  return ns
end

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

local function main()
  local opts = script.parse({
    numbers = { rounds = { 9, 1, 1000 } }, files = { against = false },
  })
  local target = ("/park/%d/%d"):format(TASKS, PARKS)
  local app = script.source .. "/waits"

  local home = process.make_temp_folder()
  local pid = process.start({ output = home .. "/output", env = { XDG_RUNTIME_DIR = home },
    argv = { opts.perilune, "run", app, "--workers", "1", "--listen", "127.0.0.1:" .. PORT,
      "--set", "log.access=false" } })
  local up = process.now() + 10
  while not process.run({ "curl", "-sf", ("http://127.0.0.1:%d/park/1/1"):format(PORT) }, 5) do
    if process.now() > up then
      fail("the server does not answer; see %s/output", home)
    end
    process.sleep(0.05)
  end
  local other = opts.against or opts.perilune
  local with, without, price = {}, {}, {}
  for i = 1, opts.rounds do
    with[i] = run({ "curl", "-sS", ("http://127.0.0.1:%d%s"):format(PORT, target) })
    without[i] = run({ other, "request", "GET", target, "--app", app })
    price[i] = with[i] - without[i]
  end
  process.stop(pid)
  print(("park and resume, of %d x %d, medians of %d rounds"):format(TASKS, PARKS, opts.rounds))
  print(("  with the wait table     %6.1f ns"):format(median(with)))
  print(("  without                 %6.1f ns"):format(median(without)))
  local cost = median(price)
  print(("  its price               %6.1f ns   %s (goal: at most %d)"):format(cost,
    cost <= BOUND_NS and "reached" or "MISSED", BOUND_NS))
end

main()
