--- Profiles of the processor's time: what the ticks of all workers have found, as pprof reads it,
--- as folded stacks, as a flame graph and as a table.

local crowded = require("spec.support.crowded")
local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

-- Two loops that take the same for each round, 70 to 30 rounds; by lines that specs name.
local APP = [[
local P = require "perilune"
local app = P.app {}
local function heavy(n)
  local x = 0
  for i = 1, n do x = (x * 31 + i) % 1000003 end
  return x
end
local function light(n)
  local x = 0
  for i = 1, n do x = (x * 31 + i) % 1000003 end
  return x
end
app:get("/", function() return "hi" end)
app:get("/mix", function(c)
  local stop = P.monotonic() + tonumber(c:query("seconds") or 1)
  while P.monotonic() < stop do heavy(700000) light(300000) end
  return "mixed"
end)
app:get("/stuck", function()
  P.atomic(function()
    while true do end
  end)
end)
app:get("/sort", function()
  local list = {}
  for i = 1, 20000 do list[i] = (i * 7919) % 20011 end
  local stop = P.monotonic() + 0.5
  while P.monotonic() < stop do
    table.sort(list, function(a, b) return a > b end)
    table.sort(list)
  end
  return "sorted"
end)
return app
]]

local function start(opts)
  opts = opts or {}
  local folder = process.folder({ ["app.lua"] = opts.app or APP })
  local env = { XDG_RUNTIME_DIR = process.folder(), PPROF_TMPDIR = process.folder() }
  local args = { "run", folder, "--name", "profiled", "--listen", "127.0.0.1:0", "--workers", "1" }
  if opts.admin ~= false then
    args[#args + 1] = "--set"
    args[#args + 1] = "admin.listen=127.0.0.1:0"
  end
  for _, more in ipairs(opts.args or {}) do
    args[#args + 1] = more
  end
  local p = process.start(args, { env = env })
  local line = assert(p:wait_for("err", "(serving [^\n]*pid[^\n]*)\n"), p:err())
  return { process = p, env = env, folder = folder,
    port = tonumber(line:match("127%.0%.0%.1:(%d+)")),
    admin = tonumber(line:match("admin plane on http://127%.0%.0%.1:(%d+)")) }
end

local function ask(s, target)
  return assert(wire.ask(s.admin, "GET", target))
end

--- Microseconds by stack, of the folded form.
local function folded(s, query)
  local r = ask(s, "/debug/pprof/profile?format=folded&" .. query)
  assert.equal(200, r.status)
  local stacks = {}
  for stack, weight in r.body:gmatch("([^\n]+) (%d+)\n") do
    stacks[stack] = tonumber(weight)
  end
  return stacks
end

--- What all stacks took that have that text in them.
local function weight_of(stacks, text)
  local sum = 0
  for stack, weight in pairs(stacks) do
    sum = sum + (stack:find(text, 1, true) and weight or 0)
  end
  return sum
end

local function get(s, target)
  local w = assert(wire.connect(s.port))
  w:request("GET", target)
  return w
end

local function mix(s, seconds)
  local w = get(s, "/mix?seconds=" .. seconds)
  local r = assert(w:response({}))
  assert.equal("mixed", r.body)
  w:close()
end

local function pprof(s, ...)
  local args = { "go", "tool", "pprof", ... }
  args[#args + 1] = "http://127.0.0.1:" .. s.admin .. "/debug/pprof/profile?seconds=60&ago=0"
  local p = process.spawn(args, { env = s.env })
  local code = p:wait(60)
  assert.equal(0, code, p:err())
  return p:out()
end

describe("profiles", function()
  after_each(process.cleanup)

  it("share the processor's time as compiled functions do", function()
    local s = start()
    mix(s, 6)
    local stacks = folded(s, "seconds=30&ago=0")
    local heavy = weight_of(stacks, ";heavy app.lua:3")
    local light = weight_of(stacks, ";light app.lua:8")
    assert.is_true(heavy + light > 1e6, "too little was seen") -- of a machine that others use
    -- Some 1,500 samples: four times their deviation. bench/profile.lua has more of them.
    local samples = (heavy + light) / 4000
    local tolerance = 4 * (0.7 * 0.3 / samples) ^ 0.5
    assert.is_true(math.abs(heavy / (heavy + light) - 0.7) < tolerance,
      ("%.3f of %d samples"):format(heavy / (heavy + light), samples))
    local shares = assert(json.decode(ask(s, "/debug/jit/shares").body))
    local route = shares.routes[1]
    assert.equal("GET /mix", route.route)
    assert.is_true(route.compiled > route.samples * 0.9)
  end)

  it("are read by go tool pprof, with functions, files and lines", function()
    local s = start()
    mix(s, 1.5)
    local top = pprof(s, "-top")
    assert.is_truthy(top:find("heavy app.lua:3", 1, true), top)
    assert.is_truthy(top:find("light app.lua:8", 1, true), top)
    assert.is_truthy(pprof(s, "-top", "-lines"):find(s.folder .. "/app.lua:5", 1, true))
    local tags = pprof(s, "-tags")
    for _, text in ipairs({ "GET /mix", "worker:", "generation:", "phase:", "compiled" }) do
      assert.is_truthy(tags:find(text, 1, true), tags)
    end
  end)

  it("charge the core's time to what it does, not to Lua", function()
    local s = start()
    local phases = { "(poll)", "(read)", "(parse)", "(write)" }
    local w = assert(wire.connect(s.port))
    local function serve(batch, seconds)
      local bytes = ("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(batch)
      local due = process.now() + seconds
      while process.now() < due do
        w:send(bytes)
        for _ = 1, batch do
          assert(w:receive_until("hi", 20))
        end
      end
    end
    local stop = process.now() + 60
    local stacks, unseen
    repeat -- a sample is 4 ms of CPU time, and some phases take little of it
      serve(1, 1)
      serve(64, 1)
      stacks, unseen = folded(s, "seconds=120&ago=0"), nil
      for _, phase in ipairs(phases) do
        unseen = weight_of(stacks, phase) == 0 and phase or unseen
      end
    until not unseen or process.now() > stop
    w:close()
    local core = 0
    for _, phase in ipairs(phases) do
      assert.is_true(weight_of(stacks, phase) > 0, phase)
    end
    for stack, weight in pairs(stacks) do
      core = core + (stack:find("^%(%l+%)$") and weight or 0)
    end
    assert.is_true(core > weight_of(stacks, "handler app.lua"))
  end)

  it("show a worker that loops for ever, while it does", function()
    local s = start()
    local w = get(s, "/stuck")
    local seen = process.eventually(function()
      return weight_of(folded(s, "seconds=5&ago=0"), "app.lua:20") > 200000
    end, 8)
    w:close()
    assert.is_true(seen)
  end)

  it("show a worker that was killed, and the one that took its place", function()
    local s = start()
    local _, workers = process.family(s.process.pid)
    local pid = assert(workers[1])
    mix(s, 1)
    local before = weight_of(folded(s, "seconds=60&ago=0"), "heavy")
    assert.is_true(before > 100000)
    process.signal(pid, "KILL")
    assert.is_true(process.eventually(function()
      return not process.is_alive(pid)
    end, 5))
    assert.is_true(weight_of(folded(s, "seconds=60&ago=0"), "heavy") >= before)
    assert.is_true(process.eventually(function()
      local r = wire.ask(s.port, "GET", "/")
      return r and r.status == 200
    end, 10))
    mix(s, 1)
    assert.is_true(weight_of(folded(s, "seconds=60&ago=0"), "heavy") > before + 100000)
  end)

  it("tell generations apart, also the one that only ends what it has begun", function()
    local s = start()
    local w = get(s, "/mix?seconds=4")
    process.sleep(0.5)
    assert.equal(0, process.run({ "reload", "--name", "profiled" }, { env = s.env }).code)
    mix(s, 1)
    assert.equal("mixed", assert(w:response({})).body)
    w:close()
    local tags = pprof(s, "-tags", "-tagfocus=route=GET /mix")
    local generations = tags:match(" generation: .-\n\n") or tags
    assert.is_truthy(generations:find(": 1\n"), tags)
    assert.is_truthy(generations:find(": 2\n"), tags)
    assert.is_truthy(tags:find("interpreted", 1, true), tags) -- the old one, after the reload
  end)

  it("name functions of C by how they were called", function()
    local s = start()
    local w = get(s, "/sort")
    assert.equal("sorted", assert(w:response({})).body)
    w:close()
    assert.is_true(weight_of(folded(s, "seconds=60&ago=0"), ";sort;") > 0)
  end)

  it("are of the past, of the time to come, or refused", function()
    local s = start()
    mix(s, 0.5)
    local began = process.now()
    ask(s, "/debug/pprof/profile?seconds=30&ago=0")
    assert.is_true(process.now() - began < 10)
    began = process.now()
    local r = ask(s, "/debug/pprof/profile?seconds=1&format=text")
    assert.is_true(process.now() - began >= 1)
    assert.matches("ms of CPU time", r.body)
    assert.equal(0, weight_of(folded(s, "seconds=30&ago=60"), ""))
    local refused = { "seconds=0", "seconds=901", "seconds=x", "ago=-1", "seconds=1&format=gif" }
    for _, bad in ipairs(refused) do
      assert.equal(400, ask(s, "/debug/pprof/profile?" .. bad).status, bad)
    end
  end)

  it("leave the admin plane's loop free while the largest ones are made", function()
    local s = start({ app = crowded })
    assert.equal("crowded", wire.ask(s.port, "GET", "/crowd").body)
    for _, format in ipairs({ "pprof", "folded", "svg" }) do
      local begun = process.now()
      local curl = process.spawn({ "curl", "-s", "-o", "/dev/null", "-w",
        "%{http_code} %{time_total}",
        ("http://127.0.0.1:%d/debug/pprof/profile?seconds=900&ago=0&format=%s"):format(s.admin,
          format) })
      local longest, probes = 0, 0
      local w = assert(wire.connect(s.admin))
      while curl:is_running() and process.now() - begun < 60 do
        local asked = process.now()
        w:request("GET", "/livez")
        assert.equal(200, assert(w:response({})).status)
        longest = math.max(longest, process.now() - asked)
        probes = probes + 1
        process.sleep(0.002)
      end
      w:close()
      curl:wait(60)
      local status, took = curl:out():match("^(%d+) (%S+)")
      assert.equal("200", status, format)
      -- Made on the loop, it is as long as the making; of a machine that others use.
      assert.is_true(longest < tonumber(took) / 3, ("%s took %s s, a probe of %d %.3f s"):format(
        format, took, probes, longest))
    end
  end)

  it("are made once for those who wait for the same", function()
    local s = start({ app = crowded })
    assert.equal("crowded", wire.ask(s.port, "GET", "/crowd").body)
    local path = "/debug/pprof/profile?seconds=900&ago=0&format=folded"
    local asking = {}
    for i = 1, 32 do -- as many as there may be
      asking[i] = assert(wire.connect(s.admin))
      asking[i]:request("GET", path)
    end
    local begun = process.now()
    local first
    for i = 1, 32 do
      local r = assert(asking[i]:response({ seconds = 60 }))
      assert.equal(200, r.status)
      first = first or process.now() - begun
      asking[i]:close()
    end
    -- One is begun at once, and one for all others.
    assert.is_true(process.now() - begun < 6 * first, "each was made by itself")
  end)

  it("are refused when too many others are being made", function()
    local s = start({ app = crowded })
    assert.equal("crowded", wire.ask(s.port, "GET", "/crowd").body)
    local asking, statuses = {}, {}
    for i = 1, 40 do
      asking[i] = assert(wire.connect(s.admin))
      asking[i]:request("GET", "/debug/pprof/profile?seconds=900&ago=0&format=folded")
    end
    for i = 1, 40 do
      local status = assert(asking[i]:response({ seconds = 60 })).status
      statuses[status] = (statuses[status] or 0) + 1
      asking[i]:close()
    end
    assert.same({ [200] = 32, [503] = 8 }, statuses)
    assert.equal(200, ask(s, "/debug/pprof/profile?seconds=1&ago=0").status)
  end)

  it("are made for the compilation report no oftener than a fiftieth of the time allows", function()
    local s = start({ app = crowded })
    assert.equal("crowded", wire.ask(s.port, "GET", "/crowd").body)
    assert.is_true(process.eventually(function() -- until the worker has written something down
      return ask(s, "/debug/jit").status == 200
    end, 10))
    local function samples()
      local sum = 0
      for _, route in ipairs(assert(json.decode(ask(s, "/debug/jit").body)).shares.routes) do
        sum = sum + route.samples
      end
      return sum
    end
    assert.is_true(samples() > 200000) -- which takes long enough to be kept for a while
    local begun = process.now()
    for _ = 1, 50 do
      samples()
    end
    local shares = 0.05 -- of a making at least; fifty of them, one after the other
    assert.is_true(process.now() - begun < 50 * shares / 2, "each was made")
  end)

  it("name what is loaded anew though names of code that is gone had filled the table", function()
    -- With its lines elsewhere each time: a function is known by where it begins.
    local function version(name, lines)
      return ("\n"):rep(lines) .. crowded:gsub("return app%s*$", "") .. ([[
        local function %s(n)
          local x = 0
          for i = 1, n do x = (x * 31 + i) %% 1000003 end
          return x
        end
        app:get("/burn", function()
          local stop = P.monotonic() + 0.4
          while P.monotonic() < stop do %s(100000) end
          return "%s"
        end)
        return app
      ]]):format(name, name, name)
    end
    local s = start({ app = version("first", 0) })
    assert.equal("first", wire.ask(s.port, "GET", "/burn").body)
    assert.equal("crowded", wire.ask(s.port, "GET", "/crowd-names").body)
    assert.equal("first", wire.ask(s.port, "GET", "/burn").body)
    for round = 1, 4 do
      local name = "later" .. round
      local file = assert(io.open(s.folder .. "/app.lua", "w"))
      file:write(version(name, round))
      file:close()
      s.process:kill("HUP")
      assert.is_truthy(process.eventually(function()
        return wire.ask(s.port, "GET", "/burn").body == name
      end, 20))
      local stacks = folded(s, "seconds=900&ago=0")
      assert.is_true(weight_of(stacks, name .. " app.lua:") > 0, name)
      assert.is_true(weight_of(stacks, "first app.lua:") > 0, "of before")
      for before = 1, round - 1 do
        assert.is_true(weight_of(stacks, ("later%d app.lua:"):format(before)) > 0)
      end
    end
    -- And a worker in the place of this one goes on with them.
    local workers = select(2, process.family(s.process.pid))
    process.signal(workers[1], "KILL")
    assert.is_truthy(process.eventually(function()
      local r = wire.ask(s.port, "GET", "/burn")
      return r and r.status == 200 and select(2, process.family(s.process.pid))[1] ~= workers[1]
    end, 20))
    local stacks = folded(s, "seconds=900&ago=0")
    assert.is_true(weight_of(stacks, "first app.lua:") > 0)
    assert.is_true(weight_of(stacks, "later4 app.lua:") > 0)
    assert.is_truthy(ask(s, "/metrics").body:find(
      'perilune_profile_unnamed_total{what="symbol"} 0\n'))
  end)

  it("are listed, with what pprof asks for besides", function()
    local s = start()
    local list = ask(s, "/debug/pprof/").body
    assert.matches("\nprofile +where the processor's time goes", list)
    assert.matches("perilune%zrun%z", ask(s, "/debug/pprof/cmdline").body)
    assert.matches("num_symbols: 0", ask(s, "/debug/pprof/symbol").body)
    local svg = ask(s, "/debug/pprof/profile?seconds=30&ago=0&format=svg")
    assert.equal("image/svg+xml", svg.headers["content-type"])
    assert.matches("^<svg ", svg.body)
    assert.matches("</svg>\n$", svg.body)
  end)

  it("are asked of the control socket where there is no admin plane", function()
    local s = start({ admin = false })
    local out = process.folder()
    local function run(...)
      return process.run({ "profile", "--name", "profiled", ... }, { env = s.env })
    end

    mix(s, 1)
    local r = run("--ago", "0")
    assert.equal(0, r.code, r.err)
    assert.matches("heavy app%.lua:3\n", r.out)
    local files = { ["a.svg"] = "^<svg ", ["a.pb.gz"] = "^\31\139", ["a.folded"] = "^[^\n]+ %d+\n" }
    for name, begins in pairs(files) do
      r = run("--ago", "0", "--output", out .. "/" .. name)
      assert.equal(0, r.code, r.err)
      assert.matches(begins, process.slurp(out .. "/" .. name))
      assert.matches("heavy app%.lua:3\n", r.out)
    end
    r = run("--seconds", "1", "--format", "folded")
    assert.equal(0, r.code, r.err)
    assert.matches("taking samples for 1 s", r.err)
    assert.equal(2, run("nothing").code)
    r = run("--seconds", "1000")
    assert.equal(2, r.code)
    assert.matches("--seconds 1000: expected is 1 to 900", r.err, 1, true)
    r = run("--ago", "0", "--output", "-")
    assert.equal(0, r.code, r.err)
    assert.matches("^\31\139", r.out)
    assert.equal(1, run("--ago", "0", "--output", "/nowhere/at/all").code)
    assert.equal(3, process.run({ "profile", "--name", "nobody" }, { env = s.env }).code)
  end)
end)
