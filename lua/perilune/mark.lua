--- P.mark: a word of the app's in what the flight recorder has.

local C = require("perilune.ffi").C

--- Puts a text into the trace, at this moment; see GET /debug/trace. Some 20 ns, and no
--- allocation. Cut after 48 bytes.
---@param text string
return function(text)
  if type(text) ~= "string" then
    error(("P.mark takes a text, not a %s"):format(type(text)), 2)
  end
  C.pl_mark(text, #text)
end
