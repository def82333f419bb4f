-- All kinds of work at once, interrupted a thousand times a second: every result is right. The long
-- form of this is `make soak ARGS=stress`.

local posix = require("spec.support.posix")
local process = require("spec.support.process")
local sockets = require("spec.support.wire")
local stress = require("spec.support.app.stress.jobs")

local APP = "spec/support/app/stress"
local CONNECTIONS, SECONDS = 32, 5
local PATIENCE_S = 120 -- for an answer: a sanitized build on a busy machine is slow
local LATE = { "loops", "sort", "gsub", "recursion", "json", "tasks" }
local SEED = 20231

local server

local function serve(settings, workers)
  local args = {}
  for _, pair in ipairs(settings) do
    args[#args + 1] = "--set"
    args[#args + 1] = pair
  end
  server = process.server({ app = APP, args = args, workers = workers })
end

local function get(target)
  return { bytes = "GET " .. target .. " HTTP/1.1\r\nHost: x\r\n\r\n", target = target }
end

local function text_of(result)
  assert(type(result) == "number", result)
  return ("%.0f"):format(result)
end

--- What is asked, with the right answers: computed here, where nothing else runs.
local function questions()
  local list = {}
  for _, jobs in ipairs({ stress.jobs, stress.twins }) do
    for name, run in pairs(jobs) do
      for n = 1, 3 do
        local one = get(("/job/%s?n=%d&seed=%d"):format(name, n, SEED + n))
        one.status, one.body = 200, text_of(run(n, SEED + n))
        list[#list + 1] = one
      end
    end
  end
  for _, name in ipairs(LATE) do
    local one = get(("/late/%s?n=1&seed=%d"):format(name, SEED))
    one.status = 503
    list[#list + 1] = one
  end
  local reply = get("/reply?n=60&seed=" .. SEED)
  reply.status, reply.body = 200, stress.reply_text(60, SEED)
  list[#list + 1] = reply
  local text = stress.text_of(6, SEED)
  list[#list + 1] = {
    target = "POST /body", status = 200, body = text_of(stress.sum_of(text)),
    bytes = ("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"):format(#text, text),
  }
  return list
end

--- Asks on all connections at once, and looks at each answer.
local function round(wires, list, next_index)
  local asked = {}
  for i, wire in ipairs(wires) do
    asked[i] = list[next_index(#list)]
    assert.is_true(wire:send(asked[i].bytes))
  end
  for i, wire in ipairs(wires) do
    local answer, err = wire:response({ seconds = PATIENCE_S })
    assert.is_table(answer, asked[i].target .. ": " .. tostring(err))
    local what = ("%s: %d %s"):format(asked[i].target, answer.status, answer.body:sub(1, 200))
    assert.equal(asked[i].status, answer.status, what)
    if asked[i].body then
      assert.equal(asked[i].body, answer.body, what)
    end
  end
end

local function totals(wire)
  wire:send(get("/totals").bytes)
  local body = assert(wire:response()).body
  return tonumber(body:match('"owed":(%d+)')), tonumber(body:match('"deferred":(%d+)')),
    tonumber(body:match('"violations":(%d+)'))
end

describe("under preemption every millisecond", function()
  after_each(process.cleanup)

  it("jobs of all kinds give what they give alone", function()
    serve({ "vm.slice=1ms", "timeouts.handler=120s" }, 2)
    local list, wires, x = questions(), {}, SEED
    for i = 1, CONNECTIONS do
      wires[i] = assert(sockets.connect(server.port))
    end
    local _, workers = process.family(server.process.pid)
    local stop = posix.now() + SECONDS
    repeat
      round(wires, list, function(count)
        x = stress.step(x)
        return x % count + 1
      end)
    until posix.now() > stop
    for _, wire in ipairs(wires) do
      assert.is_true(posix.eventually(function() -- deferred calls run behind the answers
        local owed, deferred, violations = totals(wire)
        assert.equal(0, violations)
        return owed == deferred
      end, PATIENCE_S))
      wire:close()
    end
    assert.same({ workers }, { select(2, process.family(server.process.pid)) })
  end)
end)

describe("beside handlers that never end", function()
  after_each(process.cleanup)

  it("quick ones are answered, and each of the others gets its 503", function()
    serve({}, 1)
    local bad, quick = {}, assert(sockets.connect(server.port))
    for i = 1, 6 do
      bad[i] = assert(sockets.connect(server.port))
      bad[i]:send(get(i % 2 == 0 and "/spin" or "/spin-pcall").bytes)
    end
    for _ = 1, 10 do
      quick:send(get("/quick").bytes)
      assert.equal("quick", assert(quick:response({ seconds = PATIENCE_S })).body)
    end
    for _, wire in ipairs(bad) do
      local answer = assert(wire:response({ seconds = PATIENCE_S }))
      assert.equal(503, answer.status)
      assert.equal("application/problem+json", answer.headers["content-type"])
      wire:close()
    end
    quick:close()
  end)
end)
