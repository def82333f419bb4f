--- The page of `perilune top`: what a running server says of itself, for people who watch.
---
--- A function of one status and the size of the terminal: rates are the server's own, over the
--- last few seconds. What a status lacks is shown as "-".

local json = require("perilune.json")

---@class perilune.top
local M = {}

local STYLES = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", reverse = "7" }

--- Painting, or none.
---@param colour boolean
---@return fun(style: string, text: string): string
local function painter(colour)
  return function(style, text)
    if not colour or not style then
      return text
    end
    return ("\27[%sm%s\27[0m"):format(STYLES[style], text)
  end
end

-- Numbers --------------------------------------------------------------------------------

local function count(n)
  if not n then
    return "-"
  elseif n >= 1e7 then
    return ("%.1fM"):format(n / 1e6)
  elseif n > 0 and n < 10 and n % 1 ~= 0 then
    return ("%.1f"):format(n)
  end
  local text = ("%.0f"):format(n)
  repeat
    local more
    text, more = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
  until more == 0
  return text
end

local function milliseconds(ms)
  if not ms or ms == 0 then -- nothing was measured
    return "-"
  elseif ms >= 10000 then
    return ("%.1f s"):format(ms / 1000)
  elseif ms >= 100 then
    return ("%.0f ms"):format(ms)
  end
  return (ms >= 10 and "%.1f ms" or "%.2f ms"):format(ms)
end

local function bytes(n)
  if not n then
    return "-"
  end
  for _, unit in ipairs({ "B", "KiB", "MiB" }) do
    if n < 1024 then
      return (unit == "B" and "%.0f %s" or "%.1f %s"):format(n, unit)
    end
    n = n / 1024
  end
  return ("%.1f GiB"):format(n)
end

local function percent(share)
  return share and ("%.0f %%"):format(share * 100) or "-"
end

local function duration(seconds)
  local s = math.floor(seconds or 0)
  if s >= 86400 then
    return ("%dd %dh"):format(s / 86400, s % 86400 / 3600)
  elseif s >= 3600 then
    return ("%dh %dm"):format(s / 3600, s % 3600 / 60)
  elseif s >= 60 then
    return ("%dm %ds"):format(s / 60, s % 60)
  end
  return ("%ds"):format(s)
end

-- Tables ---------------------------------------------------------------------------------

local function characters(text)
  local _, n = text:gsub("[^\128-\191]", "")
  return n
end

--- Cut to a width, where it has to be with an ellipsis; filled up to it.
local function fit(text, width, right)
  local n = characters(text)
  if n > width then
    local cut, at = 0, 0
    while cut < width - 1 do
      at = at + 1
      at = text:find("[^\128-\191]", at) or #text + 1
      cut = cut + 1
    end
    at = text:find("[^\128-\191]", at + 1) or #text + 1
    text, n = text:sub(1, at - 1) .. "…", width
  end
  local fill = (" "):rep(width - n)
  return right and fill .. text or text .. fill
end

