-- bench/soak/log.lua - a log whose output fails for a while, under a constant load: its disk is
-- full, or the reader of its pipe stands still.
--
-- Three parts of equal length: before, while it fails, afterwards. Every request must be answered;
-- each that was is in the log once, or among those that the log says were dropped; no process grows
-- past its rings. Latencies of the parts are told side by side.

local ffi = require("ffi")
local open_loop = require("soak.open_loop")
local process = require("process")
local server = require("soak.server")
local swarm = require("swarm")

local DRAIN_S_MAX = 60
local SETTLE_S_MAX = 30 -- until the log has caught up
local DISK_BYTES = 256 * 1024 * 1024
local FREE_BYTES = 65536 -- what the full disk takes before it is full
local TAIL = "&" .. ("x"):rep(500) -- of targets: so that rings are full within seconds
local SIGSTOP, SIGCONT = 19, 18

local M = {}

---@class perilune.soak.Output where the log goes
---@field prefix? string[]
---@field path string of the log, seen from the server
---@field seen fun(running: perilune.soak.Server): string the same, seen from here
---@field fail fun(running: perilune.soak.Server)
---@field mend fun(running: perilune.soak.Server)
---@field finish fun()

-- A tmpfs of the server's own, seen through /proc; it is full while a filler lies in it.
local function small_disk(folder)
  process.make_folder(folder)
  local function inside(running, name)
    return ("/proc/%d/root%s/%s"):format(running.pid, folder, name)
  end
  return {
    prefix = { "unshare", "-m", "sh", "-c",
      ("mount -t tmpfs -o size=%d none '%s' && exec \"$@\""):format(DISK_BYTES, folder), "sh" },
    path = folder .. "/log",
    seen = function(running)
      return inside(running, "log")
    end,
    fail = function(running)
      local filler = inside(running, "filler")
      local size = ("$(( $(stat -f -c %%a %s) * 4096 - %d ))"):format(
        process.quote(inside(running, "")), FREE_BYTES)
      assert(os.execute(("fallocate -l %s %s"):format(size, process.quote(filler))) == 0)
    end,
    mend = function(running)
      assert(os.remove(inside(running, "filler")))
    end,
    finish = function() end,
  }
end

-- A pipe, and a reader that puts all of it into a file.
local function slow_reader(folder)
  process.make_folder(folder)
  local pipe, file = folder .. "/pipe", folder .. "/log"
  assert(process.run({ "mkfifo", pipe }, 10))
  local reader = process.start({ argv = { "cat", pipe }, output = file })
  return {
    path = pipe,
    seen = function()
      return file
    end,
    fail = function()
      ffi.C.kill(reader, SIGSTOP)
    end,
    mend = function()
      ffi.C.kill(reader, SIGCONT)
    end,
    finish = function()
      process.stop(reader)
    end,
  }
end

local function memory_mib(running)
  local _, pss_bytes = process.memory(running.pid)
  return pss_bytes / 1048576
end

local PARTS = { "before", "failing", "after" }

