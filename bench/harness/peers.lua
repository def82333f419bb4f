-- bench/harness/peers.lua - the servers that are compared: what each needs, how it is built and
-- how it is started. Everything they write lies in the folders given here.
--
-- Knows no scenario beyond its name, and measures nothing.

local process = require("process")

local ROUTE_COUNT = 200

local M = {}

---@class perilune.bench.Place
---@field source string the folder bench/
---@field build string folder for what is compiled; kept between runs
---@field unpacked string folder of packages that are unpacked, not installed: .ci/setup bench
---@field perilune string the launcher

---@class perilune.bench.Serve
---@field port integer
---@field folder string of this server, for this run
---@field access_log string? file; nil: none is written
---@field access_sample string? Perilune: share of requests in it
---@field launcher string? Perilune: another one than the place's

---@class perilune.bench.Need one of the first four
---@field file? string
---@field command? string
---@field unpacked? string below the folder of unpacked packages
---@field perilune? boolean the launcher
---@field hint string what to tell the user

---@class perilune.bench.Peer
---@field name string
---@field label string for tables
---@field needs perilune.bench.Need[]
---@field scenarios? table<string, boolean> nil: all
---@field is_extra? boolean measured only when it is asked for
---@field prepare? fun(place: perilune.bench.Place): boolean, string?
---@field start fun(place: perilune.bench.Place, serve: perilune.bench.Serve): string[], table?
---@field version fun(place: perilune.bench.Place): string

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  file:close()
end

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close()
end

local function first_line(argv)
  local _, output = process.run(argv, 20)
  return (output:match("[^\r\n]+") or "?")
end

-- Replaces each @NAME@ of a configuration; an unknown name is an error of ours.
local function fill(text, values)
  return (text:gsub("@([A-Z_]+)@", function(name)
    return assert(values[name], name)
  end))
end

local function make(argv)
  local ok, output = process.run(argv)
  if ok then
    return true
  end
  return false, process.line(argv) .. "\n" .. output
end

local function package_version(name)
  return first_line({ "dpkg-query", "-W", "-f", "${Version}\n", name })
end

-- Ours.

