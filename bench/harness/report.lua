-- bench/harness/report.lua - results as tables for people, as JSON and as a picture.
--
-- A result is { scenario, servers = { { name, label, median, samples }, ... } }; the ratios are to
-- the server named "perilune", or to the first one where it was not measured.

local cjson = require("cjson")
local statistics = require("statistics")

local SHOWN_US_MIN = 0.005 -- a process below it does not make a line about processes

local M = {}

local function find(result, name)
  for _, server in ipairs(result.servers) do
    if server.name == name then
      return server
    end
  end
end

local function reference(result)
  return find(result, "perilune") or result.servers[1]
end

local function ratio(a, b)
  if not a or not b or b == 0 then
    return "-"
  end
  return ("%.2f"):format(a / b)
end

local function thousands(number)
  local text = ("%d"):format(number + 0.5):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

local function duration(us)
  if us < 0 then
    return "-"
  end
  if us >= 10000 then
    return ("%.0f ms"):format(us / 1000)
  elseif us >= 1000 then
    return ("%.1f ms"):format(us / 1000)
  end
  return ("%d µs"):format(us)
end

-- The width of a text in columns; µ is the only character of more bytes here.
local function columns(text)
  return #text - select(2, text:gsub("µ", "µ"))
end

local function print_rows(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 3, columns(cell))
    end
  end
  local dashes = {}
  for i, width in ipairs(widths) do
    dashes[i] = i == 1 and ("-"):rep(width) or ("-"):rep(width - 1) .. ":"
  end
  table.insert(rows, 2, dashes)
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local pad = (" "):rep(widths[i] - columns(cell))
      cells[i] = i == 1 and cell .. pad or pad .. cell
    end
    print("| " .. table.concat(cells, " | ") .. " |")
  end
end

local function print_idle(result)
  local ours = reference(result).median
  local to = "to " .. reference(result).name
  local rows = {
    { "server", "PSS per connection", to, "RSS per connection", "PSS empty", "PSS full", "closed" },
  }
  for _, server in ipairs(result.servers) do
    local m = server.median
    rows[#rows + 1] = {
      server.label,
      ("%.0f B"):format(m.pss_bytes),
      ratio(m.pss_bytes, ours.pss_bytes),
      ("%.0f B"):format(m.rss_bytes),
      ("%.1f MiB"):format(m.before_pss_bytes / 1048576),
      ("%.1f MiB"):format(m.after_pss_bytes / 1048576),
      ("%d"):format(m.closed),
    }
  end
  print_rows(rows)
end

local function print_load(result)
  local ours = reference(result).median
  local to = "to " .. reference(result).name
  local rows = {
    { "server", "requests/s", to, "user µs", to, "system µs", "CPU µs", to, "P50", "P99", "busy" },
  }
  for _, server in ipairs(result.servers) do
    local m = server.median
    rows[#rows + 1] = {
      server.label,
      thousands(m.requests_per_s),
      ratio(m.requests_per_s, ours.requests_per_s),
      ("%.2f"):format(m.user_us),
      ratio(m.user_us, ours.user_us),
      ("%.2f"):format(m.system_us),
      ("%.2f"):format(m.cpu_us),
      ratio(m.cpu_us, ours.cpu_us),
      duration(m.p50_us),
      duration(m.p99_us),
      ("%.0f %%"):format(m.busy * 100),
    }
  end
  print_rows(rows)
end

