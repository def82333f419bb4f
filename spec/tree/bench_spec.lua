-- Scripts of bench/ are run by hand, and seldom: each must at least begin, say how it is called,
-- and refuse what it doesn't know, before it measures anything.

local lfs = require("lfs")

local function run(name, argument)
  local pipe = assert(io.popen(("luajit bench/%s.lua %s 2>&1; echo $?"):format(name, argument)))
  local output, code = pipe:read("*a"):match("^(.*)\n(%d+)\n$")
  pipe:close()
  return output, tonumber(code)
end

local names = {}
for file in lfs.dir("bench") do
  local name = file:match("^([%w_]+)%.lua$")
  names[#names + 1] = name ~= "wrk" and name or nil -- wrk.lua is loaded by wrk
end
table.sort(names)

describe("bench", function()
  for _, name in ipairs(names) do
    it("says how " .. name .. ".lua is called", function()
      local output, code = run(name, "--help")
      assert.equal(0, code, output)
      assert.truthy(output:find("usage: luajit bench/" .. name .. ".lua", 1, true), output)
    end)

    it("refuses an argument that " .. name .. ".lua does not know", function()
      local output, code = run(name, "--unheard-of 1")
      assert.equal(2, code, output)
      assert.truthy(output:find("--unheard-of", 1, true), output)
    end)
  end

  it("refuses numbers that are out of bounds", function()
    for _, number in ipairs({ "0", "101", "1.5", "nan", "x" }) do
      local output, code = run("heap", "--rounds " .. number)
      assert.equal(2, code, output)
      assert.truthy(output:find("--rounds takes a number from 1 to 100", 1, true), output)
    end
  end)
end)
