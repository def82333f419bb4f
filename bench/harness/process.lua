-- bench/harness/process.lua - the processes of a measuring run: start, ask what they cost, stop.
--
-- A started process and its descendants are one tree, named by the pid of its root. The kernel
-- ends the root when the harness dies, and each of the peers' roots takes its own children along.
-- Linux only. Knows no HTTP and no peer.

local ffi = require("ffi")
local bit = require("bit")

local C = ffi.C

ffi.cdef([[
int fork(void);
int execvp(const char *file, const char *const argv[]);
void _exit(int status);
int kill(int pid, int sig);
int waitpid(int pid, int *status, int options);
int prctl(int option, unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5);
int setpgid(int pid, int pgid);
int open(const char *path, int flags, ...);
int close(int fd);
int dup2(int old, int new);
int chdir(const char *path);
int usleep(unsigned usec);
long sysconf(int name);
int mkdir(const char *path, unsigned mode);
unsigned geteuid(void);
char *mkdtemp(char *template);
struct pl_bench_timespec { long sec; long nsec; };
int clock_gettime(int clock, struct pl_bench_timespec *ts);
int sched_setaffinity(int pid, size_t bytes, const uint64_t *mask);
]])

local SIGTERM, SIGKILL = 15, 9
local PR_SET_PDEATHSIG = 1
local WNOHANG = 1
local O_WRONLY, O_CREAT, O_TRUNC = 1, 64, 512
local CLOCK_MONOTONIC = 1
local SC_CLK_TCK, SC_NPROCESSORS_ONLN = 2, 84
local STOP_S_MAX = 5
local POLL_S = 0.01

local M = {}

---@return number seconds monotonic
function M.now()
  local ts = ffi.new("struct pl_bench_timespec")
  C.clock_gettime(CLOCK_MONOTONIC, ts)
  return tonumber(ts.sec) + tonumber(ts.nsec) / 1e9
end

---@param seconds number
function M.sleep(seconds)
  local left_us = seconds * 1e6
  while left_us > 0 do
    C.usleep(math.min(left_us, 900000))
    left_us = left_us - 900000
  end
end

---@return boolean
function M.is_root()
  return C.geteuid() == 0
end

---@return integer count of the CPUs that are online
function M.cpu_count()
  return tonumber(C.sysconf(SC_NPROCESSORS_ONLN))
end

--- Pins this process to a CPU, and what it starts from then on.
---@param core integer below 64
function M.pin(core)
  local mask = ffi.new("uint64_t[1]", bit.lshift(1ULL, core))
  assert(C.sched_setaffinity(0, 8, mask) == 0, "cannot pin")
end

---@param text string
---@return string quoted for a shell
function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

---@param argv string[]
---@return string line for a shell
function M.line(argv)
  local quoted = {}
  for i, arg in ipairs(argv) do
    quoted[i] = M.quote(arg)
  end
  return table.concat(quoted, " ")
end

--- Runs a command to its end and returns all it wrote to both outputs.
---@param argv string[]
---@param seconds_max? number default 300; past it the command is ended
---@return boolean ok exit status 0
---@return string output
function M.run(argv, seconds_max)
  local line = ("timeout -k 5 %d %s 2>&1; echo \" $?\""):format(seconds_max or 300, M.line(argv))
  local pipe = assert(io.popen(line))
  local output, status = pipe:read("*a"):match("^(.*) (%d+)\n$")
  pipe:close()
  return status == "0", output
end

