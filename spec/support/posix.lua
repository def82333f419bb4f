--- What specs need of the system, by FFI: declarations shared by process and wire.
---
--- x86-64 and arm64 Linux with glibc: the constants are theirs.

local ffi = require("ffi")

local M = {}

-- busted forgets modules between files, and declaring a type twice is an error.
if not pcall(ffi.typeof, "pl_spec_pollfd") then
  ffi.cdef([[
typedef struct { int fd; short events, revents; } pl_spec_pollfd;
typedef struct { long sec, nsec; } pl_spec_timespec;
typedef struct { unsigned short family, port; uint32_t addr; char zero[8]; } pl_spec_in;
typedef struct { unsigned short family; char path[108]; } pl_spec_un;
typedef struct { int onoff, linger; } pl_spec_linger;
typedef union { long align; char bytes[336]; } pl_spec_spawnattr;
typedef union { long align; char bytes[80]; } pl_spec_actions;
typedef union { long align; char bytes[128]; } pl_spec_sigset;

int poll(pl_spec_pollfd *fds, unsigned long count, int timeout_ms);
int pipe2(int fds[2], int flags);
int open(const char *path, int flags, ...);
int close(int fd);
long read(int fd, void *buf, size_t count);
long write(int fd, const void *buf, size_t count);
int kill(int pid, int sig);
int waitpid(int pid, int *status, int options);
int getpid(void);
int clock_gettime(int clock, pl_spec_timespec *t);
char *mkdtemp(char *template);
int mkdir(const char *path, unsigned int mode);
char *strerror(int code);
long readlink(const char *path, char *buf, size_t bytes);
extern char **environ;

int posix_spawnp(int *pid, const char *file, const pl_spec_actions *actions,
                 const pl_spec_spawnattr *attr, char *const argv[], char *const envp[]);
int posix_spawn_file_actions_init(pl_spec_actions *a);
int posix_spawn_file_actions_destroy(pl_spec_actions *a);
int posix_spawn_file_actions_adddup2(pl_spec_actions *a, int fd, int newfd);
int posix_spawn_file_actions_addopen(pl_spec_actions *a, int fd, const char *path, int flags,
                                     unsigned int mode);
int posix_spawn_file_actions_addchdir_np(pl_spec_actions *a, const char *path);
int posix_spawnattr_init(pl_spec_spawnattr *a);
int posix_spawnattr_destroy(pl_spec_spawnattr *a);
int posix_spawnattr_setflags(pl_spec_spawnattr *a, short flags);
int posix_spawnattr_setpgroup(pl_spec_spawnattr *a, int group);
int posix_spawnattr_setsigmask(pl_spec_spawnattr *a, const pl_spec_sigset *set);
int posix_spawnattr_setsigdefault(pl_spec_spawnattr *a, const pl_spec_sigset *set);
int sigemptyset(pl_spec_sigset *set);
int sigaddset(pl_spec_sigset *set, int sig);

int socket(int domain, int type, int protocol);
int connect(int fd, const void *address, unsigned int bytes);
int bind(int fd, const void *address, unsigned int bytes);
int listen(int fd, int backlog);
int getsockname(int fd, void *address, unsigned int *bytes);
int setsockopt(int fd, int level, int name, const void *value, unsigned int bytes);
int shutdown(int fd, int how);
long send(int fd, const void *at, size_t bytes, int flags);
long recv(int fd, void *at, size_t bytes, int flags);
unsigned short htons(unsigned short n);
unsigned int htonl(unsigned int n);
]])
end

M.C = ffi.C

M.SIGNALS = {
  HUP = 1, INT = 2, QUIT = 3, ABRT = 6, KILL = 9, USR1 = 10, SEGV = 11, USR2 = 12, PIPE = 13,
  TERM = 15, CHLD = 17, CONT = 18, STOP = 19, TTIN = 21, TTOU = 22,
}

M.EINTR, M.EAGAIN, M.ECONNREFUSED, M.ECONNRESET, M.EPIPE = 4, 11, 111, 104, 32
M.POLLIN, M.POLLOUT = 1, 4

--- Seconds of the monotonic clock.
---@return number
function M.now()
  local t = ffi.new("pl_spec_timespec")
  ffi.C.clock_gettime(1, t)
  return tonumber(t.sec) + tonumber(t.nsec) / 1e9
end

--- Blocks this process.
---@param seconds number
function M.sleep(seconds)
  local due = M.now() + seconds
  repeat
    local left = due - M.now()
    ffi.C.poll(nil, 0, math.max(1, math.ceil(left * 1000)))
  until M.now() >= due
end

--- Waits until a descriptor is readable or writable.
---@param fd integer
---@param events integer POLLIN, POLLOUT
---@param due number on the monotonic clock
---@return boolean ready false when it was too late
function M.wait_fd(fd, events, due)
  local p = ffi.new("pl_spec_pollfd[1]")
  repeat
    p[0].fd, p[0].events = fd, events
    local left = math.max(0, math.ceil((due - M.now()) * 1000))
    if ffi.C.poll(p, 1, left) > 0 then
      return true
    end
  until M.now() >= due
  return false
end

---@return string reason of the last failed call
function M.reason()
  return ffi.string(ffi.C.strerror(ffi.errno()))
end

--- Calls `fn` again and again until it returns something true.
---@generic T
---@param fn fun(): T
---@param seconds? number how long at most; default 10
---@return T? result nil when it was too late
function M.eventually(fn, seconds)
  local due = M.now() + (seconds or 10)
  repeat
    local result = fn()
    if result then
      return result
    end
    M.sleep(0.01)
  until M.now() > due
  return nil
end

return M
