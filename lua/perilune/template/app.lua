--- @NAME@: an app for Perilune. `perilune dev` serves it while you write.

local P = require "perilune"
local app = P.app { title = "@NAME@" }

-- What survives a reload, per worker; see "Reload" in the manual.
local seen = P.keep("seen", 1, function() return { greetings = 0 } end)

app:use(function(c, next)
  next(c)
  c:set("x-content-type-options", "nosniff")
end)

app:get("/", function(c)
  return c:html("<!doctype html><title>@NAME@</title><h1>@NAME@</h1><p>It works.</p>")
end)

app:get("/hello/:name", function(_, name)
  seen.greetings = seen.greetings + 1
  return { hello = name, greetings = seen.greetings }
end)

app:get("/double/:n<int>", function(_, n)
  return { n = n, double = n * 2 }
end)

app:not_found(function(c)
  return c:problem(404, "there is nothing at " .. c.path)
end)

return app
