--- `perilune dev` in a browser: what the pages of an app do while it is written.

local process = require("spec.support.process")
local wire = require("spec.support.wire")

local SECONDS = 20 -- for a story

local function lacking()
  for _, program in ipairs({ "chromium", "node" }) do
    local look = process.spawn({ "sh", "-c", "command -v " .. program })
    if look:wait() ~= 0 then
      process.cleanup()
      return program
    end
  end
  process.cleanup()
end

local HEAD = 'local P = require "perilune"\nlocal app = P.app {}\n'
local EMPTY = HEAD .. "return app\n"

local function start(files, opts)
  opts = opts or {}
  local folder = opts.folder or process.folder(files)
  local p = process.start({ "dev", folder, "--listen", "127.0.0.1:" .. (opts.port or 0),
    "--set", "admin.listen=127.0.0.1:" .. (opts.admin or 0) },
    { env = { XDG_RUNTIME_DIR = process.folder() } })
  local port = assert(p:wait_for("err", "serving [^\n]-http://127%.0%.0%.1:(%d+)"), p:err())
  return { process = p, port = tonumber(port), app = folder }
end

local function browse(s, story)
  return process.spawn({ "node", "spec/support/browser_dev.js", story,
    "http://127.0.0.1:" .. s.port .. "/", s.app })
end

-- The story has come to its end, and has seen that many things.
local function ends_well(browser, count)
  local code = browser:wait(SECONDS)
  assert.equal(0, code, browser:out() .. browser:err())
  local _, seen = browser:out():gsub("ok ", "")
  assert.equal(count, seen)
end

local missing = lacking()

describe("perilune dev in Chromium", function()
  after_each(process.cleanup)

  if missing then
    pending(("shows what fails, loads pages again (no %s here: .ci/setup test installs it)")
      :format(missing))
    return
  end

  it("shows the overlay, takes it away, and loads pages again", function()
    local s = start({ ["app.lua"] = EMPTY })
    ends_well(browse(s, "errors"), 16)
  end)

  it("swaps style sheets in place, and loads the page again for scripts", function()
    local s = start({ ["app.lua"] = EMPTY, ["script.js"] = "" })
    ends_well(browse(s, "styles"), 6)
  end)

  it("shows why an app does not load at the start, until it does", function()
    local s = start({ ["app.lua"] = HEAD .. "error('not yet')\n" })
    ends_well(browse(s, "start"), 5)
  end)

  it("finds the next server, and loads the page again", function()
    local admin = wire.free_port()
    local s = start({ ["app.lua"] = EMPTY }, { admin = admin })
    local browser = browse(s, "restart")
    assert.is_truthy(browser:wait_for("out", "ok the script"), browser:err())
    s.process:stop()
    start(nil, { folder = s.app, port = s.port, admin = admin })
    ends_well(browser, 3)
  end)

  it("leaves its stream to other pages while nobody sees it", function()
    local s = start({ ["app.lua"] = EMPTY })
    ends_well(browse(s, "hidden"), 4)
  end)
end)
