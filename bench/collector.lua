-- bench/collector.lua - collection between requests against LuaJIT's own collector: CPU time of
-- handlers and peak heap, on the same 60,000 requests in turns.
--
-- Usage: luajit bench/collector.lua [--rounds N] [--requests N] [--per-turn N] [--perilune FILE]
--
-- Builds collector/host.c with the objects that the launcher was made of: they must have been built
-- (`make build`). Why not through sockets, and what each side is, stands in that file.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("collector", [[
usage: luajit bench/collector.lua [--rounds N] [--requests N] [--per-turn N] [--perilune FILE]
]])
local statistics = require("statistics")
local fail = script.fail

local P999_MAX, PEAK_MAX = 0.4, 1.0 -- of LuaJIT's
local RUN_S_MAX = 300

local SIDES = {
  { mode = "between", label = "Perilune, between requests" },
  { mode = "luajit", label = "LuaJIT's defaults, inside them" },
}

local ARGUMENTS = { numbers = {
  rounds = { 5, 1, 100 }, requests = { 60000, 1000, 1000000 }, per_turn = { 16, 1, 256 },
} }

--- Compiles the host beside the launcher, where the Lua modules are found.
---@return string path
local function build(perilune)
  local tree = perilune:match("^(.*)/bin/[^/]*$") or fail("no build tree around %s", perilune)
  local out = tree .. "/bin/collector"
  local command = ('cc -std=gnu11 -O2 -fno-lto -I"$1/core" -I"$1/core/include" '
    .. '$(pkg-config --cflags luajit libuv) "$1/bench/collector/host.c" '
    .. '$(find "$2/CMakeFiles" -path "*/pl_*.dir/*.o" -o -path "*/llhttp.dir/*.o") '
    .. '-o "$3" -Wl,-E $(pkg-config --libs luajit libuv jemalloc libnghttp2 zlib) '
    .. '$(pkg-config --libs --silence-errors libedit) -lm -lpthread')
  local ok, output = process.run(
    { "sh", "-c", command, "sh", script.source .. "/..", tree, out }, 300)
  if not ok then
    fail("cannot build the host: %s", output)
  end
  return out
end

local function measure(host, app, mode, opts)
  local ok, output = process.run({ "taskset", "-c", "0", host, app, mode,
    tostring(opts.requests), tostring(opts.per_turn) }, RUN_S_MAX)
  if not ok then
    fail("%s: %s", mode, output)
  end
  local sample = {}
  for name, number in output:gmatch("([%w_]+)=([%d.]+)") do
    sample[name] = tonumber(number)
  end
  if sample.requests ~= opts.requests then
    fail("%s: %s", mode, output)
  end
  return sample
end

local function print_rows(medians)
  print("| collection | P50 | P99 | P99.9 | P99.99 | most | peak heap |")
  print("|---|---:|---:|---:|---:|---:|---:|")
  for _, side in ipairs(SIDES) do
    local m = medians[side.mode]
    print(("| %s | %.1f µs | %.1f | %.1f | %.1f | %.1f | %.1f MB |"):format(side.label, m.p50_us,
      m.p99_us, m.p999_us, m.p9999_us, m.most_us, m.peak_bytes / 1e6))
  end
  local a, b = medians.between, medians.luajit
  print(("| ratio | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |"):format(a.p50_us / b.p50_us,
    a.p99_us / b.p99_us, a.p999_us / b.p999_us, a.p9999_us / b.p9999_us, a.most_us / b.most_us,
    a.peak_bytes / b.peak_bytes))
end

local function verdict(what, value, bound)
  print(("%s: %.2f of LuaJIT's defaults (max %.2f): %s"):format(what, value, bound,
    value <= bound and "met" or "NOT MET"))
end

local function main()
  local opts = script.parse(ARGUMENTS)
  local host = build(opts.perilune)
  local samples, medians = { between = {}, luajit = {} }, {}

  print(("%d requests, %d a turn, 100,000 live objects, medians of %d rounds"):format(
    opts.requests, opts.per_turn, opts.rounds))
  for round = 1, opts.rounds do
    for turn = 0, 1 do
      local side = SIDES[(round + turn) % 2 + 1]
      local sample = measure(host, script.source .. "/apps/collector", side.mode, opts)
      table.insert(samples[side.mode], sample)
      io.stderr:write(("round %d, %s: P99.9 %.1f µs, peak %.1f MB\n"):format(round, side.mode,
        sample.p999_us, sample.peak_bytes / 1e6))
    end
  end
  for mode, list in pairs(samples) do
    medians[mode] = statistics.medians(list)
  end
  print_rows(medians)
  verdict("P99.9 of a handler's CPU", medians.between.p999_us / medians.luajit.p999_us, P999_MAX)
  verdict("peak heap", medians.between.peak_bytes / medians.luajit.peak_bytes, PEAK_MAX)
end

main()
