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

  it("is interrupted by Ctrl-C, and goes on", function()
    local folder = process.folder({ input = "while true do end\nP.sleep(100)\n'still here'\n" })
    local p = process.spawn({ "sh", "-c", ('exec "$0" repl apps/hello < %s/input'):format(folder),
      process.launcher() })
    for n = 1, 2 do
      process.sleep(0.4)
      p:kill("INT")
      assert(process.eventually(function()
        return select(2, p:err():gsub("interrupted\n", "")) == n
      end), p:err())
    end
    assert.equal(0, p:wait(10))
    assert.equal('"still here"\n', p:out())
  end)

  it("says why an app does not load, with 65", function()
    local folder = process.folder({ ["app.lua"] = "\nerror('not today')" })
    local r = type_in("1\n", folder)
    assert.equal(65, r.code)
    assert.matches("app.lua:2: not today", r.err)
  end)
end)
