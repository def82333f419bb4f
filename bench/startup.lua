-- bench/startup.lua - the time from starting a server to its first answer: median of 20 starts.
--
-- Usage: luajit bench/startup.lua [PEER ...] [--starts N]      (default: perilune)
--                                 [--perilune FILE] [--build FOLDER] [--unpacked FOLDER]
--
-- Counted from fork, so the cost of starting a program is in it. The other peers must have been
-- built by bench/run.lua before.

local folder = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = folder .. "/harness/?.lua;" .. package.path

local client = require("client")
local peers = require("peers")
local process = require("process")
local statistics = require("statistics")

local STARTS_MAX = 1000
local READY_S_MAX = 15
local POLL_S = 0.0005
local PORT_FIRST = 18900

local function fail(format, ...)
  io.stderr:write("startup: ", format:format(...), "\n")
  os.exit(1)
end

local VALUES = {
  ["--starts"] = "starts", ["--perilune"] = "perilune", ["--build"] = "build",
  ["--unpacked"] = "unpacked",
}

local function parse(args)
  local opts = { starts = 20, peers = {} }
  local at = 1
  while args[at] do
    local name = VALUES[args[at]]
    if name then
      at = at + 1
      opts[name] = args[at] or fail("%s takes a value", args[at - 1])
    else
      table.insert(opts.peers, peers.find(args[at]) or fail("unknown peer %s", args[at]))
    end
    at = at + 1
  end
  opts.starts = tonumber(opts.starts)
  if not opts.starts or opts.starts < 1 or opts.starts > STARTS_MAX then
    fail("--starts takes a number from 1 to %d", STARTS_MAX)
  end
  if #opts.peers == 0 then
    opts.peers = { peers.find("perilune") }
  end
  return opts
end

local function absolute(path)
  local _, here = process.run({ "pwd" }, 5)
  return path:sub(1, 1) == "/" and path or here:gsub("\n", "") .. "/" .. path
end

---@return number seconds
local function start_once(place, peer, serve, output)
  local argv, env = peer.start(place, serve)
  local begin = process.now()
  local pid = process.start({ argv = argv, env = env, cwd = serve.folder, output = output })
  local ready
  while process.now() - begin < READY_S_MAX do
    if client.request(serve.port, { path = "/", seconds_max = 1 }) then
      ready = process.now() - begin
      break
    end
    process.sleep(POLL_S)
  end
  process.stop(pid)
  return ready or fail("%s did not answer in %d s, see %s", peer.label, READY_S_MAX, output)
end

local function measure(place, peer, opts, temp)
  local seconds = {}
  for i = 1, opts.starts do
    -- A port of its own each time: one that was just closed may not be free yet.
    local serve = { port = PORT_FIRST + i, folder = ("%s/%s-%d"):format(temp, peer.name, i) }
    process.make_folder(serve.folder)
    seconds[i] = start_once(place, peer, serve, serve.folder .. "/output")
  end
  table.sort(seconds)
  print(("%-18s median %.1f ms, least %.1f, most %.1f (%d starts)"):format(peer.label,
    statistics.median(seconds) * 1000, seconds[1] * 1000, seconds[#seconds] * 1000, #seconds))
end

local function main()
  local opts = parse(arg)
  local source = absolute(folder)
  local place = {
    source = source,
    build = absolute(opts.build or source .. "/../build/bench"),
    unpacked = absolute(opts.unpacked or source .. "/../build/peers"),
    perilune = absolute(opts.perilune or source .. "/../build/release/bin/perilune"),
  }
  local temp = process.make_temp_folder()
  for _, peer in ipairs(opts.peers) do
    local missing = peers.missing(peer, place)
    if missing then
      fail("%s is missing: %s", peer.label, missing)
    end
    measure(place, peer, opts, temp)
  end
  process.run({ "rm", "-rf", temp }, 60)
end

main()