---@return string path of a new folder, readable by all, as some peers' workers give up root
function M.make_temp_folder()
  local pattern = (os.getenv("TMPDIR") or "/tmp") .. "/perilune-bench-XXXXXX"
  local template = ffi.new("char[?]", #pattern + 1, pattern)
  assert(C.mkdtemp(template) ~= nil, "no temporary folder")
  local path = ffi.string(template)
  assert(M.run({ "chmod", "755", path }))
  return path
end

---@param path string its parents are made too
function M.make_folder(path)
  assert(M.run({ "mkdir", "-p", path }))
end

---@class perilune.bench.Start
---@field argv string[]
---@field cwd? string
---@field env? table<string, string>
---@field core? integer the CPU it is pinned to
---@field output string file that takes both its outputs

local function argv_with_prefix(opts)
  local argv = {}
  if opts.core then
    argv = { "taskset", "-c", tostring(opts.core) }
  end
  if opts.env then
    argv[#argv + 1] = "env"
    for name, value in pairs(opts.env) do
      argv[#argv + 1] = name .. "=" .. value
    end
  end
  for _, arg in ipairs(opts.argv) do
    argv[#argv + 1] = arg
  end
  return argv
end

--- Starts a process; what comes before the program in its argv replaces itself by exec, so that
--- the pid is the program's.
---@param opts perilune.bench.Start
---@return integer pid
function M.start(opts)
  local argv = argv_with_prefix(opts)
  local cargv = ffi.new("const char *[?]", #argv + 1)
  for i, arg in ipairs(argv) do
    cargv[i - 1] = arg
  end
  local flags = bit.bor(O_WRONLY, O_CREAT, O_TRUNC)

  local pid = C.fork()
  assert(pid >= 0, "fork failed")
  if pid > 0 then
    return pid
  end
  C.setpgid(0, 0) -- an interrupt from the terminal is the harness's to handle
  C.prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0)
  local fd = C.open(opts.output, flags, ffi.cast("int", 420))
  C.dup2(fd, 1)
  C.dup2(fd, 2)
  if opts.cwd then
    C.chdir(opts.cwd)
  end
  C.execvp(cargv[0], cargv)
  C._exit(127)
end

---@param pid integer a child of ours
---@return boolean
function M.is_running(pid)
  return C.waitpid(pid, nil, WNOHANG) == 0
end

--- Asks a child of ours to end, waits, and kills what is left of it after STOP_S_MAX.
---@param pid integer
---@return boolean clean false when it had to be killed
function M.stop(pid)
  local pids = M.tree(pid)
  local deadline = M.now() + STOP_S_MAX

  C.kill(pid, SIGTERM)
  while M.now() < deadline do
    if not M.is_running(pid) then
      return true
    end
    M.sleep(POLL_S)
  end
  for _, each in ipairs(pids) do
    C.kill(each, SIGKILL)
  end
  C.waitpid(pid, nil, 0)
  return false
end

local function read(path)
  local file = io.open(path)
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end

---@param pid integer
---@return integer[] pids the root first, then its descendants
function M.tree(pid)
  local pids, at = { pid }, 1
  while pids[at] do
    local text = read(("/proc/%d/task/%d/children"):format(pids[at], pids[at])) or ""
    for child in text:gmatch("%d+") do
      pids[#pids + 1] = tonumber(child)
    end
    at = at + 1
  end
  return pids
end

---@class perilune.bench.Cpu
---@field name string
---@field user_s number
---@field system_s number

---@param pid integer
---@return perilune.bench.Cpu? cpu nil when the process is gone
local function cpu_of(pid)
  local text = read(("/proc/%d/stat"):format(pid))
  if not text then
    return nil
  end
  local ticks_per_s = tonumber(C.sysconf(SC_CLK_TCK))
  local name, rest = text:match("%((.*)%) (.*)")
  local field, number = {}, 0
  for word in rest:gmatch("%S+") do
    number = number + 1
    field[number] = word
  end
  -- Fields 14 and 15 of proc(5), counted from the third.
  return {
    name = name,
    user_s = tonumber(field[12]) / ticks_per_s,
    system_s = tonumber(field[13]) / ticks_per_s,
  }
end

--- CPU time used so far, of every process of a tree.
---@param pid integer
---@return table<integer, perilune.bench.Cpu> by_pid
function M.cpu(pid)
  local by_pid = {}
  for _, each in ipairs(M.tree(pid)) do
    by_pid[each] = cpu_of(each)
  end
  return by_pid
end

--- Memory of a tree. PSS counts a page that n processes share as 1/n in each of them; RSS counts
--- it in each of them whole.
---@param pid integer
---@return number rss_bytes
---@return number pss_bytes
function M.memory(pid)
  local rss_kib, pss_kib = 0, 0
  for _, each in ipairs(M.tree(pid)) do
    local text = read(("/proc/%d/smaps_rollup"):format(each)) or ""
    rss_kib = rss_kib + tonumber(text:match("\nRss:%s+(%d+)") or 0)
    pss_kib = pss_kib + tonumber(text:match("\nPss:%s+(%d+)") or 0)
  end
  return rss_kib * 1024, pss_kib * 1024
end

return M
