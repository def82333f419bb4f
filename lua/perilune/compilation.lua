--- The compilation report: what LuaJIT's compiler makes of an app, where it gave up and why, and
--- what to do about that.  For `perilune jit` and the admin plane.
---
--- Reasons are LuaJIT's own (src/lj_traceerr.h); the advice is ours.

local json = require("perilune.json")

---@class perilune.compilation
local M = {}

---@alias perilune.compilation.Weight "harmless"|"look"|"costly"

---@class perilune.compilation.Advice
---@field weight perilune.compilation.Weight how much it matters while the place is hot
---@field text string what it means, and what to do

-- Bytecodes that are never compiled, or were not when Debian's LuaJIT was made.
local BYTECODES = {
  FNEW = "A closure is made there. Make it once, outside of hot code, and hand it what it needs as "
    .. "arguments.",
  UCLO = "A local that a closure has captured goes out of scope there. Do not capture variables of "
    .. "loops and blocks in hot code.",
  VARG = "`...` with more values than were fixed by the caller. Name the parameters, or pack them "
    .. "once with `select('#', ...)` outside of the loop.",
  CALLM = "A call passes on a number of results that is not known. Take them into locals first.",
  RETM = "It returns a number of values that is not known. Return a fixed number.",
  TSETM = "A table is filled by a call or `...` of unknown length. Assign the items one by one.",
  ISNEXT = "`pairs` over something other than a plain table, or `next` replaced. Walk an array "
    .. "with `for i = 1, #t`, or keep the loop out of hot code.",
  ITERN = "`pairs` or `next` in a loop: this LuaJIT interprets it. Walk an array with `for i = 1, "
    .. "#t`, or keep the keys in an array beside the table.",
}

-- By the beginning of the reason; the first one that fits.
---@type { [1]: string, [2]: perilune.compilation.Weight, [3]: string }[]
local REASONS = {
  { "error thrown or hook called during recording", "look",
    "An error was raised, or a tick of the preemption came, while it was recorded. Once or "
      .. "twice: harmless, it is tried again. Often: errors are used for control flow there; "
      .. "return nil and a reason instead." },
  { "error: ", "look",
    "An error was raised while it was recorded. Errors that are expected are better "
      .. "returned: nil and a reason." },
  { "trace too short", "harmless",
    "There was too little to be worth compiling." },
  { "trace too long", "look",
    "More than some thousand steps without coming round. Take large or generated blocks of "
      .. "code apart, and keep what is rare out of the hot path." },
  { "trace too deep", "look",
    "Calls are nested too deep, or recursion is deep. Turn it into a loop." },
  { "too many snapshots", "look",
    "Too many branches in one go. Take the function apart, or replace chains of conditions "
      .. "by a table." },
  { "blacklisted", "costly",
    "It has come to a function or a loop that was given up for good, and so is what leads "
      .. "there. Mend that one; it is in this list as well." },
  { "retry recording", "harmless",
    "It is recorded once more." },
  { "leaving loop in root trace", "harmless",
    "The loop was left in the first round. It is compiled when it goes on for longer." },
  { "inner loop in root trace", "harmless",
    "The inner loop is compiled by itself first; then the outer one." },
  { "loop unroll limit reached", "look",
    "A short inner loop with a varying number of rounds. It is mostly compiled by itself "
      .. "later; if this goes on, make its length fixed." },
  { "bad argument type", "look",
    "A library function got a type that it takes only by conversion, or not at all. Convert "
      .. "with tonumber or tostring before." },
  { "JIT compilation disabled for function", "look",
    "jit.off was called for that function: it, and what calls it, is interpreted. Perilune's "
      .. "own runner is so on purpose." },
  { "call unroll limit reached", "look",
    "Recursion. Beyond some levels it is compiled only if it is a tail call or a loop." },
  { "down-recursion, restarting", "harmless",
    "Recursion that is compiled from its other end." },
  { "NYI: unsupported variant of FastFunc", "costly",
    "That library function is compiled only with plain arguments (no patterns, no "
      .. "metamethods, fixed counts). Use string.find with `true`, string.sub or string.byte, or "
      .. "do it once and keep the result." },
  { "NYI: return to lower frame", "look",
    "The function returns to code that is not being compiled. Harmless where it is rare; "
      .. "else let the caller have the loop." },
  { "NYI: C function", "costly",
    "A function of C by the classic API. Call it by the FFI, or outside of the loop." },
  { "NYI: FastFunc", "costly",
    "That library function is never compiled. Use another one, or call it outside of hot "
      .. "code." },
  { "NYI: bytecode", "costly",
    "That instruction is never compiled. Move it out of hot code." },
  { "store with nil or NaN key", "costly",
    "A table is written to with nil or NaN as key, which raises an error. That is a fault of "
      .. "the code." },
  { "missing metamethod", "look",
    "An operation on a type without the metamethod for it, which raises an error. That is "
      .. "mostly a fault of the code." },
  { "looping index lookup", "look",
    "A chain of __index goes in a circle, or is too long. Shorten it." },
  { "NYI: mixed sparse/dense table", "look",
    "A table is both array and map, and was walked so. Use two tables." },
  { "symbol not in cache", "harmless",
    "A function of a C library was used for the first time. Bind it to a local at the file's "
      .. "head." },
  { "NYI: unsupported C type conversion", "costly",
    "A conversion between C types that is not compiled (structs by value, bit fields). "
      .. "Convert field by field." },
  { "NYI: unsupported C function type", "costly",
    "A C function that is not compiled: varargs, structs by value, callbacks. Wrap it in one "
      .. "with plain arguments." },
  { "guard would always fail", "harmless",
    "The code went another way than it was about to be compiled for. It is tried again." },
  { "too many PHIs", "look",
    "Too many variables change in one loop. Take it apart." },
  { "persistent type instability", "costly",
    "A variable has now one type and now another (a number and nil, say) in the rounds of a "
      .. "loop. Give it one type, and a value of that type at first." },
  { "failed to allocate mcode memory", "costly",
    "There was no memory for machine code near the program. Restart, or have fewer libraries "
      .. "mapped." },
  { "machine code too long", "look",
    "One trace of more than 64 KiB. Take the function apart." },
  { "hit mcode limit", "harmless",
    "It goes on in another block of memory." },
  { "too many spill slots", "look",
    "Too many values are alive at once. Take the function apart." },
  { "inconsistent register allocation", "harmless",
    "A weakness of the compiler. It is tried again." },
  { "NYI: cannot assemble IR instruction", "costly",
    "An operation that this processor's compiler lacks. Write it another way." },
  { "NYI: PHI shuffling too complex", "look",
    "Variables change places in a loop in a way that is not compiled. Take the loop apart." },
  { "NYI: register coalescing too complex", "look",
    "Too many values in one loop. Take it apart." },
}

