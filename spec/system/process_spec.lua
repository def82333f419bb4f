local process = require("spec.support.process")
local wire = require("spec.support.wire")

local APP = [[
local P = require "perilune"
local ffi = require "ffi"
ffi.cdef "int getpid(void); int kill(int pid, int sig); unsigned sleep(unsigned seconds);"
local app = P.app {}
app:get("/pid", function() return tostring(ffi.C.getpid()) end)
app:get("/log-and-die", function()
  P.log.warn("last words")
  ffi.C.kill(ffi.C.getpid(), 9)
end)
app:get("/hang", function() ffi.C.sleep(60) end)
app:get("/exit", function() os.exit(3) end)
return app
]]

local function server(opts)
  opts = opts or {}
  opts.app = opts.app or { ["app.lua"] = APP }
  return process.server(opts)
end

local function pid_of_worker(port)
  local response = wire.ask(port, "GET", "/pid")
  return response and tonumber(response.body)
end

describe("a server", function()
  after_each(process.cleanup)

  it("says in one line that it is ready, with address, workers and name", function()
    local s = server({ workers = 2, args = { "--name", "notes" } })
    assert.matches("^perilune %S+ serving notes on http://127%.0%.0%.1:%d+ %(2 workers, pid %d+%)$",
      s.ready)
    assert.equal(s.ready .. "\n", s.process:err())
  end)

  it("is a master, one control and the workers that were asked for", function()
    local s = server({ workers = 3 })
    local control, workers = process.family(s.process.pid)
    assert.is_number(control)
    assert.equal(3, #workers)
  end)

  it("replaces a worker that is killed, and control notes it", function()
    local s = server()
    local first = pid_of_worker(s.port)
    process.signal(first, "KILL")
    local second = process.eventually(function()
      local pid = pid_of_worker(s.port)
      return pid and pid ~= first and pid
    end)
    assert.is_number(second)
    assert.is_truthy(s:wait_log('"msg":"a worker was killed"[^\n]*"signal":"SIGKILL"'))
  end)

  it("takes os.exit in a handler for an error of that handler", function()
    local s = server()
    local first = pid_of_worker(s.port)
    assert.equal(500, wire.ask(s.port, "GET", "/exit").status)
    assert.is_truthy(s:wait_log("os.exit would end a worker"))
    assert.equal(first, pid_of_worker(s.port))
  end)

  it("refuses nobody while its only worker is killed again and again", function()
    local s = server()
    for _ = 1, 5 do
      local wired, err = wire.connect(s.port)
      assert.is_nil(err)
      wired:request("GET", "/pid", "Connection: close\r\n")
      local response = wired:response()
      wired:close()
      if response then
        process.signal(tonumber(response.body), "KILL")
      end
    end
    assert.is_truthy(process.eventually(function()
      return pid_of_worker(s.port)
    end))
  end)

  it("loses no log record of a worker that dies in a request", function()
    local s = server()
    local response = wire.ask(s.port, "GET", "/log-and-die")
    assert.is_nil(response)
    assert.is_truthy(s:wait_log("last words"))
  end)

  it("goes on when control is killed, and logs as before", function()
    local s = server()
    local control, workers = process.family(s.process.pid)
    process.signal(control, "KILL")
    local other = process.eventually(function()
      local now = process.family(s.process.pid)
      return now and now ~= control and now
    end)
    assert.is_number(other)
    local _, same = process.family(s.process.pid)
    assert.same(workers, same)
    assert.equal(200, wire.ask(s.port, "GET", "/pid?after").status)
    assert.is_truthy(s:wait_log("/pid%?after"))
  end)

  it("leaves no process behind when its master is killed", function()
    local s = server({ workers = 2 })
    local family = process.children(s.process.pid)
    assert.equal(3, #family)
    s.process:kill("KILL")
    s.process:wait()
    for _, pid in ipairs(family) do
      assert.is_truthy(process.eventually(function()
        return not process.is_alive(pid)
      end), "process " .. pid .. " is left")
    end
  end)

  it("writes the records of a second before its master was killed", function()
    local s = server()
    assert.equal(200, wire.ask(s.port, "GET", "/pid?before").status)
    s.process:kill("KILL")
    s.process:wait()
    assert.is_truthy(s:wait_log("/pid%?before"))
  end)

  it("replaces a worker that hangs in foreign C for vm.stuck_timeout", function()
    local s = server({ args = { "--set", "vm.stuck_timeout=400ms" } })
    local first = pid_of_worker(s.port)
    local hanging = wire.connect(s.port)
    hanging:request("GET", "/hang")
    local second = process.eventually(function()
      local pid = pid_of_worker(s.port)
      return pid and pid ~= first and pid
    end)
    assert.is_number(second)
    assert.is_truthy(s:wait_log('"msg":"a worker stood still and was killed"'))
  end)

  it("serves on a unix socket, and removes it at the end", function()
    local folder = process.folder()
    local path = folder .. "/web.sock"
    local s = server({ args = { "--listen", "unix:" .. path } })
    assert.equal(200, wire.ask(path, "GET", "/pid").status)
    assert.equal(0, s:stop())
    assert.is_nil(process.slurp(path))
    local _, err = wire.connect(path)
    assert.matches("No such file", err)
  end)

  it("serves on several addresses at once", function()
    local port = wire.free_port()
    local s = server({ args = { "--listen", "127.0.0.1:" .. port } })
    assert.equal(200, wire.ask(port, "GET", "/pid").status)
    assert.equal(200, wire.ask(s.port, "GET", "/pid").status)
  end)

  --- Runs the launcher below a limit of the shell.
  local function limited(limit, ...)
    return process.spawn({ "sh", "-c", limit .. '; exec "$0" "$@"', process.launcher(), ... },
      { env = { XDG_RUNTIME_DIR = process.folder() } })
  end

  it("ends with a clear line when there is no fabric to be had", function()
    local p = limited("ulimit -f 1", "run", process.folder({ ["app.lua"] = APP }))
    assert.equal(1, p:wait())
    assert.matches("^perilune: no shared memory: [^\n]+\n$", p:err())
  end)

  it("ends with a clear line when there is no memory to be had", function()
    local limit = "ulimit -v 40000"
    if limited(limit, "version"):wait() ~= 0 then
      return pending("sanitizers need more address space than that")
    end
    local p = limited(limit, "run", process.folder({ ["app.lua"] = APP }))
    assert.equal(1, p:wait())
    assert.matches("^perilune: [^\n]+memory[^\n]*\n$", p:err())
  end)

  it("ends with a clear line when there are no descriptors to be had", function()
    local p = limited("ulimit -n 5", "run", process.folder({ ["app.lua"] = APP }),
      "--workers", "4", "--listen", "127.0.0.1:0")
    assert.is_true(p:wait() > 0)
    assert.matches("^perilune: [^\n]*too many open files\n$", p:err():lower())
  end)
end)
