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
local script = require("script").new("startup", [[
usage: luajit bench/startup.lua [PEER ...] [--starts N]      (default: perilune)
                                [--perilune FILE] [--build FOLDER] [--unpacked FOLDER]
]])
local statistics = require("statistics")
local fail = script.fail

local READY_S_MAX = 15
local POLL_S = 0.0005
local PORT_FIRST = 18900

local ARGUMENTS = {
  numbers = { starts = { 20, 1, 1000 } },
  files = { build = "build/bench", unpacked = "build/peers" },
  word = function(opts, word)
    opts.peers = opts.peers or {}
    table.insert(opts.peers, peers.find(word))
    return peers.find(word)
  end,
}

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
  local opts = script.parse(ARGUMENTS)
  opts.peers = opts.peers or { peers.find("perilune") }
  local place = {
    source = script.source,
    build = opts.build,
    unpacked = opts.unpacked,
    perilune = opts.perilune,
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
