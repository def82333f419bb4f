--- The rules of the tree that a machine can check, as pure functions.
---
--- Each takes a path, as seen from the root of the tree, and the text of that
--- file, and returns an array of faults, `path:line: what`, empty when there
--- is nothing to say. They read the text as text: no rule knows the grammar of
--- C, so each is written to say too little rather than something false.
--- rooms_spec.lua runs them over the tree, and over planted faults.

local find, sub, match, gsub = string.find, string.sub, string.match, string.gsub

---@class perilune.tree.rules
local M = {}

local function set(words)
  local s = {}
  for word in words:gmatch("%S+") do
    s[word] = true
  end
  return s
end

-- DESIGN.md section 7: room -> the rooms it may include, itself aside.
local BELOW = {
  base = set "",
  include = set "",
  cli = set "",
  fabric = set "base",
  http = set "base",
  net = set "fabric http base",
  vm = set "fabric http base",
  guard = set "fabric http base",
  log = set "fabric http base",
  server = set "net vm guard log fabric http base",
  fuzz = set "server net vm guard log fabric http base",
}

-- Header -> the rooms and files that may name it.
local ONLY_IN = {
  ["lua.h"] = set "vm fuzz/fuzz_json.c",
  ["lauxlib.h"] = set "vm fuzz/fuzz_json.c",
  ["lualib.h"] = set "vm",
  ["luajit.h"] = set "vm",
  ["uv.h"] = set "net server log",
  ["llhttp.h"] = set "http/parser.c http/response_parser.c",
  ["nghttp2.h"] = set "net/h2.c net/h2_client.h",
  ["zlib.h"] = set "log/gzip.c log/test_protobuf.c log/test_pprof.c",
  ["histedit.h"] = set "server/console.c",
  ["jemalloc.h"] = set "base/alloc.c",
  ["perilune.h"] = set "cli server",
}

-- They say that something is used, not what it is about.
local NO_NOUN = set "util utils common helper helpers misc stuff"

-- Calls that know no limit, or hide an error.
local BANNED = set [[
  strcpy stpcpy strcat sprintf vsprintf gets atoi atol atof strtok tmpnam alloca
]]
local ALLOCATION = set [[
  malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf
  getline posix_memalign aligned_alloc mallocx rallocx dallocx sdallocx
]]
local MAY_ALLOCATE = set "base/alloc.c"

---@class perilune.tree.Faults
---@field [integer] string
local Faults = {}
Faults.__index = Faults

local function faults_of(path)
  return setmetatable({ path = path }, Faults)
end

