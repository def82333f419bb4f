--- Makes room in LuaJIT's table of strings before the VM serves.
---
--- LuaJIT interns strings in one hash table, which it doubles in one stop (2.5 ms
--- at 65,000 strings, 47 ms at a million) and which its collector halves again
--- when at most a quarter of it is used. So the table is made large once, while
--- nobody waits, and enough strings are kept that it stays so.

local PEAK = 66000 -- past 65,536 the table has 131,072 places
local KEPT = 33000 -- above a quarter of these: it doesn't shrink

---@class perilune.interning
---@field kept string[] what keeps the table large
local M = { kept = {} }

--- Grows the table. Takes some milliseconds and 1.5 MB; once is enough.
function M.grow()
  for i = 1, PEAK do
    local s = "\1" .. i
    if i <= KEPT then
      M.kept[i] = s
    end
  end
end

return M