local function print_processes(result)
  for _, server in ipairs(result.servers) do
    local parts, count = {}, 0
    for name, cpu in pairs(server.median.by_process or {}) do
      parts[#parts + 1] = ("%s %.2f + %.2f"):format(name, cpu.user_us, cpu.system_us)
      count = count + (cpu.user_us + cpu.system_us >= SHOWN_US_MIN and 1 or 0)
    end
    if count > 1 then
      table.sort(parts)
      print(("%s by process, user + system µs: %s"):format(server.label, table.concat(parts, ", ")))
    end
  end
end

---@param result table
function M.print(result)
  print(("\n%s: %s"):format(result.scenario.name, result.scenario.what))
  if result.scenario.name == "idle" then
    print_idle(result)
  else
    print_load(result)
    print_processes(result)
  end
end

-- What has to be shown: scenario, other server, field, bound on ours / theirs, what it is; and
-- whether it is the median of the rounds' ratios, for differences that are smaller than those
-- between rounds.
local TARGETS = {
  { "plain16", "nginx", "requests_per_s", "min", 7, "requests/s" },
  { "plain16", "baseline", "requests_per_s", "min", 0.85, "requests/s" },
  { "plain", "nginx", "user_us", "max", 0.45, "user CPU per request" },
  { "plain", "baseline", "cpu_us", "max", 1.15, "CPU per request" },
  { "api", "nginx", "cpu_us", "max", 0.6, "CPU per request" },
  { "api", "go", "cpu_us", "max", 0.4, "CPU per request" },
  { "body", "nginx", "cpu_us", "max", 0.6, "CPU per request" },
  { "body", "go", "cpu_us", "max", 0.4, "CPU per request" },
  { "plain16", "perilune-nopreempt", "requests_per_s", "min", 0.95, "requests/s", true },
  { "plain16", "perilune-nopreempt", "cpu_us", "max", 1.05, "CPU per request", true },
  { "api", "perilune-nopreempt", "requests_per_s", "min", 0.95, "requests/s", true },
  { "api", "perilune-nopreempt", "cpu_us", "max", 1.05, "CPU per request", true },
}
local IDLE_BYTES_MAX = 1024

local function verdict(is_met)
  return is_met and "met" or "NOT MET"
end

local function ratio_of(ours, other, field, in_pairs)
  if not in_pairs then
    return ours.median[field] / other.median[field]
  end
  local ratios = {}
  for i, sample in ipairs(ours.samples) do
    ratios[i] = sample[field] / other.samples[i][field]
  end
  return statistics.median(ratios)
end

--- Prints each target whose servers were measured.
---@param results table<string, table> by scenario name
function M.print_targets(results)
  local lines = {}
  for _, target in ipairs(TARGETS) do
    local name, other_name, field, kind, bound, what, in_pairs = unpack(target)
    local ours = results[name] and find(results[name], "perilune")
    local other = results[name] and find(results[name], other_name)
    if ours and other then
      local value = ratio_of(ours, other, field, in_pairs)
      local is_met = value >= bound
      if kind == "max" then
        is_met = value <= bound
      end
      lines[#lines + 1] = ("%s: %s, %.2f of %s (%s %.2f): %s"):format(name, what, value,
        other.label, kind, bound, verdict(is_met))
    end
  end
  local idle = results.idle and find(results.idle, "perilune")
  if idle then
    lines[#lines + 1] = ("idle: %.0f bytes a connection (max %d): %s"):format(idle.median.pss_bytes,
      IDLE_BYTES_MAX, verdict(idle.median.pss_bytes <= IDLE_BYTES_MAX))
  end
  if #lines > 0 then
    print("\nTargets\n" .. table.concat(lines, "\n"))
  end
end

---@param path string
---@param value table
function M.write_json(path, value)
  local file = assert(io.open(path, "w"))
  file:write(cjson.encode(value), "\n")
  file:close()
end

-- The picture: one panel per scenario, one bar per server: CPU µs per request, user and system; for
-- idle the bytes per connection.

local LEFT, RIGHT, BAR, GAP, TITLE = 150, 90, 16, 6, 34
local WIDTH = 760

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function bar_parts(result, server)
  local m = server.median
  if result.scenario.name == "idle" then
    local bytes = math.max(m.pss_bytes, 0)
    return { bytes }, ("%.0f B"):format(bytes)
  end
  return { m.user_us, m.system_us }, ("%.2f µs"):format(m.cpu_us)
end

local function panel(out, result, top)
  local longest = 0
  for _, server in ipairs(result.servers) do
    local sum = 0
    for _, part in ipairs((bar_parts(result, server))) do
      sum = sum + part
    end
    longest = math.max(longest, sum)
  end
  local scale = (WIDTH - LEFT - RIGHT) / math.max(longest, 1e-9)

  out[#out + 1] = ('<text x="8" y="%d" class="title">%s</text>'):format(top + 20,
    escape(result.scenario.name .. ": " .. result.scenario.what))
  local y = top + TITLE
  for _, server in ipairs(result.servers) do
    local parts, text = bar_parts(result, server)
    local x = LEFT
    out[#out + 1] = ('<text x="%d" y="%d" text-anchor="end">%s</text>'):format(LEFT - 8, y + 12,
      escape(server.label))
    for i, part in ipairs(parts) do
      local kind = (i == 1 and "user" or "system") .. (server.name == "perilune" and " ours" or "")
      out[#out + 1] = ('<rect x="%.1f" y="%d" width="%.1f" height="%d" class="%s"/>'):format(x, y,
        part * scale, BAR, kind)
      x = x + part * scale
    end
    out[#out + 1] = ('<text x="%.1f" y="%d">%s</text>'):format(x + 6, y + 12, escape(text))
    y = y + BAR + GAP
  end
  return y + GAP
end

local STYLE = [[<style>
svg { background: #fff; font: 12px sans-serif; fill: #222 }
.title { font-weight: bold }
.user { fill: #8a94a3 } .system { fill: #c9ced6 }
.user.ours { fill: #3b5bdb } .system.ours { fill: #a5b4f0 }
</style>]]

---@param path string
---@param results table[] in order
---@param note string one line about machine and date
function M.write_svg(path, results, note)
  local out, y = {}, 28
  out[#out + 1] = '<text x="8" y="18">CPU per request (dark: user, light: system); idle: memory '
    .. "per connection. Shorter is better.</text>"
  for _, result in ipairs(results) do
    y = panel(out, result, y)
  end
  out[#out + 1] = ('<text x="8" y="%d">%s</text>'):format(y + 14, escape(note))
  local file = assert(io.open(path, "w"))
  local frame = '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d">\n'
  file:write(frame:format(WIDTH, y + 26), STYLE, "\n", table.concat(out, "\n"), "\n</svg>\n")
  file:close()
end

return M