function Faults:add(number, what)
  self[#self + 1] = ("%s:%d: %s"):format(self.path, number, what)
end

function Faults:done()
  self.path = nil
  return setmetatable(self, nil)
end

--- Iterates over number and text of each line, without the newline.
local function lines(text)
  local at, number = 1, 0
  return function()
    if at > #text then
      return nil
    end
    local newline = find(text, "\n", at, true) or #text + 1
    local line = sub(text, at, newline - 1)
    at, number = newline + 1, number + 1
    return number, line
  end
end

local function blank(s)
  return (gsub(s, "[^\n]", " "))
end

local function string_end(text, from, quote)
  local at = from + 1
  while at <= #text do
    local char = sub(text, at, at)
    if char == "\\" then
      at = at + 2
    elseif char == quote or char == "\n" then
      return at
    else
      at = at + 1
    end
  end
  return #text
end

--- The C text with comments blanked, and the insides of strings too unless
--- `keep_strings`; every line keeps its number and every byte its column.
---@param text string
---@param keep_strings? boolean
---@return string
function M.code_of(text, keep_strings)
  local out, at = {}, 1
  while true do
    local from = find(text, "[\"'/]", at)
    if not from then
      out[#out + 1] = sub(text, at)
      return table.concat(out)
    end
    out[#out + 1] = sub(text, at, from - 1)
    local two = sub(text, from, from + 1)
    local to
    if two == "/*" then
      to = select(2, find(text, "*/", from + 2, true)) or #text
      out[#out + 1] = blank(sub(text, from, to))
    elseif two == "//" then
      to = (find(text, "\n", from, true) or #text + 1) - 1
      out[#out + 1] = blank(sub(text, from, to))
    elseif sub(two, 1, 1) == "/" then
      to = from
      out[#out + 1] = "/"
    else
      to = string_end(text, from, sub(two, 1, 1))
      local literal = sub(text, from, to)
      out[#out + 1] = keep_strings and literal
        or sub(literal, 1, 1) .. blank(sub(literal, 2, -2)) .. sub(literal, -1)
    end
    at = to + 1
  end
end

--- `core/test/http/test_parser.c` -> `http`, `http/test_parser.c`: a test has
--- the rights of its room.
local function room_of(path)
  local file = gsub(gsub(path, "^core/", ""), "^test/", "")
  return match(file, "^(%w+)/") or "?", file
end

local function include_fault(room, file, quote, header)
  local only = ONLY_IN[match(header, "[^/]+$")]
  if only then
    return not (only[room] or only[file]) and header .. " is not for " .. room or nil
  end
  header = gsub(header, "^test/", "") -- what tests of a room share is the room's
  local target = quote == '"' and (match(header, "^(%w+)/") or "?")
  if target and target ~= room and not (BELOW[room] and BELOW[room][target]) then
    return room .. " may not include " .. header
  end
end

--- A room includes its own headers and those of the rooms below it; each
--- library is named in its own room only.
function M.includes(path, text)
  local faults, room, file = faults_of(path), room_of(path)
  for number, line in lines(M.code_of(text, true)) do
    local quote, header = match(line, '^%s*#%s*include%s*(["<])([^">]+)')
    local fault = header and include_fault(room, file, quote, header)
    if fault then
      faults:add(number, fault)
    end
  end
  return faults:done()
end

--- Every part of a path says what is in it.
function M.noun(path)
  local faults = faults_of(path)
  for part in path:gmatch("%w+") do
    if NO_NOUN[part] then
      faults:add(1, part .. " is no noun")
    end
  end
  return faults:done()
end

--- No call without a limit, and memory comes from base/alloc alone. A member
--- of that name (`w->free(w)`) is not meant.
function M.calls(path, text)
  local faults, _, file = faults_of(path), room_of(path)
  for number, line in lines(M.code_of(text)) do
    for before, name in (" " .. line):gmatch("([^%w_])([%a_][%w_]*)%s*%f[%(]") do
      local foreign = ALLOCATION[name] and not MAY_ALLOCATE[file]
      if (BANNED[name] or foreign) and before ~= "." and before ~= ">" then
        faults:add(number, name .. " is banned")
      end
    end
  end
  return faults:done()
end

--- `core/net/conn.h` is guarded by PL_NET_CONN_H, perilune.h by PERILUNE_H.
function M.guard(path, text)
  local faults = faults_of(path)
  local want = gsub(gsub(path, "^core/", "pl/"), "^pl/include/", "")
  want = gsub(want, "[/.]", "_"):upper()
  local guard, defined = match(M.code_of(text), "^%s*#ifndef ([%w_]+)%s*\n#define ([%w_]+)")
  if guard ~= want or defined ~= want then
    faults:add(1, "is not guarded by " .. want)
  elseif not find(text, "#endif /* " .. want .. " */\n$", 1) and
    sub(text, -#want - 14) ~= "#endif /* " .. want .. " */\n" then
    faults:add(1, "does not end with #endif /* " .. want .. " */")
  end
  return faults:done()
end

--- A file begins by saying what it is: `/* net/conn.h - `. A C file with a
--- header of its own may leave that to the header.
---@param has_header boolean whether a header of the same name exists
function M.head(path, text, has_header)
  local faults = faults_of(path)
  local name = gsub(gsub(path, "^core/", ""), "^include/", "")
  local head = "/* " .. name .. " - "
  if sub(text, 1, #head) ~= head and not (has_header and find(path, "%.c$")) then
    faults:add(1, "does not begin with " .. head)
  end
  return faults:done()
end

--- A C file includes its own header first, so that the header stands alone.
---@param has_header boolean
function M.own_header_first(path, text, has_header)
  local faults = faults_of(path)
  if not has_header then
    return faults:done()
  end
  local own = gsub(gsub(path, "^core/", ""), "%.c$", ".h")
  for number, line in lines(M.code_of(text, true)) do
    local header = match(line, '^%s*#%s*include%s*["<]([^">]+)')
    if header then
      if header ~= own then
        faults:add(number, own .. " is to be included first")
      end
      return faults:done()
    end
  end
  faults:add(1, own .. " is not included")
  return faults:done()
end

--- What a header for hosts declares has a comment right above it.
function M.documented(path, text)
  local faults = faults_of(path)
  local code, depth, open, previous = M.code_of(text, true), 0, false, ""
  local raw_lines = {}
  for number, line in lines(text) do
    raw_lines[number] = line
  end
  for number, line in lines(code) do
    local extern = find(line, '^extern "C"')
    local declares = depth == 0 and not open and find(line, "^[%a_]") and not extern
    if declares then
      open = true
      if not find(previous, "%*/%s*$") then
        faults:add(number, "has no docstring: " .. match(line, "^(.-)%s*$"))
      end
    end
    if open then -- the brace of extern "C" encloses all and is not counted
      for brace in line:gmatch("[{}]") do
        depth = depth + (brace == "{" and 1 or -1)
      end
      open = not (depth == 0 and find(line, ";%s*$"))
    end
    previous = raw_lines[number]
  end
  return faults:done()
end

-- What a C library, a linker or libFuzzer calls by name.
local FOREIGN_NAMES = set [[main LLVMFuzzerTestOneInput LLVMFuzzerInitialize
  __lsan_do_recoverable_leak_check __lsan_default_suppressions getaddrinfo freeaddrinfo]]

--- The prefix tells the reach: what a C file does not keep static begins with
--- `pl_` or `pl__`.
function M.prefixes(path, text)
  local faults = faults_of(path)
  for number, line in lines(M.code_of(text)) do
    local before, name = match(line, "^([%a_][%w_%s%*]-[%s%*])([%a_][%w_]*)%(")
    if name and not find(" " .. before, "[%s]static%s") and
      not find(before, "^typedef%s") and not find(before, "^return%s") and
      not find(before, "^else%s") and not find(name, "^pl_") and
      not find(before .. name, "__attribute__") and not FOREIGN_NAMES[name] then
      faults:add(number, name .. " is neither static nor prefixed")
    end
  end
  return faults:done()
end

--- Structs, unions and enums are written out; a typedef names an opaque handle
--- of perilune.h, or a function pointer.
function M.typedefs(path, text)
  local faults = faults_of(path)
  local public = find(path, "^core/include/")
  for number, line in lines(M.code_of(text)) do
    local kind, rest = match(line, "^typedef%s+(%a+)(.*)$")
    local aggregate = kind == "struct" or kind == "union" or kind == "enum"
    if aggregate and not (public and find(rest, "^ [%w_]+ [%w_]+;")) and
      not find(rest, "%(%s*%*") then
      faults:add(number, "typedef of a " .. kind)
    end
  end
  return faults:done()
end

--- What is left to do is an issue with a number, not a mark in the text.
function M.left_over(path, text)
  local faults = faults_of(path)
  for number, line in lines(text) do
    for word, after in line:gmatch("%f[%w_](%u+)%f[^%w_]([^%s]*)") do
      -- Put together here, as this file is checked by its own rule.
      if (word == "TO" .. "DO" or word == "FIX" .. "ME" or word == "XX" .. "X") and
        not find(after, "^%(#%d+%)") then
        faults:add(number, word .. " without an issue number")
      end
    end
  end
  return faults:done()
end

--- A Lua module begins with its doc comment.
function M.lua_head(path, text)
  local faults = faults_of(path)
  if not find(text, "^%-%-%- ?%S") and not find(text, "^%-%-%-@meta") then
    faults:add(1, "does not begin with a --- comment that says what it is")
  end
  return faults:done()
end

local function requires(text)
  local wanted = {}
  for number, line in lines(text) do
    local code = gsub(line, "%-%-.*$", "")
    for name in code:gmatch("%f[%w_]require%s*%(?%s*[\"']([%w_.%-]+)[\"']") do
      wanted[#wanted + 1] = { number = number, name = name }
    end
  end
  return wanted
end

local CODECS = set "json form"

--- Middleware does not know the app, and codecs know nothing of ours but their
--- own C half.
function M.lua_requires(path, text)
  local faults = faults_of(path)
  local codec = CODECS[match(path, "^lua/perilune/([%w_]+)%.lua$")]
  local middleware = find(path, "^lua/perilune/mw/")
  for _, wanted in ipairs(requires(text)) do
    local name = wanted.name
    if middleware and (name == "perilune.app" or name == "perilune") then
      faults:add(wanted.number, "middleware may not require " .. name)
    elseif codec and find(name, "^perilune") and not find(name, "^perilune%.core") then
      faults:add(wanted.number, "a codec may not require " .. name)
    end
  end
  return faults:done()
end

local BUILT_IN = { bit = true, ffi = true, jit = true, ["string.buffer"] = true,
  ["table.clear"] = true, ["table.new"] = true } -- modules of LuaJIT itself

--- An app requires `perilune`, its modules, LuaJIT's, and files of its own
--- folder: what is to be copied runs wherever Perilune does.
---@param is_own fun(name: string): boolean whether the app has such a module
function M.app_requires(path, text, is_own)
  local faults = faults_of(path)
  for _, wanted in ipairs(requires(text)) do
    local name = wanted.name
    local ours = name == "perilune" or find(name, "^perilune%.")
    local inner = find(name, "^perilune%.core") or name == "perilune.ffi"
    if (not ours or inner) and not BUILT_IN[name] and not is_own(name) then
      faults:add(wanted.number, "an app may not require " .. name)
    end
  end
  return faults:done()
end

local function name_fault(name)
  for word in name:lower():gmatch("%a+") do
    if word == "should" or word == "works" or word == "correctly" or word == "properly" then
      return ('"%s" is not a fact: %s'):format(name, word)
    end
  end
end

--- The name of a test is a fact in the present tense.
function M.spec_names(path, text)
  local faults = faults_of(path)
  for number, line in lines(text) do
    local name = match(line, '^%s*it%s*%(?%s*"([^"]*)"') or match(line, "^%s*it%s*%(?%s*'([^']*)'")
    local fault = name and name_fault(name)
    if fault then
      faults:add(number, fault)
    end
  end
  return faults:done()
end

--- The same for cmocka: a test is a function of one parameter, `void **state`.
function M.test_names(path, text)
  local faults = faults_of(path)
  for number, line in lines(M.code_of(text)) do
    local name = match(line, "^static void ([%w_]+)%(void %*%*")
    local fault = name and name_fault(gsub(name, "_", " "))
    if fault then
      faults:add(number, fault)
    elseif name and find(name, "^test_") then
      faults:add(number, name .. " repeats that it is a test")
    end
  end
  return faults:done()
end

return M