local function drive(running, output, opts, state)
  local pending, free, clients = 0, {}, nil
  local part_s = opts.seconds / #PARTS
  local part = 1

  local function on_reply(conn, reply, tag)
    pending = pending - 1
    free[#free + 1] = conn
    if reply.status ~= 200 then
      state.wrong = state.wrong + 1
      return
    end
    state.answered[tag.i] = true
    state.answers = state.answers + 1
    table.insert(state.latencies[tag.part], process.now() - tag.due)
  end

  local function on_lost(_, tag)
    state.wrong = state.wrong + 1
    pending = pending - (tag and 1 or 0)
    free[#free + 1] = assert(clients:connect())
  end

  clients = swarm.new(running.port, on_reply, on_lost)
  for i = 1, opts.connections do
    free[i] = assert(clients:connect())
  end
  local sent = open_loop.run(clients, {
    rate = opts.rate or 2000, seconds = opts.seconds, drain_s_max = DRAIN_S_MAX,
    pending = function() return pending end,
    send = function(i, due)
      local conn = table.remove(free, 1)
      if not conn then
        return false
      end
      pending = pending + 1
      clients:send(conn, swarm.request("GET", ("/quick?i=%d%s"):format(i, TAIL)),
        { i = i, due = due, part = part })
      return true
    end,
    on_turn = function(now, begin)
      local at = math.min(#PARTS, math.floor(math.max(0, now - begin) / part_s) + 1)
      while part < at do
        part = part + 1
        state.pss[part - 1] = memory_mib(running)
        output[part == 2 and "fail" or "mend"](running)
      end
    end,
  })
  state.pss[#PARTS] = memory_mib(running)
  clients:close_all()
  return sent
end

-- What the log has: numbers, drops, and what it tells of its output.
local function read_log(path)
  local log = { counts = {}, dropped = 0, told = {} }
  for line in io.lines(path) do
    local i = line:match('"msg":"request".*"target":"/quick%?i=(%d+)')
    if i then
      i = tonumber(i)
      log.counts[i] = (log.counts[i] or 0) + 1
    elseif line:find('"log records dropped', 1, true) then
      log.dropped = log.dropped + tonumber(line:match('"info":(%d+)') or 0)
    elseif line:find('"log output had', 1, true) then
      table.insert(log.told, line)
    end
  end
  return log
end

local function count_logged(log)
  local logged, twice = 0, 0
  for _, count in pairs(log.counts) do
    logged = logged + 1
    twice = twice + (count > 1 and 1 or 0)
  end
  return logged, twice
end

local function check_log(state, log)
  local logged, twice = count_logged(log)
  print(("log: %d answered = %d in the log + %d told to be dropped%s; %d came twice"):format(
    state.answers, logged, log.dropped,
    logged + log.dropped == state.answers and "" or ": THEY ARE NOT", twice))
  for _, line in ipairs(log.told) do
    print("log: " .. line)
  end
  return logged + log.dropped == state.answers and twice == 0 and #log.told > 0
end

local function print_parts(state)
  for part, name in ipairs(PARTS) do
    local latencies = state.latencies[part]
    table.sort(latencies)
    print(("%-8s %7d answers, P50 %.2f ms, P99 %.2f ms, longest %.0f ms; memory of all processes "
      .. "%.1f MiB"):format(name, #latencies, open_loop.percentile(latencies, 50) * 1e3,
      open_loop.percentile(latencies, 99) * 1e3, open_loop.percentile(latencies, 100) * 1e3,
      state.pss[part]))
  end
end

--- Runs the load on an output that fails in the middle.
---@param opts perilune.soak.Options
---@return boolean ok
function M.run(opts)
  local output = (opts.scenario == "log-full" and small_disk or slow_reader)(opts.folder .. "/log")
  local running = assert(server.start(opts.folder, {
    perilune = opts.perilune, app = opts.app, workers = opts.workers or 2, library = opts.library,
    settings = opts.settings, access_log = true, log_output = output.path, prefix = output.prefix,
  }))
  local state = { answers = 0, wrong = 0, answered = {}, latencies = { {}, {}, {} }, pss = {} }
  local sent = drive(running, output, opts, state)
  local due, copy = process.now() + SETTLE_S_MAX, opts.folder .. "/copy"
  local log
  repeat -- the log may still be catching up; the disk goes with the server
    process.sleep(1)
    os.execute(("cp %s %s"):format(process.quote(output.seen(running)), process.quote(copy)))
    log = read_log(copy)
  until count_logged(log) + log.dropped >= state.answers or process.now() > due
  if not server.stop(running) then
    state.wrong = state.wrong + 1
    print("WRONG the server did not stop")
  end
  output.finish()
  print_parts(state)
  print(("stderr: %s"):format((server.read(running.output):match("the log cannot be written[^\n]*"))
    or "nothing"))
  local ok = check_log(state, log)
  print(("%s: %d sent, %d answered, %d wrong"):format(opts.scenario, sent, state.answers,
    state.wrong))
  return ok and state.wrong == 0 and state.answers == sent
end

return M
