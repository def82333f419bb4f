rockspec_format = "3.0"
package = "perilune"
version = "scm-1"
source = {
  url = "git+https://github.com/perilune/perilune.git",
}
description = {
  summary = "An application server: a core of C, apps in Lua",
  detailed = [[
    Perilune serves HTTP from a C core and runs request handlers, middleware and
    background work as Lua functions that LuaJIT compiles. It needs LuaJIT,
    libuv, nghttp2, jemalloc and the sources of llhttp (on Debian: node-llhttp; elsewhere
    point LLHTTP_INCLUDE_DIR and LLHTTP_SOURCE_DIR to them).
  ]],
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = {
  "lua == 5.1", -- LuaJIT counts as 5.1; CMake looks for luajit.pc
}
external_dependencies = {
  LIBUV = { header = "uv.h" },
  JEMALLOC = { header = "jemalloc/jemalloc.h" },
  NGHTTP2 = { header = "nghttp2/nghttp2.h" },
  ZLIB = { header = "zlib.h" },
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    PERILUNE_BINDIR = "$(BINDIR)",
    PERILUNE_LIBDIR = "$(LIBDIR)",
    PERILUNE_LUADIR = "$(LUADIR)",
    PERILUNE_TESTS = "OFF",
    PERILUNE_WERROR = "OFF", -- compilers to come warn of more
  },
}
test_dependencies = { "busted >= 2.1" }
test = {
  type = "busted",
  flags = { "--lua=luajit" },
}
