--- perilune top and perilune status: what a running server says of itself.

local json = require("perilune.json")
local process = require("spec.support.process")
local wire = require("spec.support.wire")

describe("perilune top", function()
  local s, env

  setup(function()
    env = { XDG_RUNTIME_DIR = process.folder() }
    local folder = process.folder({ ["app.lua"] = 'local P = require "perilune"\n'
      .. 'local app = P.app {}\napp:get("/hello/:name", function() return "hi" end)\n'
      .. "return app\n" })
    local p = process.start({ "run", folder, "--listen", "127.0.0.1:0", "--name", "watched",
      "--workers", "2" }, { env = env })
    local port = p:wait_for("err", "serving [^\n]-http://127%.0%.0%.1:(%d+)")
    s = { process = p, port = tonumber(port) }
    for _ = 1, 30 do
      wire.ask(s.port, "GET", "/hello/moon")
    end
  end)
  teardown(process.cleanup)

  it("writes one page where there is no terminal", function()
    assert(process.eventually(function()
      local r = process.run({ "top", "--name", "watched" }, { env = env })
      return r.code == 0 and r.out:find("\nGET /hello/:name .* 30 *\n")
    end, 10))
    local page = process.run({ "top", "--name", "watched" }, { env = env }).out
    assert.matches("^watched  serving  generation 1 %(%x+%)  up %d+s  pid " .. s.process.pid, page)
    assert.matches("\nWORKER +PID  STATE", page)
    assert.matches("\n1 +%d+ +serving", page)
    assert.is_nil(page:find("\27", 1, true))
  end)

  it("has the same numbers as status --json", function()
    local sent, status = 30, nil
    assert(process.eventually(function()
      wire.ask(s.port, "GET", "/hello/moon")
      sent = sent + 1
      local r = process.run({ "status", "--json", "--name", "watched" }, { env = env })
      status = assert(json.decode(r.out))
      return status.requests_per_s > 0
    end, 10))
    assert.equal(sent, status.routes[1].requests)
    assert.equal(2, #status.workers)
    assert.is_true(status.workers[2].memory_bytes > 0)
  end)

  it("takes the screen of a terminal, draws again and again, and gives it back", function()
    local launcher = process.launcher()
    local command = "stty cols 60 rows 12; " .. launcher .. " top --name watched"
    local p = process.spawn({ "sh", "-c", "(sleep 2.5; printf q; sleep 5) | script -qec '"
      .. command .. "' /dev/null" }, { env = env })
    assert.is_truthy(p:wait_for("out", "\27%[%?25h\27%[%?1049l", 20), p:out()) -- by the key
    local out = p:out()
    local _, pages = out:gsub("\27%[H", "")
    assert.is_true(pages >= 2, out)
    assert.is_truthy(out:find("\27[?1049h", 1, true))
    for line in out:match("\27%[H(.-)\27%[J"):gmatch("[^\n]+") do
      assert.is_truthy(line:find("\27[K", 1, true), line)
    end
  end)

  it("gives the screen back while it is suspended", function()
    local command = "set -m; " .. process.launcher() .. " top --name watched; echo away; fg"
    local p = process.spawn({ "sh", "-c", "(sleep 1; printf '\\032'; sleep 1; printf q; sleep 5)"
      .. " | script -qec '" .. command .. "' /dev/null" }, { env = env })
    assert.is_truthy(p:wait_for("out", "\27%[%?1049l.*away.*\27%[%?1049h.*\27%[%?1049l", 20),
      p:out())
  end)

  it("says so when nothing runs", function()
    local r = process.run({ "top", "--name", "nobody" }, { env = env })
    assert.equal(3, r.code)
    assert.matches("nobody is not running", r.err)
  end)
end)