--- Lines of cells under a heading. The first column takes what is left.
---@param heads string[] a heading; "<" before it: its column is aligned to the left
---@param rows table[] of cells; `style` paints the whole row
local function tabulate(heads, rows, columns, paint)
  local widths, used, lines = {}, 0, {}
  for i, head in ipairs(heads) do
    widths[i] = characters((head:gsub("^<", "")))
    for _, row in ipairs(rows) do
      widths[i] = math.max(widths[i], characters(row[i]))
    end
    used = used + (i > 1 and widths[i] + 2 or 0)
  end
  widths[1] = math.max(math.min(widths[1], columns - used), 6)
  local function line(cells)
    local out = {}
    for i, cell in ipairs(cells) do
      out[i] = fit(cell, widths[i], i > 1 and heads[i]:sub(1, 1) ~= "<")
    end
    return fit(table.concat(out, "  "), columns)
  end
  local names = {}
  for i, head in ipairs(heads) do
    names[i] = head:gsub("^<", "")
  end
  lines[1] = paint("reverse", line(names))
  for _, row in ipairs(rows) do
    lines[#lines + 1] = paint(row.style, line(row))
  end
  return lines
end

-- The page --------------------------------------------------------------------------------

local function sum(list, field)
  local total
  for _, one in ipairs(list) do
    if one[field] then
      total = (total or 0) + one[field]
    end
  end
  return total
end

local function drops_of(s)
  local total = 0
  for _, n in pairs(s.log and s.log.dropped or {}) do
    total = total + n
  end
  return total
end

local STATE_STYLES = { serving = "green", starting = "yellow", draining = "yellow" }

local function heading(s, paint)
  return ("%s  %s  generation %d (%s)  up %s  pid %d  perilune %s"):format(paint("bold", s.name),
    paint(STATE_STYLES[s.state] or "red", s.state), s.generation, s.hash:sub(1, 8),
    duration(s.uptime_s), s.pid, s.version)
end

local function totals(s, paint)
  local rate = s.requests_per_s
  local errors = rate and rate > 0 and (s.errors_per_s or 0) / rate or rate and 0
  return {
    ("%s requests/s   p50 %s   p99 %s   errors %s   in flight %s   connections %s"):format(
      paint("bold", count(rate)), milliseconds(s.p50_ms), milliseconds(s.p99_ms),
      paint(errors and errors > 0.01 and "red", errors and ("%.1f %%"):format(errors * 100) or "-"),
      count(sum(s.workers, "in_flight")), count(sum(s.workers, "connections"))),
    ("reloads %d%s   crashes %s   log records dropped %s"):format(s.reloads.committed,
      s.reloads.rejected > 0 and paint("yellow", (" (%d rejected)"):format(s.reloads.rejected))
        or "", paint(s.crashes > 0 and "red", count(s.crashes)),
      paint(drops_of(s) > 0 and "yellow", count(drops_of(s)))),
  }
end

local function worker_rows(s)
  local rows = {}
  for i, w in ipairs(s.workers) do
    rows[i] = {
      tostring(w.index), tostring(w.pid), w.state, tostring(w.generation),
      count(w.requests_per_s), count(w.in_flight), count(w.connections), percent(w.busy),
      milliseconds(w.lag_ms), bytes(w.memory_bytes), count(w.restarts),
      style = w.state ~= "serving" and (STATE_STYLES[w.state] or "red"),
    }
  end
  return rows
end

local function route_rows(s)
  local rows = {}
  for i, r in ipairs(s.routes or {}) do
    local errors = r.requests_per_s > 0 and r.errors_per_s / r.requests_per_s or 0
    rows[i] = {
      r.method .. " " .. r.route, count(r.requests_per_s), ("%.1f %%"):format(errors * 100),
      milliseconds(r.p50_ms),
      milliseconds(r.p99_ms), count(r.requests), style = errors > 0.01 and "red",
    }
  end
  return rows
end

local WORKER_HEADS = { "WORKER", "PID", "<STATE", "GEN", "REQ/S", "RUNNING", "CONNS", "BUSY",
  "LAG", "MEMORY", "RESTARTS" }
local ROUTE_HEADS = { "ROUTE", "REQ/S", "ERRORS", "P50", "P99", "TOTAL" }

local function append(lines, more)
  for _, line in ipairs(more) do
    lines[#lines + 1] = line
  end
end

--- Cut at the bottom; what is left out is said.
local function shorten(lines, rows, paint)
  if #lines <= rows then
    return lines
  end
  local left_out = #lines - rows + 1
  for i = #lines, rows, -1 do
    lines[i] = nil
  end
  lines[rows] = paint("dim", ("... %d lines more"):format(left_out))
  return lines
end

--- The page for a status.
---@param text string the status, as JSON
---@param columns string number of the terminal's columns
---@param rows string likewise; 0: as many as it takes
---@param colour string "colour": painted
---@return string
function M.page(text, columns, rows, colour)
  local s = assert(json.decode(text))
  local paint = painter(colour == "colour")
  local width, height = tonumber(columns), tonumber(rows)
  local lines = { heading(s, paint) }
  append(lines, totals(s, paint))
  if s.last_reload and s.last_reload.error then
    lines[#lines + 1] = paint("red", fit("last reload rejected: "
      .. s.last_reload.error:match("^[^\n]*"), width))
  end
  lines[#lines + 1] = ""
  append(lines, tabulate(WORKER_HEADS, worker_rows(s), width, paint))
  local routes = route_rows(s)
  if #routes > 0 then
    lines[#lines + 1] = ""
    append(lines, tabulate(ROUTE_HEADS, routes, width, paint))
  end
  if height > 0 then
    lines = shorten(lines, height, paint)
  end
  return table.concat(lines, "\n") .. "\n"
end

return M
