--- Real processes for specs: the launcher, its servers, what they leave behind.
---
--- Everything started here is ended and everything made here is removed by
--- `cleanup`, which a spec calls in `after_each`. Only processes of this module
--- are ever signalled, by their pid or their own process group.

local ffi = require("ffi")
local posix = require("spec.support.posix")

local C = posix.C

local M = {}

M.sleep, M.now, M.eventually = posix.sleep, posix.now, posix.eventually

local PATIENCE_S = 20
local READ_BYTES = 65536
local O_CLOEXEC = 0x80000
local SPAWN_FLAGS = 0x02 + 0x04 + 0x08 -- SETPGROUP, SETSIGDEF, SETSIGMASK
local WNOHANG = 1

local buffer = ffi.new("char[?]", READ_BYTES)
local started, folders = {}, {}

---@class spec.Process
---@field pid integer
---@field code? integer exit code, once it has ended by itself
---@field signal? integer that has ended it
---@field _fd table<string, integer> "out" and "err"
---@field _text table<string, string>
---@field _read table<string, integer> bytes that `line` has given out
local Process = {}
Process.__index = Process

--- The launcher under test: the one these specs run in, else the release build.
---@return string path
function M.launcher()
  local n = C.readlink("/proc/self/exe", buffer, READ_BYTES)
  local own = n > 0 and ffi.string(buffer, n) or ""
  if own:match("[^/]+$") == "perilune" then
    return own
  end
  return os.getenv("PL_LAUNCHER") or "build/release/bin/perilune"
end

local function is_foreign(name)
  return name:find("^PERILUNE_") or name:find("^OTEL_") or name == "PORT"
    or name == "WEB_CONCURRENCY" or name == "XDG_RUNTIME_DIR" or name == "NO_COLOR"
    or name == "FORCE_COLOR"
end

