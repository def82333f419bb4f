-- bench/apps/dict/app.lua - a dictionary under load, for bench/dict.lua.

local P = require("perilune")
local work = require("work")
local ffi = require("ffi")

ffi.cdef("int getpid(void);")

local app = P.app({ title = "Dictionary" })
local dicts = {
  small = P.shared.dict("small"),
  large = P.shared.dict("large", { capacity = "48M" }),
}

local function dict_for(what)
  return what:find("_1k$") and dicts.large or dicts.small
end

app:get("/pid", function()
  return tostring(ffi.C.getpid())
end)

app:get("/prepare/:what", function(_, what)
  work.prepare(dict_for(what), what)
  return "ok"
end)

app:get("/run/:what", { timeout = "5m" }, function(c, what)
  return tostring(work.run(dict_for(what), what, tonumber(c:query("start")),
    tonumber(c:query("seconds"))))
end)

return app
