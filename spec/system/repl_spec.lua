--- `perilune repl`: what is typed, what is shown.

local process = require("spec.support.process")

--- Runs it with these lines as input.
local function type_in(text, app)
  local folder = process.folder({ ["input"] = text })
  local script = ('exec "$0" repl %s < %s/input'):format(app or "apps/hello", folder)
  local p = process.spawn({ "sh", "-c", script, process.launcher() })
  local code = p:wait(30)
  return { code = code, out = p:out(), err = p:err() }
end

describe("perilune repl", function()
  after_each(process.cleanup)

  it("prints values: numbers, texts, tables, several, none", function()
    local r = type_in([[
1 + 1
"a\tb"
{ 3, 1, 2 }
{ name = "x", list = { true }, [7] = "seven" }
1, nil, "three"
local x = 1
P.json.null
]])
    assert.equal(0, r.code)
    assert.equal(table.concat({
      "2", '"a\\9b"', "{ 3, 1, 2 }", '{ [7] = "seven", list = { true }, name = "x" }',
      '1\tnil\t"three"', "null", "",
    }, "\n"), r.out)
  end)

  it("keeps globals, and takes statements over several lines", function()
    local r = type_in("n = 20\nfunction double(x)\n  return x * 2\nend\ndouble(n) + 2\n")
    assert.equal("42\n", r.out)
  end)

  it("asks the app, without a socket", function()
    local r = type_in("request('GET', '/hello/moon').body\nrequest('GET', '/nowhere').status\n")
    assert.equal('"{\\"hello\\":\\"moon\\"}"\n404\n', r.out)
  end)

  it("can wait", function()
    assert.equal('"later"\n', type_in("P.sleep(0.02) return 'later'\n").out)
  end)

  it("shows errors with their traceback, and goes on", function()
    local r = type_in("function f() error('on purpose') end\nf()\n1 +* 2\nnil + 1\n7\n")
    assert.equal(0, r.code)
    assert.matches("on purpose", r.err)
    assert.matches("repl:1: in function", r.err)
    assert.matches("unexpected symbol near", r.err)
    assert.matches("attempt to perform arithmetic on a nil value", r.err)
    assert.equal("7\n", r.out)
  end)

  it("takes expressions over several lines, too", function()
    local r = type_in("{\n  1,\n  2 }\nrequest(\n'GET', '/hello/x').status\n[[a\nb]]\n")
    assert.equal('{ 1, 2 }\n200\n"a\\nb"\n', r.out)
  end)

  it("says what is wrong with lines that the input's end has cut off", function()
    local r = type_in("1\nfunction f(")
    assert.equal("1\n", r.out)
    assert.matches("line 1: .* near '<eof>'", r.err)
    assert.equal(0, r.code)
  end)

  it("prints what the code has printed before its values", function()
    assert.equal("one\n2\n", type_in("print('one') return 2\n").out)
  end)

  it("cuts tables that are large, deep or hold themselves", function()
    local r = type_in([[
t = {} t.t = t return t
w = {} for i = 1, 1000 do w[i] = i end return w
d = {} e = d for i = 1, 20 do e.e = {} e = e.e end return d
]])
    assert.matches("{ t = <the same again> }\n", r.out, 1, true)
    assert.matches("  40,\n  ...\n}\n", r.out, 1, true)
    assert.matches("{ e = { e = { e = { e = { e = { ... } } } } } }\n", r.out, 1, true)
  end)

  it("shows errors that are tables, and those of __tostring", function()
    local r = type_in("error({ code = 7 })\n"
      .. "setmetatable({}, { __tostring = function() error('shy') end })\n8\n")
    assert.matches("an error that is a table: { code = 7 }", r.err, 1, true)
    assert.matches("repl:1: shy", r.err)
    assert.equal("8\n", r.out)
  end)

  it("sends requests with the options that specs have, and no others", function()
    local folder = process.folder({ ["app.lua"] = [[
local P = require "perilune"
local app = P.app {}
app:post("/echo", function(c)
  return { q = c:query("q"), body = c:json(), cookie = c:cookie("k"), head = c:header("x-a") }
end)
app:get("/broken", function() error("on purpose") end)
return app
]] })
    local r = type_in([[
r = request("post", "/echo", {
  query = { q = "a b" }, json = { 1 }, cookies = { k = "v" }, headers = { ["X-A"] = "1" },
})
P.json.decode(r.body)
request("GET", "/broken").status
request("GET", "/broken", { jsno = {} })
]], folder)
    assert.equal('{ body = { 1 }, cookie = "v", head = "1", q = "a b" }\n500\n', r.out)
    assert.matches("app.lua:6: on purpose", r.err)
    assert.matches('a request has no option "jsno"', r.err, 1, true)
  end)

  --- Interrupts it as often as the text says so, each time that `wanted` has come once more.
  local function interrupt(input, wanted, times)
    local folder = process.folder({ input = input })
    local p = process.spawn({ "sh", "-c", ('exec "$0" repl apps/hello < %s/input'):format(folder),
      process.launcher() })
    for n = 1, times do
      process.sleep(0.4)
      p:kill("INT")
      assert(process.eventually(function()
        return select(2, p:err():gsub(wanted, "")) == n
      end), p:err())
    end
    return p
  end

  it("is interrupted by Ctrl-C, and goes on", function()
    local p = interrupt("while true do end\nP.sleep(100)\nwhile true do pcall(error) end\n"
      .. "setmetatable({}, { __tostring = function() while true do end end })\n'still here'\n",
      "interrupted\n", 4)
    assert.equal(0, p:wait(10))
    assert.equal('"still here"\n', p:out())
  end)

  it("gives code up that catches its interruption, and goes on", function()
    local p = interrupt("while true do pcall(P.sleep, 1) end\n"
      .. "while true do pcall(function() while true do end end) end\n'still here'\n",
      "a task was given up", 2)
    assert.equal(0, p:wait(10))
    assert.equal('"still here"\n', p:out())
  end)

  it("ends at a second Ctrl-C where the first finds no way in", function()
    local folder = process.folder({
      input = "('a'):rep(100):find(('a?'):rep(100) .. ('a'):rep(100) .. 'b')\n" })
    local p = process.spawn({ "sh", "-c", ('exec "$0" repl apps/hello < %s/input'):format(folder),
      process.launcher() })
    process.sleep(0.5)
    p:kill("INT")
    process.sleep(0.3)
    assert.is_true(p:is_running())
    p:kill("INT")
    p:wait(5)
    assert.equal(2, p.signal)
  end)

  it("is ended by Ctrl-C while it reads a pipe, or loads the app", function()
    local folder = process.folder({ ["app.lua"] = "while true do end" })
    assert(os.execute("mkfifo " .. folder .. "/pipe") == 0)
    local p = process.spawn({ "sh", "-c", ('exec "$0" repl apps/hello < %s/pipe'):format(folder),
      process.launcher() })
    local writer = assert(io.open(folder .. "/pipe", "w"))
    assert.is_truthy(p:wait_for("err", "Ctrl%-D ends"))
    process.sleep(0.1)
    p:kill("INT")
    p:wait(5)
    writer:close()
    assert.equal(2, p.signal)
    local q = process.start({ "repl", folder })
    process.sleep(0.5)
    q:kill("INT")
    assert.equal(65, q:wait(5))
    assert.matches("app.lua:1: the task was cancelled", q:err())
  end)

  it("says why an app does not load, with 65", function()
    local folder = process.folder({ ["app.lua"] = "\nerror('not today')" })
    local r = type_in("1\n", folder)
    assert.equal(65, r.code)
    assert.matches("app.lua:2: not today", r.err)
  end)
end)

