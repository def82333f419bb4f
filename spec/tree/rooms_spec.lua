-- The rules that no reviewer should have to repeat: DESIGN.md section 7 and
-- what STYLE.md says that a machine can see. They are in rules.lua; here they
-- meet the tree, and one planted fault each, so that a rule that has gone deaf
-- is noticed.

local lfs = require("lfs")
local rules = require("spec.tree.rules")

local function walk(folder, found)
  for name in lfs.dir(folder) do
    local path = folder .. "/" .. name
    local mode = name:sub(1, 1) ~= "." and lfs.symlinkattributes(path, "mode")
    if mode == "directory" and name ~= "node_modules" then
      walk(path, found)
    elseif mode == "file" then
      found[#found + 1] = path
    end
  end
  return found
end

local function paths_of(...)
  local found = {}
  for _, folder in ipairs({ ... }) do
    if lfs.attributes(folder, "mode") == "directory" then
      walk(folder, found)
    end
  end
  table.sort(found)
  return found
end

local texts = {}
local function text_of(path)
  if not texts[path] then
    local file = assert(io.open(path, "rb"))
    texts[path] = file:read("*a")
    file:close()
  end
  return texts[path]
end

local function exists(path)
  return lfs.attributes(path, "mode") == "file"
end

-- Runs `rule` over the files of `paths` that match; returns all faults, and
-- how many files it has seen.
local function run(rule, paths, pattern, extra)
  local all, seen = {}, 0
  for _, path in ipairs(paths) do
    if path:find(pattern) then
      seen = seen + 1
      for _, fault in ipairs(rule(path, text_of(path), extra and extra(path))) do
        all[#all + 1] = fault
      end
    end
  end
  return all, seen
end

local function has_header(path)
  return exists((path:gsub("%.c$", ".h")))
end

local function owns_module(path)
  local folder = path:match("^(apps/[^/]+)/") or "?"
  return function(name)
    local file = name:gsub("%.", "/")
    return exists(folder .. "/" .. file .. ".lua")
      or exists(folder .. "/" .. file .. "/init.lua")
      or exists(file .. ".lua") -- a spec may name it from the root
  end
end

describe("the tree", function()
  local core, lua, all = paths_of("core"), paths_of("lua"), paths_of("core", "lua", "spec", "apps")

  local function holds(fact, rule, paths, pattern, extra)
    it(fact, function()
      local faults, seen = run(rule, paths, pattern, extra)
      assert.same({}, faults)
      assert.is_true(seen > 0, "no file was looked at")
    end)
  end

  holds("has rooms that include only what lies below them", rules.includes, core, "%.[ch]$")
  holds("has a noun in every name", rules.noun, all, ".")
  holds("makes no banned call", rules.calls, core, "%.[ch]$")
  holds("has guards that tell their path", rules.guard, core, "%.h$")
  holds("says at the head of each file what it is", rules.head, core, "%.[ch]$", has_header)
  holds("has C files that include their own header first",
    rules.own_header_first, core, "^core/%w+/[^/]+%.c$", has_header)
  holds("documents every declaration of perilune.h",
    rules.documented, core, "^core/include/perilune%.h$")
  holds("has prefixes that tell the reach", rules.prefixes, core, "%.c$")
  holds("hides no struct behind a typedef", rules.typedefs, core, "%.[ch]$")
  holds("leaves nothing to do without an issue", rules.left_over, all, "%.%w+$")
  holds("says at the head of each Lua module what it is", rules.lua_head, lua, "%.lua$")
  holds("keeps the app from middleware, and the rest from codecs",
    rules.lua_requires, lua, "%.lua$")
  holds("has tests in C whose names are facts", rules.test_names, core, "/test_[%w_]+%.c$")
  holds("has specs whose names are facts", rules.spec_names, all, "_spec%.lua$")
  holds("has apps that require Perilune and their own files only",
    rules.app_requires, paths_of("apps"), "^apps/.*%.lua$", owns_module)
end)

describe("a planted fault", function()
  -- One per line: rule, path, text, and a part of the fault that it must name;
  -- nil where the text is good.
  local planted = {
    { "includes", "core/http/x.c", '#include "net/conn.h"\n', "http may not include net/conn.h" },
    { "includes", "core/net/x.c", '#include "log/sink.h"\n', "net may not include log/sink.h" },
    { "includes", "core/vm/x.c", "\n# include <uv.h>\n", ":2: uv.h is not for vm" },
    { "includes", "core/net/x.c", "#include <lua.h>\n", "lua.h is not for net" },
    { "includes", "core/http/x.c", "#include <llhttp/llhttp.h>\n", "is not for http" },
    { "includes", "core/base/x.c", "#include <jemalloc/jemalloc.h>\n", "is not for base" },
    { "includes", "core/cli/x.c", '#include "base/err.h"\n', "cli may not include" },
    { "includes", "core/test/http/test_x.c", '#include "vm/ffi.h"\n', "http may not" },
    { "includes", "core/http/x.c", '#include "x.h"\n', "http may not include x.h" },
    { "includes", "core/http/parser.c", "#include <llhttp.h>\n" },
    { "includes", "core/server/x.c", '#include "net/conn.h"\n#include <uv.h>\n' },
    { "includes", "core/http/x.c", '/* #include "net/conn.h" */\n' },

    { "noun", "core/http/utils.c", "", "utils is no noun" },
    { "noun", "lua/perilune/common/x.lua", "", "common is no noun" },
    { "noun", "core/http/utility.c", "" },

    { "calls", "core/http/x.c", "a();\n  strcpy(a, b);\n", ":2: strcpy" },
    { "calls", "core/http/x.c", "x = (int)atoi (s);\n", "atoi" },
    { "calls", "core/net/x.c", "p = malloc(3);\n", "malloc" },
    { "calls", "core/net/x.c", "if (p)\n  free(p);\n", ":2: free" },
    { "calls", "core/base/alloc.c", "free(malloc(3));\n" },
    { "calls", "core/net/x.c", "w->free(w); pl__free(p); /* free(p) */ s = \"free(\";\n" },

    { "guard", "core/net/conn.h", "#ifndef CONN_H\n#define CONN_H\n", "PL_NET_CONN_H" },
    { "guard", "core/net/conn.h", "#ifndef PL_NET_CONN_H\n#define PL_NET_CON_H\n", "guarded" },
    { "guard", "core/net/conn.h", "#ifndef PL_NET_CONN_H\n#define PL_NET_CONN_H\n#endif\n",
      "does not end with" },
    { "guard", "core/net/conn.h",
      "/* x */\n#ifndef PL_NET_CONN_H\n#define PL_NET_CONN_H\n#endif /* PL_NET_CONN_H */\n" },
    { "guard", "core/include/perilune.h",
      "#ifndef PERILUNE_H\n#define PERILUNE_H\n#endif /* PERILUNE_H */\n" },

    { "head", "core/net/conn.h", "/* net/con.h - x */", "begin with /* net/conn.h - " },
    { "head", "core/net/conn.c", "#include <x.h>", "begin with" },
    { "head", "core/net/conn.h", "#include <x.h>", "begin with", true },
    { "head", "core/net/conn.c", "#include <x.h>", nil, true },
    { "head", "core/include/perilune.h", "/* perilune.h - a server" },

    { "own_header_first", "core/net/conn.c", '#include <x.h>\n#include "net/conn.h"\n',
      ":1: net/conn.h is to be included first", true },
    { "own_header_first", "core/net/conn.c", "int x;\n", "is not included", true },
    { "own_header_first", "core/net/conn.c", '#include "net/conn.h"\n', nil, true },

    { "documented", "core/include/perilune.h", "/* x */\n\nint pl_x(void);\n", ":3: has no" },
    { "documented", "core/include/perilune.h", "/* x */\nint pl_x(void);\nint pl_y(int a,\n"
      .. "         int b);\n", ":3: has no docstring: int pl_y" },
    { "documented", "core/include/perilune.h", 'extern "C" {\nstruct x {\n  int y;\n};\n}\n',
      ":2: has no docstring: struct x" },
    { "documented", "core/include/perilune.h",
      'extern "C" {\n/* x */\nstruct x {\n  int y;\n};\n/* z\n * z */\nint z(\n    int);\n}\n' },

    { "prefixes", "core/net/x.c", "int conn_open(int x) {\n", "conn_open is neither" },
    { "prefixes", "core/net/x.c", "struct a *conn_open(int x) {\n", "conn_open" },
    { "prefixes", "core/net/x.c",
      "static int a(void) {\n  return b(1);\n}\nint pl__a(void) {\n}\nint main(void) {\n" },

    { "typedefs", "core/net/x.h", "typedef struct conn {\n", "typedef of a struct" },
    { "typedefs", "core/net/x.h", "typedef enum { A } a;\n", "typedef of a enum" },
    { "typedefs", "core/net/x.h", "typedef void (*x_fn)(int);\ntypedef struct a *(*y_fn)(int);\n" },
    { "typedefs", "core/include/perilune.h", "typedef struct pl_server pl_server;\n" },

    { "left_over", "core/net/x.c", "/* TO" .. "DO: all */\n", "without an issue number" },
    { "left_over", "lua/x.lua", "-- FIX" .. "ME\n", "without an issue number" },
    { "left_over", "lua/x.lua", "-- TO" .. "DO(#7): more\n" },

    { "lua_head", "lua/perilune/x.lua", "local M = {}\n", "does not begin" },
    { "lua_head", "lua/perilune/x.lua", "--- Does x.\n" },

    { "lua_requires", "lua/perilune/mw/x.lua", 'local a = require("perilune.app")\n',
      "may not require perilune.app" },
    { "lua_requires", "lua/perilune/json.lua", "\nlocal a = require 'perilune.form'\n",
      ":2: a codec may not require" },
    { "lua_requires", "lua/perilune/json.lua", 'local core = require("perilune.core.json")\n' },

    { "test_names", "core/test/net/test_x.c", "static void parser_works(void **state) {\n",
      "works" },
    { "test_names", "core/test/net/test_x.c", "static void test_parser(void **state) {\n",
      "repeats" },
    { "test_names", "core/test/net/test_x.c", "static void reports_full(void **state) {\n" },

    { "spec_names", "spec/x_spec.lua", 'it("should answer", function()\n', "should" },
    { "spec_names", "spec/x_spec.lua", 'it("answers", function()\n' },

    { "app_requires", "apps/x/app.lua", 'local x = require("cjson")\n', "may not require cjson",
      function() return false end },
    { "app_requires", "apps/x/app.lua", 'local x = require("perilune.ffi")\n', "perilune.ffi",
      function() return false end },
    { "app_requires", "apps/x/app.lua", 'local P = require "perilune"\nlocal x = require("own")\n',
      nil, function(name) return name == "own" end },
  }

  for number, case in ipairs(planted) do
    local rule, path, text, want, extra = case[1], case[2], case[3], case[4], case[5]
    local fact = want and "is named: " .. want or "is not seen where there is none"
    it(("%s (%s, case %d)"):format(fact, rule, number), function()
      local faults = rules[rule](path, text, extra)
      if want then
        assert.equal(1, #faults, table.concat(faults, "\n"))
        assert.is_truthy(faults[1]:find(want, 1, true), faults[1])
      else
        assert.same({}, faults)
      end
    end)
  end

  it("is planted for every rule", function()
    local planted_rules = {}
    for _, case in ipairs(planted) do
      planted_rules[case[1]] = true
    end
    for name in pairs(rules) do
      assert.is_true(name == "code_of" or planted_rules[name] == true, name)
    end
  end)
end)

describe("this runtime", function()
  it("is LuaJIT, as the apps have it", function()
    assert.is_string(jit and jit.version)
  end)
end)
