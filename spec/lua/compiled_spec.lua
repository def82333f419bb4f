-- What keeps handlers cheap: routes compile whole, without closures per request,
-- and the code of one route does not spoil the code of another.

local P = require("perilune")
local test = require("perilune.test")
local vmdef = require("jit.vmdef")

--- The aborts of traces, by reason, while `use` runs: "reason at file:line" -> count.
local function aborts_of(use)
  local util = require("jit.util")
  local aborts = {}
  local function on_trace(what, _, func, pc, code, reason)
    if what == "abort" then
      local info = util.funcinfo(func, pc)
      if type(reason) == "function" then
        reason = util.funcinfo(reason).loc
      end
      local text = (vmdef.traceerr[code] or tostring(code)):gsub("%%[ds]", tostring(reason or ""))
      aborts[#aborts + 1] = ("%s at %s"):format(text, info.loc or "?")
    end
  end
  jit.attach(on_trace, "trace")
  local ok, err = pcall(use)
  jit.attach(on_trace)
  if not ok then
    error(err, 0)
  end
  return aborts
end

--- `count` pipelined requests: they run in one go, as they do on a busy server.
local function drive(api, paths, rounds)
  local bytes = {}
  for _, path in ipairs(paths) do
    bytes[#bytes + 1] = ("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path)
  end
  bytes = table.concat(bytes):rep(8)
  for _ = 1, rounds do
    api:raw(bytes, #paths * 8)
  end
end
jit.off(drive) -- the loops of the driver are none of the server's

-- The client that drives the requests (inject.lua, test.lua, busted) does not count.
local OURS = { "at context.lua:", "at respond.lua:", "at route ", "at compiled_spec.lua:" }

local function in_our_code(aborts)
  local list = {}
  for _, abort in ipairs(aborts) do
    for _, place in ipairs(OURS) do
      if abort:find(place, 1, true) then
        list[#list + 1] = abort
        break
      end
    end
  end
  return list
end

describe("routes in compiled code", function()
  it("give up no trace in what all routes share", function()
    local app = P.app()
    app:use(function(c, next)
      next(c)
      c:set("x-request-id", c.id)
    end)
    app:use(function(c, next)
      if c:header("x-none") then
        return c:problem(401)
      end
      return next(c)
    end)
    app:get("/text/:id<int>", function(c, id)
      return c:query("q") or (id > 3 and "large" or "small")
    end)
    app:get("/json/:name", function(c, name)
      return { name = name, path = c.path, method = c.method }
    end)
    app:get("/created", function()
      return { a = 1 }, 201, { location = "/x" }
    end)
    app:get("/problem", function(c)
      return c:problem(404, "none")
    end)
    local api = test.app(app)
    jit.flush()
    local aborts = aborts_of(function()
      drive(api, { "/text/5", "/json/x", "/created", "/problem", "/text/2?q=7" }, 60)
    end)
    assert.same({}, in_our_code(aborts))
  end)

  it("stay compiled although a handler of another route loops", function()
    local app = P.app()
    app:get("/loop", function()
      local sum = 0
      for i = 1, 50 do
        sum = sum + i
      end
      return tostring(sum)
    end)
    app:get("/plain", function() return "plain" end)
    local api = test.app(app)
    jit.flush()
    local aborts = aborts_of(function()
      drive(api, { "/loop", "/plain" }, 100)
    end)
    for _, abort in ipairs(in_our_code(aborts)) do
      assert.is_nil(abort:find("blacklisted", 1, true), abort)
      assert.is_nil(abort:find("at route GET /plain", 1, true), abort)
    end
  end)
end)
