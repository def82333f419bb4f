-- bench/spans.lua - what a span costs: to note it, to forget it and to keep it.
--
-- Usage: luajit bench/spans.lua [--rounds N] [--requests N] [--perilune FILE]
--
-- In the core: spans/host.c, which is built with the objects that the launcher was made of. From
-- Lua: requests to a server with one worker, whose handler times 48 spans by the CPU of its thread.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local process = require("process")
local script = require("script").new("spans", [[
usage: luajit bench/spans.lua [--rounds N] [--requests N] [--perilune FILE]
]])
local swarm = require("swarm")
local fail = script.fail

local PORT = 18797
local PATIENCE_S = 60
local SPANS = 48 -- of a request
local BOUND_NS = 100
local CASES = {
  { "request_forgotten", "the end of a request that is not kept" },
  { "request_kept", "of one that is kept" },
  { "wait_forgotten", "a wait, noted and forgotten" },
  { "wait_kept", "a wait, noted and kept" },
}
local WAYS = {
  { "/none", "xpcall alone" }, { "/span", "P.span" }, { "/set", "P.span with P.span_set" },
}

--- Compiles the host beside the launcher, optimised as a whole as that one is.
---@return string path
local function build(place)
  local tree = place.perilune:match("^(.*)/bin/[^/]*$")
    or fail("no build around %s", place.perilune)
  local out = tree .. "/bin/spans"
  local command = ('cc -std=gnu11 -O2 -flto=auto -fuse-linker-plugin '
    .. '-I"$1/core" $(pkg-config --cflags luajit) '
    .. '"$1/bench/spans/host.c" $(find "$2/CMakeFiles" -path "*/pl_vm.dir/*.o" -o '
    .. '-path "*/pl_fabric.dir/*.o" -o -path "*/pl_http.dir/*.o" -o -path "*/pl_base.dir/*.o" -o '
    .. '-path "*/llhttp.dir/*.o") -o "$3" $(pkg-config --libs jemalloc luajit) -lm -lpthread')
  local ok, output = process.run({ "sh", "-c", command, "sh", place.source .. "/..", tree, out },
    300)
  if not ok then
    fail("cannot build the host: %s", output)
  end
  return out
end

local function print_line(what, ns, bytes)
  print(("| %s | %.0f ns: %s | %s |"):format(what, ns,
    ns <= BOUND_NS and "met" or "over " .. BOUND_NS, bytes))
end

local function core(place, opts)
  local ok, output = process.run({ "taskset", "-c", "0", build(place), tostring(opts.rounds) }, 300)
  if not ok then
    fail("%s", output)
  end
  print("| in the core | each | bytes of the ring |")
  print("|---|---:|---:|")
  for _, case in ipairs(CASES) do
    local ns, bytes = output:match("name=" .. case[1] .. " ns=([%d.]+) bytes=(%d+)")
    print_line(case[2], tonumber(ns), bytes)
  end
end

local function start(place)
  local server = { home = place.home .. "/server" }
  process.make_folder(server.home)
  server.pid = process.start({ output = server.home .. "/output",
    env = { XDG_RUNTIME_DIR = server.home },
    argv = { place.perilune, "run", place.source .. "/apps/spans", "--listen",
      "127.0.0.1:" .. PORT, "--workers", "1", "--name", "spans-" .. PORT, "--set",
      "log.access=false" } })
  server.clients = swarm.new(PORT, function(_, reply, tag) tag(reply) end,
    function(_, _, why) fail("a connection was lost: %s", why) end)
  local due = process.now() + PATIENCE_S
  while not server.clients:connect() do
    if process.now() > due or not process.is_running(server.pid) then
      fail("the server did not start")
    end
    process.sleep(0.05)
  end
  return server
end

--- Asks `count` times, one after the other; hands on each body.
local function ask(server, target, count, fn)
  local request, conn = swarm.request("GET", target), server.clients.conns[1]
  local due = process.now() + PATIENCE_S
  for _ = 1, count do
    server.clients:send(conn, request, function(reply)
      if reply.status ~= 200 then
        fail("%s: %s", target, reply.body:sub(1, 300))
      end
      fn(reply.body)
    end)
    while conn.tag do
      if process.now() > due then
        fail("no answer to %s", target)
      end
      server.clients:wait(0.1)
    end
  end
end

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

local function from_lua(place, opts)
  local server, none = start(place), nil
  print(("\n| from Lua, %d in a request | each, less xpcall | bytes of Lua |"):format(SPANS))
  print("|---|---:|---:|")
  for _, way in ipairs(WAYS) do
    local ns, bytes = {}, {}
    ask(server, ("%s?count=%d"):format(way[1], SPANS), opts.requests, function(body)
      local a, b = body:match("^([%d.-]+) ([%d.-]+)$")
      ns[#ns + 1], bytes[#bytes + 1] = tonumber(a), tonumber(b)
    end)
    none = none or median(ns)
    print_line(way[2], median(ns) - none, ("%.2f"):format(median(bytes)))
  end
  server.clients:close_all()
  process.stop(server.pid)
end

local function main()
  local opts = script.parse({ numbers = {
    rounds = { 9, 1, 99 }, requests = { 3000, 10, 1000000 },
  } })
  local place = { source = script.source, home = process.make_temp_folder(),
    perilune = opts.perilune }
  core(place, opts)
  from_lua(place, opts)
  process.run({ "rm", "-rf", place.home }, 20)
end

main()