--- At a terminal that `script` makes. `send` types.
local function at_terminal(kind)
  local folder = process.folder()
  assert(os.execute("mkfifo " .. folder .. "/keys") == 0)
  local command = 'exec script -qfec "exec $0 repl apps/hello" /dev/null < ' .. folder .. "/keys"
  local p = process.spawn({ "sh", "-c", command, process.launcher() },
    { env = { TERM = kind, HOME = folder } })
  local keys = assert(io.open(folder .. "/keys", "w"))
  keys:setvbuf("no")
  local function send(text)
    keys:write(text)
  end
  --- Types Ctrl-D until it is heard: one that comes before the line is read is lost.
  local function finish()
    for _ = 1, 20 do
      send("\4")
      if p:wait(0.3) then
        break
      end
    end
    keys:close()
    return p.code
  end
  return p, send, finish
end

describe("perilune repl at a terminal", function()
  after_each(process.cleanup)

  if os.execute("command -v script >/dev/null 2>&1") ~= 0 then
    pending("(there is no program `script` here)")
    return
  end

  for _, kind in ipairs({ "xterm", "dumb" }) do -- edited, if libedit is there; and plain
    it("prompts, drops the line at Ctrl-C, and ends at Ctrl-D: " .. kind, function()
      local p, send, finish = at_terminal(kind)
      assert.is_truthy(p:wait_for("out", "Ctrl%-D ends\r?\n.-> "))
      send("20 + 1\n")
      assert.is_truthy(p:wait_for("out", "\n21\r\n"))
      send("dropped(\n")
      assert.is_truthy(p:wait_for("out", "%.%.%. "))
      send("more of it\3")
      local answered
      for _ = 1, 20 do -- a line that is typed before Ctrl-C is heard is dropped with the other
        process.sleep(0.2)
        send("40 + 2\n")
        answered = p:wait_for("out", "\n42\r\n", 1)
        if answered then
          break
        end
      end
      assert.is_truthy(answered, p:out())
      send("while true do end\n")
      process.sleep(0.4)
      send("\3")
      assert.is_truthy(p:wait_for("out", "interrupted\r\n"))
      send("'ü'\n")
      assert.is_truthy(p:wait_for("out", '"ü"\r\n'), p:out())
      assert.equal(0, finish())
    end)
  end

  it("has a history, where lines can be edited", function()
    if not io.popen("ldd " .. process.launcher()):read("*a"):find("libedit", 1, true) then
      return pending("(built without libedit)")
    end
    local p, send, finish = at_terminal("xterm")
    assert.is_truthy(p:wait_for("out", "Ctrl%-D ends\r?\n.-> "))
    send("3 * 7\n")
    assert.is_truthy(p:wait_for("out", "\n21\r\n"))
    send("\27[A0\n") -- the line before, and a digit
    assert.is_truthy(p:wait_for("out", "\n210\r\n"), p:out())
    assert.equal(0, finish())
  end)
end)
