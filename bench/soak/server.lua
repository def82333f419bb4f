-- bench/soak/server.lua - the server under test: started on a port of the kernel's choice, its
-- processes told apart, stopped.

local client = require("client")
local process = require("process")

local READY_S_MAX = 60 -- a sanitized build is slow
local READY_POLL_S = 0.02

local M = {}

---@class perilune.soak.Server
---@field pid integer of the master
---@field port integer
---@field folder string
---@field log string file of records, JSON; seen from here
---@field output string file of what it printed

local function read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end
M.read = read

local function argv_of(opts, server)
  local argv = {
    opts.perilune, "run", opts.app, "--listen", "127.0.0.1:0",
    "--workers", tostring(opts.workers), "--name", "soak",
    "--set", "log.format=json", "--set", "log.output=" .. (opts.log_output or server.log),
    "--set", "log.access=" .. tostring(opts.access_log == true),
  }
  for i = #(opts.prefix or {}), 1, -1 do
    table.insert(argv, 1, opts.prefix[i])
  end
  for _, pair in ipairs(opts.settings or {}) do
    argv[#argv + 1] = "--set"
    argv[#argv + 1] = pair
  end
  return argv
end

---@class perilune.soak.ServerOptions
---@field perilune string the launcher
---@field app string
---@field workers integer
---@field settings? string[] "key=value"
---@field library? string folder that LuaJIT is loaded from; nil: the system's
---@field access_log? boolean
---@field log_output? string where the log goes instead of a file beside
---@field prefix? string[] what is run with the launcher and its arguments behind it
---@field core? integer that all its processes are pinned to

--- Starts a server and waits until it answers.
---@param folder string a new one is made below it
---@param opts perilune.soak.ServerOptions
---@return perilune.soak.Server? server
---@return string? err
function M.start(folder, opts)
  local server = { folder = ("%s/server-%d"):format(folder, math.floor(process.now() * 1e6)) }
  process.make_folder(server.folder)
  server.log, server.output = server.folder .. "/server.log", server.folder .. "/output"
  local env = { XDG_RUNTIME_DIR = server.folder }
  if opts.library then
    env.LD_LIBRARY_PATH = opts.library
  end
  server.pid = process.start({
    argv = argv_of(opts, server), env = env, output = server.output, core = opts.core,
  })
  local due = process.now() + READY_S_MAX
  while process.now() < due and process.is_running(server.pid) do
    local port = (read(server.output) or ""):match("http://127%.0%.0%.1:(%d+)")
    server.port = tonumber(port)
    if port and client.request(server.port, { path = "/quick", seconds_max = 5 }) then
      return server
    end
    process.sleep(READY_POLL_S)
  end
  process.stop(server.pid)
  return nil, "the server did not start: " .. (read(server.output) or "")
end

--- The pids of its workers: of the master's children, all but control and trials.
---@param server perilune.soak.Server
---@return integer[]
function M.workers(server)
  local list = {}
  local path = ("/proc/%d/task/%d/children"):format(server.pid, server.pid)
  for pid in (read(path) or ""):gmatch("%d+") do
    local name = read(("/proc/%s/comm"):format(pid))
    if name and not name:find("perilune-ctl", 1, true)
      and not name:find("perilune-try", 1, true) then
      list[#list + 1] = tonumber(pid)
    end
  end
  return list
end

--- The process that writes its log.
---@param server perilune.soak.Server
---@return integer? pid nil between two of them
function M.control(server)
  local path = ("/proc/%d/task/%d/children"):format(server.pid, server.pid)
  for pid in (read(path) or ""):gmatch("%d+") do
    if (read(("/proc/%s/comm"):format(pid)) or ""):find("perilune-ctl", 1, true) then
      return tonumber(pid)
    end
  end
end

--- The LuaJIT that a process has loaded.
---@param pid integer
---@return string? path
function M.luajit_of(pid)
  return (read(("/proc/%d/maps"):format(pid)) or ""):match("(/[^\n]*libluajit[^\n]*)")
end

--- Resident memory of its workers, in MiB.
---@param server perilune.soak.Server
---@return number
function M.workers_mib(server)
  local kib = 0
  for _, pid in ipairs(M.workers(server)) do
    local status = read(("/proc/%d/status"):format(pid)) or ""
    kib = kib + tonumber(status:match("VmRSS:%s*(%d+)") or 0)
  end
  return kib / 1024
end

--- Stops it.
---@param server perilune.soak.Server
---@return boolean clean
function M.stop(server)
  return process.stop(server.pid)
end

---@class perilune.soak.Record
---@field count integer
---@field first string the line of the first one

--- Warnings and errors of its log.
---@param server perilune.soak.Server
---@return table<string, perilune.soak.Record> by "level: message"
function M.records(server)
  local records = {}
  for line in (read(server.log) or ""):gmatch("[^\n]+") do
    local level, text = line:match('"level":"(%a+)","msg":"(.-[^\\])"')
    if level and level ~= "info" and level ~= "debug" then
      local key = level .. ": " .. text
      records[key] = records[key] or { count = 0, first = line }
      records[key].count = records[key].count + 1
    end
  end
  return records
end

--- Prints them.
---@param server perilune.soak.Server
function M.print_records(server)
  local lines = {}
  for text, record in pairs(M.records(server)) do
    lines[#lines + 1] = ("log: %d x %s\n     %s"):format(record.count, text,
      record.first:sub(1, 600))
  end
  table.sort(lines)
  for _, line in ipairs(lines) do
    print(line)
  end
end

return M