--- What a reason means, and what to do.
---@param reason string as LuaJIT has it, with names in the place of numbers
---@return perilune.compilation.Advice
function M.advise(reason)
  local bytecode = reason:match("^NYI: bytecode (%w+)")
  if bytecode and BYTECODES[bytecode] then
    return { weight = "costly", text = BYTECODES[bytecode] }
  end
  for _, one in ipairs(REASONS) do
    if reason:sub(1, #one[1]) == one[1] then
      return { weight = one[2], text = one[3] }
    end
  end
  return { weight = "look", text = "A reason that this version does not know." }
end

local BLACK = {
  loop = "The loop that begins at %s was given up for good: it is interpreted until the next "
    .. "reload. ",
  ["function"] = "The function at %s was given up for good: it is interpreted until the next "
    .. "reload. ",
}

--- Puts facts and advice together.
---@param facts string JSON, as server/compilation.h has it
---@param shares? string JSON: CPU samples by route; nil or "": not known
---@return table report
function M.report(facts, shares)
  local report = assert(json.decode(facts))
  for _, one in ipairs(report.list) do
    for key, value in pairs(one) do
      one[key] = value ~= json.null and value or nil
    end
    local advice = M.advise(one.reason)
    local black = one.blacklisted and BLACK[one.blacklisted]
    one.weight = black and "costly" or advice.weight
    one.advice = (black and black:format(one.from) or "") .. advice.text
  end
  json.array(report.list)
  report.shares = shares and shares ~= "" and json.decode(shares) or nil
  return report
end

-- For people ------------------------------------------------------------------------------

local function wrap(text, width, indent)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if #line + #word + 1 > width and line ~= "" then
      lines[#lines + 1], line = line, ""
    end
    line = line == "" and word or line .. " " .. word
  end
  lines[#lines + 1] = line
  return indent .. table.concat(lines, "\n" .. indent)
end

local STYLES = { costly = "31", look = "33", harmless = "2", bold = "1" }

local function percent(part, whole)
  return whole > 0 and ("%5.1f %%"):format(100 * part / whole) or "      -"
end

local function route_lines(shares, out)
  if not shares or not shares.routes then
    out[#out + 1] = "Shares of CPU by route are not available: no samples yet, or no profiler."
    return
  end
  out[#out + 1] = ("%-40s %9s %11s %7s %7s %9s"):format("ROUTE", "COMPILED", "INTERPRETED", "C",
    "REST", "SAMPLES")
  for _, r in ipairs(shares.routes) do
    local all = r.samples
    out[#out + 1] = ("%-40s %9s %11s %7s %7s %9d"):format(r.route, percent(r.compiled, all),
      percent(r.interpreted, all), percent(r.c, all),
      percent(all - r.compiled - r.interpreted - r.c, all), all)
  end
  out[#out + 1] = "The rest is the collector and the compiler."
end

--- The report as text.
---@param report table of M.report
---@param colour boolean
---@return string
function M.text(report, colour)
  local function paint(style, text)
    return colour and ("\27[%sm%s\27[0m"):format(STYLES[style], text) or text
  end
  local out = {}
  out[1] = ("%s traces compiled, %s given up, %s flushes, %.0f KiB of machine code"):format(
    paint("bold", ("%.0f"):format(report.traces)), paint("bold", ("%.0f"):format(report.aborts)),
    ("%.0f"):format(report.flushes), report.code_bytes / 1024)
  out[#out + 1] = ""
  route_lines(report.shares, out)
  for _, one in ipairs(report.list) do
    out[#out + 1] = ""
    local mark = one.blacklisted and "BLACKLISTED " .. one.blacklisted or one.weight
    out[#out + 1] = ("%s  %s: %s  (%.0f times%s)"):format(paint(one.weight, mark),
      paint("bold", one.at), one.reason, one.count, one.route and ", " .. one.route or "")
    if one.from ~= one.at then
      out[#out + 1] = "  the trace began at " .. one.from
    end
    out[#out + 1] = wrap(one.advice, 88, "  ")
  end
  if #report.list == 0 then
    out[#out + 1] = "\nNothing was given up so far: call the routes some thousand times first."
  end
  if report.left_out > 0 or report.lost > 0 then
    out[#out + 1] = ("\n%.0f kinds more are not shown, %.0f were not written down."):format(
      report.left_out, report.lost)
  end
  return table.concat(out, "\n") .. "\n"
end

return M