--- The environment without what would configure a server, plus `extra`.
local function environment(extra)
  local list, i = {}, 0
  while C.environ[i] ~= nil do
    local entry = ffi.string(C.environ[i])
    local name = entry:match("^[^=]*")
    if not is_foreign(name) and (extra == nil or extra[name] == nil) then
      list[#list + 1] = entry
    end
    i = i + 1
  end
  for name, value in pairs(extra or {}) do
    if value then
      list[#list + 1] = name .. "=" .. value
    end
  end
  return list
end

local function c_strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, text in ipairs(list) do
    array[i - 1] = text
  end
  return array -- the texts are kept alive by `list`
end

local function pipe()
  local fds = ffi.new("int[2]")
  assert(C.pipe2(fds, O_CLOEXEC) == 0, "pipe")
  return fds[0], fds[1]
end

local function attributes()
  local attr, none, all = ffi.new("pl_spec_spawnattr"), ffi.new("pl_spec_sigset"),
    ffi.new("pl_spec_sigset")
  C.sigemptyset(none)
  C.sigemptyset(all)
  for _, number in pairs(posix.SIGNALS) do
    C.sigaddset(all, number)
  end
  C.posix_spawnattr_init(attr)
  C.posix_spawnattr_setflags(attr, SPAWN_FLAGS)
  C.posix_spawnattr_setpgroup(attr, 0)
  C.posix_spawnattr_setsigmask(attr, none)
  C.posix_spawnattr_setsigdefault(attr, all)
  return attr
end

--- Starts a program in a process group of its own, with no input.
---@param argv string[] the first one is looked for in PATH
---@param opts? { cwd?: string, env?: table<string, string|false>, socket?: integer } env: false
---  removes; socket: what it finds as descriptor 3
---@return spec.Process
function M.spawn(argv, opts)
  opts = opts or {}
  local out_read, out_write = pipe()
  local err_read, err_write = pipe()
  local actions, attr = ffi.new("pl_spec_actions"), attributes()
  local env = environment(opts.env)
  local pid = ffi.new("int[1]")

  C.posix_spawn_file_actions_init(actions)
  C.posix_spawn_file_actions_addopen(actions, 0, "/dev/null", 0, 0)
  C.posix_spawn_file_actions_adddup2(actions, out_write, 1)
  C.posix_spawn_file_actions_adddup2(actions, err_write, 2)
  if opts.socket then
    C.posix_spawn_file_actions_adddup2(actions, opts.socket, 3)
  end
  if opts.cwd then
    C.posix_spawn_file_actions_addchdir_np(actions, opts.cwd)
  end
  local code = C.posix_spawnp(pid, argv[1], actions, attr,
    ffi.cast("char *const *", c_strings(argv)), ffi.cast("char *const *", c_strings(env)))
  C.posix_spawn_file_actions_destroy(actions)
  C.posix_spawnattr_destroy(attr)
  C.close(out_write)
  C.close(err_write)
  assert(code == 0, "cannot start " .. argv[1] .. ": " .. ffi.string(C.strerror(code)))

  local process = setmetatable({
    pid = pid[0],
    _fd = { out = out_read, err = err_read },
    _text = { out = "", err = "" },
    _read = { out = 0, err = 0 },
  }, Process)
  started[#started + 1] = process
  return process
end

--- Starts the launcher under test.
---@param args string[]
---@param opts? table as for spawn
---@return spec.Process
function M.start(args, opts)
  return M.spawn({ M.launcher(), unpack(args) }, opts)
end

--- Starts the launcher under test as systemd does for a socket unit: with a listening socket that
--- is not its own.
---@param socket integer
---@param args string[]
---@param opts? table as for spawn
---@return spec.Process
function M.start_activated(socket, args, opts)
  opts = opts or {}
  opts.socket = socket
  local script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\""
  return M.spawn({ "sh", "-c", script, M.launcher(), unpack(args) }, opts)
end

--- Runs the launcher to its end.
---@param args string[]
---@param opts? table as for spawn, and `timeout` in seconds
---@return { code: integer?, signal: integer?, out: string, err: string }
function M.run(args, opts)
  local process = M.start(args, opts)
  local code = process:wait(opts and opts.timeout)
  return { code = code, signal = process.signal, out = process:out(), err = process:err() }
end

-- Takes what there is to read now; false at the end of the stream.
function Process:_take(stream)
  local fd = self._fd[stream]
  if fd < 0 then
    return false
  end
  local n = tonumber(C.read(fd, buffer, READ_BYTES))
  if n > 0 then
    self._text[stream] = self._text[stream] .. ffi.string(buffer, n)
    return true
  end
  if n < 0 and ffi.errno() == posix.EINTR then
    return true
  end
  C.close(fd)
  self._fd[stream] = -1
  return false
end

local function drain(self, stream)
  while self._fd[stream] >= 0 and posix.wait_fd(self._fd[stream], posix.POLLIN, 0) do
    if not self:_take(stream) then
      return
    end
  end
end

--- All of stdout so far.
---@return string
function Process:out()
  drain(self, "out")
  return self._text.out
end

--- All of stderr so far.
---@return string
function Process:err()
  drain(self, "err")
  return self._text.err
end

--- Waits until a stream has text that matches.
---@param stream "out"|"err"
---@param pattern string
---@param seconds? number default 20
---@return string? capture the first one, or the whole match; nil when it never came
function Process:wait_for(stream, pattern, seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  while true do
    local capture = self._text[stream]:match(pattern)
    if capture then
      return capture
    end
    if self._fd[stream] < 0 or not posix.wait_fd(self._fd[stream], posix.POLLIN, due) then
      return nil
    end
    self:_take(stream)
  end
end

--- The next line of a stream, without its newline.
---@param stream "out"|"err"
---@param seconds? number default 20
---@return string? line nil when none came
function Process:line(stream, seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  while true do
    local from = self._read[stream]
    local stop = self._text[stream]:find("\n", from + 1, true)
    if stop then
      self._read[stream] = stop
      return self._text[stream]:sub(from + 1, stop - 1)
    end
    if self._fd[stream] < 0 or not posix.wait_fd(self._fd[stream], posix.POLLIN, due) then
      return nil
    end
    self:_take(stream)
  end
end

---@param signal string|integer "TERM", ...
function Process:kill(signal)
  assert(not (self.code or self.signal), "the process has ended")
  C.kill(self.pid, posix.SIGNALS[signal] or signal)
end

--- Sends a signal to the whole group, as a terminal does with Ctrl-C.
---@param signal string|integer
function Process:kill_group(signal)
  C.kill(-self.pid, posix.SIGNALS[signal] or signal)
end

--- Whether it still runs; sets code or signal when not.
---@return boolean
function Process:is_running()
  if self.code or self.signal then
    return false
  end
  local status = ffi.new("int[1]")
  if C.waitpid(self.pid, status, WNOHANG) ~= self.pid then
    return true
  end
  local low = bit.band(status[0], 0x7f)
  if low == 0 then
    self.code = bit.band(bit.rshift(status[0], 8), 0xff)
  else
    self.signal = low
  end
  return false
end

--- Waits for its end, reading what it prints meanwhile.
---@param seconds? number default 20
---@return integer? code nil when a signal ended it, or when it did not end
function Process:wait(seconds)
  local due = posix.now() + (seconds or PATIENCE_S)
  while self:is_running() do
    if posix.now() > due then
      return nil
    end
    drain(self, "out")
    drain(self, "err")
    posix.sleep(0.002)
  end
  return self.code
end

--- Ends it: TERM, then KILL for the whole group.
function Process:stop()
  if self:is_running() then
    self:kill("TERM")
    if not self:wait(5) and self:is_running() then
      self:kill("KILL")
      self:wait(5)
    end
  end
  self:kill_group("KILL") -- who may have outlived it
  for stream, fd in pairs(self._fd) do
    if fd >= 0 then
      C.close(fd)
      self._fd[stream] = -1
    end
  end
end

-- Other processes ----------------------------------------------------------------------

local function slurp(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end
M.slurp = slurp

--- Whether the launcher under test was built with a sanitizer: starting takes
--- longer then.
---@return boolean
function M.is_sanitized()
  return slurp("/proc/self/maps"):find("libasan", 1, true) ~= nil
end

--- Whether a process exists and is no zombie.
---@param pid integer
---@return boolean
function M.is_alive(pid)
  local stat = slurp("/proc/" .. pid .. "/stat")
  local state = stat and stat:match("^.*%) (%a)")
  return state ~= nil and state ~= "Z" and state ~= "X"
end

--- The children of a process, in the order of their start.
---@param pid integer
---@return integer[]
function M.children(pid)
  local list = {}
  for child in (slurp(("/proc/%d/task/%d/children"):format(pid, pid)) or ""):gmatch("%d+") do
    list[#list + 1] = tonumber(child)
  end
  return list
end

--- Control and workers of a master, told apart by their names.
---@param pid integer
---@return integer? control
---@return integer[] workers
function M.family(pid)
  local control, workers = nil, {}
  for _, child in ipairs(M.children(pid)) do
    local name = slurp("/proc/" .. child .. "/comm") or ""
    if name:find("perilune-ctl", 1, true) then
      control = child
    elseif not name:find("perilune-try", 1, true) then
      workers[#workers + 1] = child
    end
  end
  return control, workers
end

--- Signals a process that a process of ours has started.
---@param pid integer
---@param signal string
function M.signal(pid, signal)
  assert(pid > 1, "no pid")
  C.kill(pid, posix.SIGNALS[signal])
end

-- Folders and servers ------------------------------------------------------------------

--- A new folder in the system's folder for them.
---@param files? table<string, string> name -> content; names may have folders in them
---@return string path
function M.folder(files)
  local template = ffi.new("char[?]", 32, "/tmp/perilune-spec-XXXXXX")
  assert(C.mkdtemp(template) ~= nil, "mkdtemp")
  local path = ffi.string(template)
  folders[#folders + 1] = path
  for name, content in pairs(files or {}) do
    local at = path
    for part in name:gmatch("([^/]+)/") do
      at = at .. "/" .. part
      C.mkdir(at, 448)
    end
    local file = assert(io.open(path .. "/" .. name, "wb"))
    file:write(content)
    file:close()
  end
  return path
end

---@class spec.Server
---@field process spec.Process of the master
---@field port integer
---@field folder string runtime folder, for `perilune stop`
---@field app string path of the app
---@field ready string the line that said it was ready
local Server = {}
Server.__index = Server

--- Starts `perilune run` on a port of the kernel's choice and waits until it serves.
---@param opts table app: a path, or the files of a folder to make; args?: string[]; env?: table;
---  workers?: integer, default 1
---@return spec.Server
function M.server(opts)
  local app = opts.app
  if type(app) == "table" then
    app = M.folder(app)
  end
  local runtime = M.folder()
  local env = { XDG_RUNTIME_DIR = runtime }
  for name, value in pairs(opts.env or {}) do
    env[name] = value
  end
  local args = { "run", app, "--listen", "127.0.0.1:0", "--workers", tostring(opts.workers or 1) }
  for _, arg in ipairs(opts.args or {}) do
    args[#args + 1] = arg
  end
  local process = M.start(args, { env = env })
  local port = process:wait_for("err", "serving [^\n]-http://127%.0%.0%.1:(%d+)[^\n]*\n")
  if not port then
    error("the server did not start:\n" .. process:err() .. process:out(), 2)
  end
  return setmetatable({
    process = process,
    port = tonumber(port),
    folder = runtime,
    app = app,
    ready = process:err():match("[^\n]*serving[^\n]*"),
  }, Server)
end

--- What it has logged so far.
---@return string
function Server:log()
  return self.process:out()
end

--- Waits for a text in the log.
---@param pattern string
---@param seconds? number
---@return string? capture
function Server:wait_log(pattern, seconds)
  return self.process:wait_for("out", pattern, seconds)
end

--- Stops it by TERM and waits.
---@return integer? code
function Server:stop()
  if self.process:is_running() then
    self.process:kill("TERM")
  end
  return self.process:wait()
end

--- Ends all processes and removes all folders of this module.
function M.cleanup()
  for i = #started, 1, -1 do
    started[i]:stop()
    started[i] = nil
  end
  for i = #folders, 1, -1 do
    assert(folders[i]:find("^/tmp/perilune%-spec%-%w+$"))
    os.execute("rm -rf " .. folders[i])
    folders[i] = nil
  end
end

return M
