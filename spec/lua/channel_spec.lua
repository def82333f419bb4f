--- Channels between coroutines of one worker.

local P = require("perilune")
local test = require("perilune.test")

describe("P.channel", function()
  it("hands values over in their order, each to one receiver", function()
    local ch, got = P.channel(2), {}
    for worker = 1, 3 do
      P.detach("receiver", function()
        for value in function() return (ch:recv()) end do
          got[#got + 1] = value
          got[value] = (got[value] or 0) + 1
          P.sleep(0.001 * worker)
        end
      end)
    end
    for i = 1000, 1099 do
      assert.is_true(ch:send(i))
    end
    ch:close()
    P.sleep(0.05)
    assert.equal(100, #got)
    for i = 1, 100 do
      assert.equal(999 + i, got[i])
      assert.equal(1, got[999 + i])
    end
  end)

  it("makes senders wait while it is full, and serves them in turn", function()
    local ch, order = P.channel(1), {}
    assert.is_true(ch:send("a"))
    for _, value in ipairs({ "b", "c" }) do
      P.detach("sender", function()
        ch:send(value)
        order[#order + 1] = value
      end)
    end
    P.sleep(0.001)
    assert.same({}, order)
    assert.equal(1, ch:count())
    assert.equal("a", ch:recv())
    P.sleep(0.001)
    assert.same({ "b" }, order)
    assert.same({ "b", "c" }, { ch:recv(), ch:recv() })
    assert.equal(0, ch:count())
  end)

  it("of no size makes each sender wait for its receiver", function()
    local ch = P.channel()
    local task = P.detach("sender", function() return ch:send("x") end)
    P.sleep(0.001)
    assert.is_false(task:done())
    assert.equal("x", ch:recv())
    assert.is_true(task:wait())
    assert.same({ nil, "timeout" }, { ch:send("y", 0) })
    assert.same({ nil, "timeout" }, { ch:recv(0) })
  end)

  it("waits as long as it is told, and leaves nothing behind", function()
    local ch, start = P.channel(), P.monotonic()
    local value, err = ch:recv("20ms")
    assert.is_nil(value)
    assert.equal("timeout", err)
    assert.is_true(P.monotonic() - start >= 0.018)
    assert.same({ nil, "timeout" }, { ch:send(1, 0.005) })
    assert.equal(0, #ch._receivers + #ch._senders)
    local task = P.detach("receiver", function() return ch:recv(1) end)
    P.sleep(0.001)
    assert.is_true(ch:send("in time"))
    assert.equal("in time", task:wait())
  end)

  it("gives what is left after it was closed, then says so to all", function()
    local ch = P.channel(2)
    local late = P.detach("receiver", function() return ch:recv() end)
    P.sleep(0.001)
    ch:send("first") -- to the one that waits
    ch:send("kept")
    ch:send("too")
    local sender = P.detach("sender", function() return ch:send("refused") end)
    P.sleep(0.001)
    ch:close()
    ch:close()
    assert.equal("first", late:wait())
    local sent, why = sender:wait()
    assert.is_nil(sent)
    assert.equal("closed", why)
    assert.same({ "kept", "too" }, { ch:recv(), (ch:recv()) })
    assert.same({ nil, "closed" }, { ch:recv() })
    assert.same({ nil, "closed" }, { ch:send("x") })
  end)

  it("passes over a receiver that was cancelled", function()
    local ch = P.channel()
    local gone = P.detach("gone", function() return ch:recv() end)
    local stays = P.detach("stays", function() return ch:recv() end)
    P.sleep(0.001)
    gone:cancel()
    P.sleep(0.001)
    assert.is_true(ch:send("for the other"))
    assert.equal("for the other", stays:wait())
  end)

  it("ends a wait at the deadline of the request", function()
    local app, ch = P.app(), P.channel()
    app:get("/", { timeout = "20ms" }, function() return ch:recv() end)
    assert.equal(503, test.app(app):get("/").status)
    assert.equal(0, #ch._receivers)
  end)

  it("refuses nil, odd sizes and odd times", function()
    assert.error_matches(function() P.channel(-1) end, "takes a number of values")
    assert.error_matches(function() P.channel(1.5) end, "takes a number of values")
    assert.error_matches(function() P.channel(1):send(nil) end, "nil cannot be sent")
    assert.error_matches(function() P.channel(1):recv("soon") end, "a timeout is a number")
  end)
end)
