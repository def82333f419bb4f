-- bench/context.lua - what the context of a request costs in the core: reading it from a head, and
-- writing what goes out on its behalf.
--
-- Usage: luajit bench/context.lua [--rounds N] [--perilune FILE]
--
-- Builds context/host.c with the objects that the launcher was made of: they must have been built
-- (`make build`). What it costs from Lua tells `perilune test bench/micro/context.lua`.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("context", [[
usage: luajit bench/context.lua [--rounds N] [--perilune FILE]
]])
local fail = script.fail

local BOUND_NS = 100 -- both together

local HEADS = {
  { name = "none", label = "7 other fields: a new trace" },
  { name = "traceparent", label = "and traceparent" },
  { name = "all_three", label = "and tracestate (2 members), baggage (3)" },
  { name = "trusted", label = "and request id, tenant, tier of a trusted peer" },
}

--- Compiles the host beside the launcher, optimised as a whole as that one is.
---@return string path
local function build(perilune)
  local tree = perilune:match("^(.*)/bin/[^/]*$") or fail("no build tree around %s", perilune)
  local out = tree .. "/bin/context"
  local command = ('cc -std=gnu11 -O2 -flto=auto -fuse-linker-plugin '
    .. '-I"$1/core" "$1/bench/context/host.c" '
    .. '$(find "$2/CMakeFiles" -path "*/pl_http.dir/*.o" -o -path "*/pl_base.dir/*.o" '
    .. '-o -path "*/llhttp.dir/*.o") -o "$3" $(pkg-config --libs jemalloc) -lm -lpthread')
  local ok, output = process.run(
    { "sh", "-c", command, "sh", script.source .. "/..", tree, out }, 300)
  if not ok then
    fail("cannot build the host: %s", output)
  end
  return out
end

local function main()
  local opts = script.parse({ numbers = { rounds = { 9, 1, 99 } } })
  local host = build(opts.perilune)
  local ok, output = process.run({ "taskset", "-c", "0", host, tostring(opts.rounds) }, 300)
  if not ok then
    fail("%s", output)
  end
  print("| head | extract | inject | together |")
  print("|---|---:|---:|---:|")
  for _, head in ipairs(HEADS) do
    local extract, inject = output:match("name=" .. head.name
      .. " fields=%d+ extract_ns=([%d.]+) inject_ns=([%d.]+)")
    if not extract then
      fail("%s", output)
    end
    local both = extract + inject
    print(("| %s | %.0f ns | %.0f ns | %.0f ns: %s |"):format(head.label, extract, inject, both,
      both <= BOUND_NS and "met" or "over " .. BOUND_NS))
  end
end

main()
