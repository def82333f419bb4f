-- Where the log goes: files that are rotated, syslog, and outputs that fail, stall or are closed;
-- and that each record comes out once, whoever is killed.

local json = require("perilune.json")
local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")

local APP = "spec/support/app/wire"
local BURST = 100 -- requests that are sent before their responses are read
local IN_A_RING = 20000 -- records that find room even when nobody takes any
-- More than do, when their targets have this at the end.
local OVERFLOW, LONG = 6000, "&" .. ("x"):rep(900)

local function serve(settings, opts)
  opts = opts or {}
  opts.app, opts.args = APP, opts.args or {}
  for _, pair in ipairs(settings) do
    table.insert(opts.args, "--set")
    table.insert(opts.args, pair)
  end
  return process.server(opts)
end

-- Requests one after the other, numbered from `first`; all must be answered.
local function ask_many(port, first, count, tail)
  local wire = assert(sockets.connect(port))
  local last = first + count - 1
  while first <= last do
    local stop = math.min(first + BURST - 1, last)
    local parts = {}
    for i = first, stop do
      parts[#parts + 1] = ("GET /text?i=%d%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(i, tail or "")
    end
    assert(wire:send(table.concat(parts)))
    for _ = first, stop do
      assert.equal(200, assert(wire:response()).status)
    end
    first = stop + 1
  end
  wire:close()
end

-- How often each number stands in the log; every line must be whole.
local function count_numbers(text, counts)
  counts = counts or {}
  for line in text:gmatch("[^\n]*\n?") do
    if line ~= "" then
      assert(line:sub(-2) == "}\n" and line:sub(1, 9) == '{"time":"', line)
      local i = tonumber(line:match('"msg":"request".-"target":"/text%?i=(%d+)'))
      if i then
        counts[i] = (counts[i] or 0) + 1
      end
    end
  end
  return counts
end

-- What the log says was dropped.
local function count_dropped(text)
  local sum = 0
  for line in text:gmatch("[^\n]+") do
    if line:find('"log records dropped', 1, true) then
      sum = sum + tonumber(line:match('"info":(%d+)') or 0)
    end
  end
  return sum
end

local function assert_each_once(counts, from, to)
  for i = from, to do
    if counts[i] ~= 1 then
      error(("request %d stands %d times in the log"):format(i, counts[i] or 0), 2)
    end
  end
end

-- Each answered request is in the log, or counted as dropped.
local function assert_all_accounted(text, answered)
  local logged = 0
  for i, count in pairs(count_numbers(text)) do
    assert.equal(1, count, "request " .. i)
    logged = logged + 1
  end
  assert.equal(answered, logged + count_dropped(text))
end

local function resident_kib(pid)
  return tonumber(process.slurp(("/proc/%d/status"):format(pid)):match("VmRSS:%s*(%d+)"))
end

describe("a log file", function()
  after_each(process.cleanup)

  it("is rotated by size, and no record is lost by it", function()
    local path = process.folder() .. "/log"
    local server = serve({ "log.output=" .. path, "log.rotate_size=64K", "log.rotate_keep=100" })
    ask_many(server.port, 1, 2000)
    assert.equal(0, server:stop())
    local counts, files = count_numbers(process.slurp(path)), 1
    while process.slurp(path .. "." .. files) do
      local text = process.slurp(path .. "." .. files)
      assert.is_true(#text <= 65536 + 1024, "a file of " .. #text)
      count_numbers(text, counts)
      files = files + 1
    end
    assert.is_true(files > 5)
    assert_each_once(counts, 1, 2000)
  end)

  it("leaves log.rotate_keep old ones, the newest as FILE.1", function()
    local path = process.folder() .. "/log"
    local server = serve({ "log.output=" .. path, "log.rotate_size=16K", "log.rotate_keep=2" })
    ask_many(server.port, 1, 1000)
    assert.equal(0, server:stop())
    assert.is_nil(process.slurp(path .. ".3"))
    local numbers = {}
    for _, suffix in ipairs({ ".2", ".1", "" }) do
      for i in process.slurp(path .. suffix):gmatch("i=(%d+)") do
        numbers[#numbers + 1] = tonumber(i)
      end
    end
    for n, i in ipairs(numbers) do
      assert.equal(numbers[1] + n - 1, i)
    end
    assert.equal(1000, numbers[#numbers])
  end)

  it("that cannot be opened again is said so, in it and on stderr", function()
    local folder = process.folder()
    local path = folder .. "/log"
    local server = serve({ "log.output=" .. path })
    ask_many(server.port, 1, 1)
    assert(os.rename(path, path .. ".old"))
    assert.equal(0, os.execute("mkdir " .. path)) -- as if its folder could not be written to
    server.process:kill("USR1")
    assert.is_string(server.process:wait_for("err",
      "(the log cannot be opened again at [^\n]+/log %(.-%): the file that was open goes on)\n"))
    assert.is_true(posix.eventually(function()
      return process.slurp(path .. ".old"):find(
        "log file cannot be opened again: the old one goes on", 1, true)
    end) ~= nil)
    assert.equal(0, server:stop())
  end)

  it("that cannot be rotated goes on growing, and says so", function()
    local folder = process.folder({ ["log.1/x"] = "" }) -- nothing can be renamed over that
    local server = serve({ "log.output=" .. folder .. "/log", "log.rotate_size=16K",
      "log.rotate_keep=1" })
    ask_many(server.port, 1, 500)
    ask_many(server.port, 501, 500)
    assert.equal(0, server:stop())
    local text = process.slurp(folder .. "/log")
    assert_each_once(count_numbers(text), 1, 1000)
    local _, told = text:gsub("log file cannot be rotated", "")
    assert.equal(1, told)
  end)
end)

describe("syslog", function()
  after_each(process.cleanup)

  it("gets a message by RFC 5424 for each record", function()
    local path = process.folder() .. "/socket"
    local inbox = sockets.inbox(path)
    local server = serve({ "log.output=syslog:" .. path, "log.syslog_facility=local3",
      "name=notes" })
    ask_many(server.port, 1, 1)
    local message = assert(inbox:take("/text?i=1"))
    local pri, host, pid, id, line = message:match(
      "^<(%d+)>1 %d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ (%S+) notes (%d+) request "
        .. '%[meta sequenceId="(%d+)"%] ({.*})$')
    assert.equal(19 * 8 + 6, tonumber(pri), message)
    assert.is_true(#host > 0 and tonumber(id) > 0)
    assert.equal(server.process.pid, tonumber(pid))
    assert.equal(200, json.decode(line).status)
    assert.equal(0, server:stop())
    inbox:close()
  end)

  it("that is not there holds up nobody, and gets what waited, and what was dropped", function()
    local path = process.folder() .. "/socket"
    local server = serve({ "log.output=syslog:" .. path })
    ask_many(server.port, 1, OVERFLOW, LONG)
    assert.is_string(server.process:wait_for("err", "the log cannot be written %((.-)%)"))
    local inbox = sockets.inbox(path)
    local logged, dropped, told = 0, 0, false
    local message = inbox:take("")
    while message do
      logged = logged + (message:find("/text?i=", 1, true) and 1 or 0)
      dropped = dropped + count_dropped(message)
      told = told or message:find("log output had failed and works again", 1, true) ~= nil
      message = inbox:take("", dropped > 0 and told and 0.2 or 2)
    end
    assert.equal(OVERFLOW, logged + dropped)
    assert.is_true(dropped > 0)
    assert.is_true(told)
    assert.equal(0, server:stop())
    inbox:close()
  end)

  it("at an address that is none keeps a server from starting", function()
    local run = process.run({ "run", APP, "--set", "log.output=syslog:udp://localhost:514" },
      { env = { XDG_RUNTIME_DIR = process.folder() } })
    assert.equal(78, run.code)
    assert.matches("log.output", run.err, 1, true)
    assert.matches("syslog:udp://127.0.0.1:514 with an address, not a name", run.err, 1, true)
  end)
end)

describe("an output that takes nothing", function()
  after_each(process.cleanup)

  it("holds up no request; what was dropped is counted when it goes on", function()
    local server = serve({})
    ask_many(server.port, 1, OVERFLOW, LONG) -- nobody reads its stdout yet
    assert.equal("it takes nothing",
      server.process:wait_for("err", "the log cannot be written %((.-)%)"))
    local control = process.family(server.process.pid)
    assert.is_true(resident_kib(control) < 65536)
    assert.is_string(server:wait_log("log output had stalled and goes on"))
    assert.equal(0, server:stop())
    local text = server:log()
    assert.is_true(count_dropped(text) > 0)
    assert_all_accounted(text, OVERFLOW)
  end)

  it("because its reader is gone is told on stderr, and nobody else is disturbed", function()
    local shell = process.spawn({ "sh", "-c",
      ('exec "%s" run %s --listen 127.0.0.1:0 --workers 1 | head -n 1'):format(
        process.launcher(), APP) }, { env = { XDG_RUNTIME_DIR = process.folder() } })
    local port = tonumber(shell:wait_for("err", "serving [^\n]*:(%d+)[^\n]*\n"))
    ask_many(port, 1, 1)
    ask_many(port, 2, OVERFLOW, LONG)
    assert.equal("Broken pipe", shell:wait_for("err", "the log cannot be written %((.-)%)"))
    assert.equal(200, assert(sockets.ask(port, "GET", "/text")).status)
  end)

  it("to the very end costs what has waited for it, and stderr says how much", function()
    local server = serve({ "log.output=/dev/full" })
    ask_many(server.port, 1, 10)
    assert.equal("No space left on device",
      server.process:wait_for("err", "the log cannot be written %((.-)%): records wait"))
    assert.equal(0, server:stop())
    local said = server.process:err()
    local count = said:match("No space left on device%): its last (%d+) records are lost\n")
    assert.is_true(count and tonumber(count) >= 10, said)
  end)

  local can_mount = process.spawn({ "unshare", "-m", "true" }):wait() == 0
  process.cleanup()
  local it_or_not = can_mount and it or pending

  it_or_not("because its disk is full loses what it says it has lost, and nothing else"
    .. (can_mount and "" or " (needs the right to mount a small tmpfs)"), function()
    local folder, runtime = process.folder(), process.folder()
    local script = ([[
      mount -t tmpfs -o size=32m none %s && dd if=/dev/zero of=%s/filler bs=4k 2>/dev/null
      truncate -s -64k %s/filler
      exec "%s" run %s --listen 127.0.0.1:0 --workers 1 --set log.output=%s/log]]):format(folder,
      folder, folder, process.launcher(), APP, folder)
    local shell = process.spawn({ "unshare", "-m", "sh", "-c", script },
      { env = { XDG_RUNTIME_DIR = runtime } })
    local port = tonumber(shell:wait_for("err", "serving [^\n]*:(%d+)[^\n]*\n"))
    assert.is_number(port, shell:err())
    ask_many(port, 1, OVERFLOW, LONG)
    assert.equal("No space left on device",
      shell:wait_for("err", "the log cannot be written %((.-)%)"))
    local inside = ("/proc/%d/root%s/"):format(shell.pid, folder)
    assert.is_true(os.remove(inside .. "filler"))
    assert.is_true(posix.eventually(function()
      return process.slurp(inside .. "log"):find("log output had failed and works again", 1, true)
    end) ~= nil)
    ask_many(port, OVERFLOW + 1, 1)
    assert.is_true(posix.eventually(function()
      local text = process.slurp(inside .. "log")
      return text:sub(-1) == "\n" and text:find(("i=%d\""):format(OVERFLOW + 1), 1, true)
        and text:find("log records dropped", 1, true)
    end) ~= nil)
    local text = process.slurp(inside .. "log")
    assert.is_true(count_dropped(text) > 0)
    assert_all_accounted(text, OVERFLOW + 1)
    shell:kill("TERM")
    assert.equal(0, shell:wait())
  end)
end)

-- Several connections, on each of which requests are sent, and then read what comes. Those that a
-- killed worker has had are lost; of all others the number is noted.
local Load = {}
Load.__index = Load

function Load:send(index, count)
  local wire, parts = self.wires[index] or assert(sockets.connect(self.port)), {}
  self.wires[index], self.sent[index] = wire, {}
  for n = 1, count do
    self.last = self.last + 1
    self.sent[index][n] = self.last
    parts[n] = ("POST /text?i=%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"):format(
      self.last, #self.body, self.body)
  end
  wire:send(table.concat(parts))
end

function Load:receive(index)
  local wire = self.wires[index]
  for _, number in ipairs(self.sent[index]) do
    local response = wire:response()
    if not response then
      wire:close()
      self.wires[index], self.lost = nil, self.lost + 1
      return
    end
    assert.equal(200, response.status)
    self.answered[#self.answered + 1] = number
  end
end

-- Kills the log's process, or a worker: one time in so many.
local function kill_one(server, random, kills, one_in)
  local control, workers = process.family(server.process.pid)
  local victim, kind = control, "control"
  if random(one_in) == 1 then
    victim, kind = workers[random(#workers)], "worker"
  end
  if victim then
    process.signal(victim, "KILL")
    kills[kind] = kills[kind] + 1
  end
end

-- Load for some seconds, and kills at random points of it: amid the requests, or a little later,
-- when their records are written.
local function load_and_kill(server, seconds, random, opts)
  local load = setmetatable({ port = server.port, wires = {}, sent = {}, answered = {}, last = 0,
    lost = 0, body = ("x"):rep(opts.body_bytes) }, Load)
  local due, kills = posix.now() + seconds, { control = 0, worker = 0 }
  while posix.now() < due and load.last < IN_A_RING do
    local point = random(32) -- past the last connection: none now
    for index = 1, 8 do
      load:send(index, 15)
      if point == index then
        kill_one(server, random, kills, opts.worker_in)
      end
    end
    if point > 8 and random(2) == 1 then
      posix.sleep(random(10) / 1000)
      if point < 12 then
        kill_one(server, random, kills, opts.worker_in)
      end
    end
    for index = 1, 8 do
      load:receive(index)
    end
    server:log() -- so that a pipe has room
  end
  for _, wire in pairs(load.wires) do
    wire:close()
  end
  return load, kills
end

describe("each record of an answered request comes out once", function()
  after_each(process.cleanup)

  local function assert_once(server, text_of, opts)
    opts = opts or { body_bytes = 0, worker_in = 3 }
    local seed = tonumber(os.getenv("PL_SEED") or "") or os.time()
    local state = seed % 2147483647
    local function random(from, to)
      if not to then
        from, to = 1, from
      end
      state = state * 16807 % 2147483647
      return from + state % (to - from + 1)
    end
    local load, kills = load_and_kill(server, 2, random, opts)
    assert.equal(0, server:stop(), "PL_SEED=" .. seed)
    local counts, faults = count_numbers(text_of()), {}
    for _, number in ipairs(load.answered) do
      if not counts[number] then
        faults[#faults + 1] = number .. " is missing"
      end
    end
    for number, count in pairs(counts) do
      if count > 1 then
        faults[#faults + 1] = number .. " came " .. count .. " times"
      end
    end
    local told = ("PL_SEED=%d: %d answers, control killed %d times, workers %d times"):format(seed,
      #load.answered, kills.control, kills.worker)
    assert.equal(0, #faults, told .. ": " .. table.concat(faults, ", ", 1, math.min(#faults, 5)))
    assert.is_true(kills.control + kills.worker > 1, told)
  end

  it("in a file, when control and workers are killed at random points", function()
    local path = process.folder() .. "/log"
    local server = serve({ "log.output=" .. path }, { workers = 2 })
    assert_once(server, function()
      return process.slurp(path)
    end)
  end)

  it("in a file that is rotated meanwhile", function()
    local path = process.folder() .. "/log"
    local server = serve({ "log.output=" .. path, "log.rotate_size=100K", "log.rotate_keep=1000" },
      { workers = 2 })
    assert_once(server, function()
      local parts, number = { process.slurp(path) }, 1
      while process.slurp(path .. "." .. number) do
        table.insert(parts, process.slurp(path .. "." .. number))
        number = number + 1
      end
      return table.concat(parts)
    end)
  end)

  it("in a pipe", function()
    local server = serve({}, { workers = 2 })
    assert_once(server, function()
      return server:log()
    end)
  end)

  it("also when its answer was so large that it went out by itself", function()
    local path = process.folder() .. "/log"
    local server = serve({ "log.output=" .. path }, { workers = 2 })
    assert_once(server, function()
      return process.slurp(path)
    end, { body_bytes = 8000, worker_in = 1 })
  end)
end)
