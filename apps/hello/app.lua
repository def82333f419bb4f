-- The smallest app worth running:  perilune run apps/hello

local P = require("perilune")

local app = P.app({ title = "Hello" })

app:get("/", function()
  return "hello\n"
end)

app:get("/hello/:name", function(_, name)
  return { hello = name }
end)

return app
