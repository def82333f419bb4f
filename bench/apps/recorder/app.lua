--- What bench/recorder.lua asks for: marks in a loop inside a handler.

local P = require "perilune"

local app = P.app { title = "recorder" }

local WORK = {
  nothing = function(n)
    local sum = 0
    for i = 1, n do
      sum = sum + i
    end
    return sum
  end,
  mark = function(n)
    for _ = 1, n do
      P.mark("a short text")
    end
  end,
}

app:get("/run/:what/:n<int>", { timeout = "60s" }, function(_, what, n)
  WORK[what](10000)
  local begun = os.clock()
  WORK[what](n)
  return tostring((os.clock() - begun) * 1e9 / n)
end)

return app
