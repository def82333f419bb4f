-- Preemption as code sees it, without a server: specs and their apps are preempted like those.

local P = require("perilune")
local test = require("perilune.test")

local function work()
  local x = 0
  for i = 1, 1000 do
    x = x + i
  end
  return x
end

describe("code that computes", function()
  it("lets tasks run in between, in a spec, too", function()
    local done = false
    P.detach("other", function() done = true end)
    while not done do end
    assert.is_true(done)
  end)

  it("lets tasks run in between from inside coroutines and pcall", function()
    local done = false
    P.detach("other", function() done = true end)
    local count = 0
    for n in coroutine.wrap(function()
      repeat
        pcall(work)
        coroutine.yield(work())
      until done
    end) do
      assert.equal(500500, n)
      count = count + 1
    end
    assert.is_true(count > 0)
  end)

  it("gets what a coroutine yields, not its preemptions", function()
    local co = coroutine.create(function(...)
      local got = { ... }
      for _ = 1, 5 do
        for _ = 1, 3000 do
          work()
        end
        got = { coroutine.yield(unpack(got)) }
      end
      return "end"
    end)
    for i = 1, 5 do
      local results = { coroutine.resume(co, i, i + 1) }
      assert.same({ true, i, i + 1 }, results)
      assert.equal("suspended", coroutine.status(co))
    end
    assert.same({ true, "end" }, { coroutine.resume(co) })
    assert.equal("dead", coroutine.status(co))
  end)

  it("passes for running to others while it is preempted inside a coroutine", function()
    local seen
    local stop = P.monotonic() + 20
    local co = coroutine.create(function()
      while not seen and P.monotonic() < stop do
        work()
      end
    end)
    P.detach("other", function()
      seen = { coroutine.status(co), coroutine.resume(co) }
    end)
    assert.same({ true }, { coroutine.resume(co) })
    assert.same({ "normal", false, "cannot resume a coroutine that waits" }, seen)
  end)

  it("is ended at its deadline, of the clock that a spec moves as well", function()
    local app = P.app()
    app:get("/", { timeout = "200ms" }, function()
      while true do end
    end)
    local api = test.app(app)
    assert.equal(503, api:get("/").status)
  end)

  it("is left alone in P.atomic, which passes on results and errors", function()
    local runs = 0
    P.detach("other", function() runs = runs + 1 end)
    assert.same({ 1, nil, 3 }, { P.atomic(function(...)
      for _ = 1, 20000 do
        work()
      end
      assert.equal(0, runs)
      return ...
    end, 1, nil, 3) })
    assert.has_error(function() P.atomic(error, "mine", 0) end, "mine")
    P.sleep(0.001)
    assert.equal(1, runs)
  end)

  it("keeps the traceback of an error in P.atomic", function()
    local app = P.app()
    app:get("/", function()
      P.atomic(function()
        local function culprit() error("on purpose") end
        culprit()
      end)
    end)
    local ok, err = pcall(function() test.app(app):get("/") end)
    assert.is_false(ok)
    assert.matches("in function 'culprit'", tostring(err), 1, true)
  end)
end)

describe("a finalizer", function()
  it("that raises ends nobody else's code", function()
    local ffi = require("ffi")
    local runs = 0
    for _ = 1, 100 do
      ffi.gc(ffi.new("int[4]"), function()
        runs = runs + 1
        error("on purpose")
      end)
    end
    local kind = ffi.metatype("struct { int preempt_spec; }", {
      __gc = function() error("on purpose") end,
      __index = { answer = function() return 42 end },
    })
    assert.equal(42, kind():answer())
    collectgarbage()
    collectgarbage()
    assert.equal(100, runs)
  end)

  it("can be a foreign function, and can be taken back", function()
    local ffi = require("ffi")
    ffi.cdef("void *malloc(size_t); void free(void *);")
    local block = ffi.gc(ffi.C.malloc(10), ffi.C.free)
    assert.equal(block, ffi.gc(block, nil)) -- or it would be freed twice
    ffi.C.free(block)
    collectgarbage()
  end)
end)

describe("what preemption needs for itself", function()
  it("is refused: debug.sethook", function()
    assert.error_matches(function() debug.sethook() end, "debug.sethook cannot be used here")
  end)

  it("is refused: LuaJIT's profiler", function()
    assert.error_matches(function() require("jit.profile").start("f", print) end,
      "LuaJIT's profiler (jit.profile, jit.p) cannot be used here", 1, true)
  end)
end)