local function perilune_start(place, serve)
  local argv = {
    serve.launcher or place.perilune, "run", place.source .. "/apps/bench",
    "--listen", "127.0.0.1:" .. serve.port,
    "--workers", "1",
    "--name", "bench-" .. serve.port,
    "--set", "limits.connections=12000",
    "--set", "timeouts.idle=600s",
    "--set", "log.access=" .. tostring(serve.access_log ~= nil),
    "--set", "log.format=json",
    "--set", "log.output=" .. (serve.access_log or serve.folder .. "/server.log"),
  }
  if serve.access_sample then
    argv[#argv + 1] = "--set"
    argv[#argv + 1] = "log.access_sample=" .. serve.access_sample
  end
  return argv, { XDG_RUNTIME_DIR = serve.folder }
end

local function perilune_version(place)
  return first_line({ place.perilune, "version" })
end

local function perilune_nopreempt_start(place, serve)
  local argv, env = perilune_start(place, serve)
  argv[#argv + 1] = "--set"
  argv[#argv + 1] = "vm.preempt=off"
  return argv, env
end

-- The same in C.

local LLHTTP = { "api", "http", "llhttp" }

local function baseline_prepare(place)
  local argv = {
    "cc", "-std=gnu11", "-O2", "-DLLHTTP_STRICT_MODE=1", "-I/usr/share/include/llhttp",
    place.source .. "/baseline/server.c",
  }
  for _, name in ipairs(LLHTTP) do
    argv[#argv + 1] = ("/usr/share/llhttp/%s.c"):format(name)
  end
  for _, arg in ipairs({ "-luv", "-o", place.build .. "/baseline" }) do
    argv[#argv + 1] = arg
  end
  return make(argv)
end

local function baseline_start(place, serve)
  local argv = { place.build .. "/baseline", "--port", tostring(serve.port) }
  if serve.access_log then
    argv[#argv + 1] = "--access-log"
    argv[#argv + 1] = serve.access_log
  end
  return argv
end

-- nginx.

local function nginx_locations()
  local lines = {}
  for i = 0, ROUTE_COUNT - 1 do
    local prefix = ("/api/r%d/"):format(i)
    lines[#lines + 1] = ([[
    location %s {
      default_type "application/json";
      content_by_lua_block { require("app").item("r%d", %d) }
    }]]):format(prefix, i, #prefix)
  end
  return table.concat(lines, "\n")
end

-- nginx's Lua needs OpenResty's fork of LuaJIT, whose package takes the one away that Perilune is
-- built on: hence it is unpacked and found by the environment.
local function library_path(place)
  local pattern = process.quote(place.unpacked) .. "/usr/lib/*/libluajit-5.1.so.2"
  local _, output = process.run({ "sh", "-c", "ls -d " .. pattern }, 10)
  return output:match("^(/.*)/libluajit[^\n]*\n") or ""
end

local function nginx_start(place, serve)
  local source = place.source .. "/peers/nginx"
  local root = place.unpacked
  write(serve.folder .. "/nginx.conf", fill(read(source .. "/nginx.conf.in"), {
    USER = process.is_root() and "user root;" or "",
    MODULES = root .. "/usr/lib/nginx/modules",
    ACCESS_LOG = serve.access_log and serve.access_log .. " combined buffer=64k flush=1s" or "off",
    LUA_PATH = ("%s/?.lua;%s/usr/share/lua/5.1/?.lua;;"):format(source, root),
    PORT = tostring(serve.port),
    LOCATIONS = nginx_locations(),
  }))
  local argv = {
    root .. "/usr/sbin/nginx", "-p", serve.folder, "-c", serve.folder .. "/nginx.conf",
    "-e", "error.log",
  }
  return argv, { LD_LIBRARY_PATH = library_path(place) }
end

--- nginx with a lua_shared_dict, for bench/dict.lua.
---@return string[] argv
---@return table<string, string> env
function M.nginx_dict(place, port, folder)
  local root = place.unpacked
  write(folder .. "/nginx.conf", fill(read(place.source .. "/peers/nginx/dict.conf.in"), {
    USER = process.is_root() and "user root;" or "",
    MODULES = root .. "/usr/lib/nginx/modules",
    LUA_PATH = ("%s/apps/dict/?.lua;%s/usr/share/lua/5.1/?.lua;;"):format(place.source, root),
    PORT = tostring(port),
  }))
  return {
    root .. "/usr/sbin/nginx", "-p", folder, "-c", folder .. "/nginx.conf", "-e", "error.log",
  }, { LD_LIBRARY_PATH = library_path(place) }
end

-- h2o.

local function h2o_start(handler)
  return function(place, serve)
    local source = place.source .. "/peers/h2o"
    write(serve.folder .. "/h2o.conf", fill(read(source .. "/h2o.conf.in"), {
      USER = process.is_root() and "user: root" or "",
      FOLDER = serve.folder,
      ACCESS_LOG = serve.access_log and "access-log: " .. serve.access_log or "",
      PORT = tostring(serve.port),
      HANDLER = handler(source, serve),
    }))
    local argv = { place.unpacked .. "/usr/bin/h2o", "-c", serve.folder .. "/h2o.conf" }
    return argv, { H2O_ROOT = place.unpacked .. "/usr" }
  end
end

local function h2o_mruby(source)
  return ("        mruby.handler-file: %s/app.rb"):format(source)
end

local function h2o_files(_, serve)
  local folder = serve.folder .. "/files"
  process.make_folder(folder)
  write(folder .. "/index.txt", "Hello, World!")
  write(folder .. "/big", ("x"):rep(1024 * 1024))
  return ("        file.dir: %s\n        file.index: [ 'index.txt' ]"):format(folder)
end

-- Go and Node.

local function go_prepare(place)
  return make({
    "env", "-C", place.source .. "/peers/go", "GO111MODULE=on", "GOPROXY=off",
    "go", "build", "-buildvcs=false", "-o", place.build .. "/go-server", ".",
  })
end

local function go_start(place, serve)
  local argv = { place.build .. "/go-server", "-port", tostring(serve.port) }
  if serve.access_log then
    argv[#argv + 1] = "-access-log"
    argv[#argv + 1] = serve.access_log
  end
  return argv, { GOMAXPROCS = "1" }
end

local function node_start(folder)
  return function(place, serve)
    local argv = { "node", folder(place) .. "/server.js", tostring(serve.port) }
    argv[#argv + 1] = serve.access_log
    return argv, { NODE_ENV = "production" }
  end
end

local function fastify_folder(place)
  return place.build .. "/fastify"
end

local function fastify_prepare(place)
  local folder = fastify_folder(place)
  process.make_folder(folder)
  for _, name in ipairs({ "package.json", "package-lock.json", "server.js" }) do
    write(folder .. "/" .. name, read(place.source .. "/peers/fastify/" .. name))
  end
  if exists(folder .. "/node_modules/fastify/package.json") then
    return true
  end
  return make({ "npm", "ci", "--prefix", folder, "--no-audit", "--no-fund" })
end

local function nginx_version(place)
  local nginx = first_line({ place.unpacked .. "/usr/sbin/nginx", "-v" })
  local core = read(place.unpacked .. "/usr/share/lua/5.1/resty/core/base.lua")
  -- lua-resty-core accepts exactly one version of the module, and names it.
  local module = tonumber(core:match("ngx_lua_version ~= (%d+)") or 0)
  return ("%s, lua-nginx-module 0.%d.%d"):format(nginx, module / 1000, module % 1000)
end

local function h2o_version(place)
  return first_line({ place.unpacked .. "/usr/bin/h2o", "-v" })
end

local FILES_ONLY = { plain = true, plain16 = true, big = true, idle = true }
local UNPACKED = "run .ci/setup bench, as make bench does"

---@type perilune.bench.Peer[]
M.list = {
  {
    name = "perilune",
    label = "Perilune",
    needs = { { perilune = true, hint = "build it with make" } },
    start = perilune_start,
    version = perilune_version,
  },
  {
    name = "perilune-nopreempt",
    label = "without preemption",
    is_extra = true,
    needs = { { perilune = true, hint = "build it with make" } },
    start = perilune_nopreempt_start,
    version = perilune_version,
  },
  {
    name = "baseline",
    label = "C: libuv + llhttp",
    needs = {
      { command = "cc", hint = "install gcc" },
      { file = "/usr/include/uv.h", hint = "install libuv1-dev" },
      { file = "/usr/share/llhttp/llhttp.c", hint = "install node-llhttp" },
    },
    prepare = baseline_prepare,
    start = baseline_start,
    version = function()
      local libuv, llhttp = package_version("libuv1-dev"), package_version("node-llhttp")
      return ("libuv %s, llhttp %s"):format(libuv, llhttp)
    end,
  },
  {
    name = "nginx",
    label = "nginx + Lua",
    needs = {
      { unpacked = "/usr/sbin/nginx", hint = UNPACKED },
      { unpacked = "/usr/lib/nginx/modules/ngx_http_lua_module.so", hint = UNPACKED },
      { command = "luajit", hint = "install luajit" },
    },
    start = nginx_start,
    version = nginx_version,
  },
  {
    name = "h2o",
    label = "h2o files",
    needs = { { unpacked = "/usr/bin/h2o", hint = UNPACKED } },
    scenarios = FILES_ONLY,
    start = h2o_start(h2o_files),
    version = h2o_version,
  },
  {
    name = "h2o-mruby",
    label = "h2o mruby",
    needs = { { unpacked = "/usr/bin/h2o", hint = UNPACKED } },
    start = h2o_start(h2o_mruby),
    version = h2o_version,
  },
  {
    name = "go",
    label = "Go net/http",
    needs = { { command = "go", hint = "install golang-go" } },
    prepare = go_prepare,
    start = go_start,
    version = function()
      return first_line({ "go", "version" })
    end,
  },
  {
    name = "node",
    label = "Node http",
    needs = { { command = "node", hint = "install nodejs" } },
    start = node_start(function(place)
      return place.source .. "/peers/node"
    end),
    version = function()
      return "node " .. first_line({ "node", "--version" })
    end,
  },
  {
    name = "fastify",
    label = "Fastify",
    needs = {
      { command = "node", hint = "install nodejs" },
      { command = "npm", hint = "install npm" },
    },
    prepare = fastify_prepare,
    start = node_start(fastify_folder),
    version = function(place)
      local text = read(place.source .. "/peers/fastify/package.json")
      return "fastify " .. (text:match('"fastify": "([^"]+)"') or "?")
    end,
  },
}

---@param name string
---@return perilune.bench.Peer?
function M.find(name)
  for _, peer in ipairs(M.list) do
    if peer.name == name then
      return peer
    end
  end
end

---@param peer perilune.bench.Peer
---@param place perilune.bench.Place
---@return string? hint what to do about what is missing; nil when all is there
function M.missing(peer, place)
  for _, need in ipairs(peer.needs) do
    local there
    if need.command then
      there = process.run({ "sh", "-c", 'command -v "$1"', "sh", need.command }, 10)
    else
      local unpacked = need.unpacked and place.unpacked .. need.unpacked
      there = exists(unpacked or need.file or place.perilune)
    end
    if not there then
      return need.hint
    end
  end
end

return M
