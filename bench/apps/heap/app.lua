--- Allocates what it is asked for, by lines of its own; see bench/heap.lua.

local P = require("perilune")

local app = P.app {}
local kept = {}
local clock = os.clock

local kinds = {}

function kinds.table(count)
  for i = 1, count do
    kept[i % 64] = {}
  end
end

function kinds.array(count)
  for i = 1, count do
    kept[i % 64] = { i, i }
  end
end

function kinds.string(count)
  local long = ("x"):rep(2000)
  for i = 1, count do
    kept[i % 64] = long .. i
  end
end

function kinds.hash(count)
  for i = 1, count do
    local t = kept[64 + i % 64]
    if not t or t.used then
      t = { used = false }
      kept[64 + i % 64] = t
    end
    t.used = true
  end
end

--- Nanoseconds of CPU for one, and bytes; the best of `batches`, whose garbage others collect.
app:get("/:kind", function(c)
  local run, count = kinds[c:param("kind")], tonumber(c:query("count"))
  local batches, best = tonumber(c:query("batches") or "1"), math.huge
  for _ = 1, batches do
    local from = clock()
    run(count)
    best = math.min(best, (clock() - from) / count * 1e9)
    P.sleep(0.05)
  end
  return c:json({ ns = best })
end)

return app
