--- `perilune new`: makes the folder of an app from the files in `template/`.

local ffi = require("ffi")

if not pcall(ffi.typeof, "struct pl_new_declared") then
  ffi.cdef([[
    struct pl_new_declared { int once; };
    int mkdir(const char *path, unsigned int mode);
    char *strerror(int code);
  ]])
end

local M = {}

-- name in the template -> name in the app
local FILES = {
  { "app.lua", "app.lua" },
  { "config.lua", "config.lua" },
  { "spec/app_spec.lua", "spec/app_spec.lua" },
  { "README.md", "README.md" },
  { "luarc.json", ".luarc.json" },
  { "busted", ".busted" },
  { "gitignore", ".gitignore" },
  { "service", "@NAME@.service" },
  { "Containerfile", "Containerfile" },
}

local EEXIST = 17

local function here()
  return debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$")
end

local function read(path)
  local file, err = io.open(path, "rb")
  if not file then
    error("the template is not complete: " .. err, 0)
  end
  local text = file:read("*a")
  file:close()
  return text
end

local function write(path, text)
  local file, err = io.open(path, "wb")
  local ok = file and file:write(text)
  ok, err = ok and file:close(), err
  if not ok then
    error(("cannot write %s: %s"):format(path, tostring(err or "is the disk full?")), 0)
  end
end

local function make_folder(path)
  if ffi.C.mkdir(path, 493) ~= 0 and ffi.errno() ~= EEXIST then
    error(("cannot make %s: %s"):format(path, ffi.string(ffi.C.strerror(ffi.errno()))), 0)
  end
end

local function check_name(name)
  if not name:find("^%a[%w_-]*$") or #name > 40 then
    error(("%q is no name for an app: a letter first, then letters, digits, - and _, 40 at most")
      :format(name), 0)
  end
end

--- Makes the app. The launcher has seen that the folder is free.
---@param path string of its folder; the last part is its name
---@param program string of the launcher
---@return string text what was made, and what comes next
function M.run(path, program)
  path = path:gsub("/+$", "")
  local name = path:match("[^/]*$")
  check_name(name)
  make_folder(path)
  make_folder(path .. "/spec")
  local values = { NAME = name, PROGRAM = program, LIBRARY = here() .. "/library" }
  local out = {}
  for _, file in ipairs(FILES) do
    local target = path .. "/" .. file[2]:gsub("@NAME@", name)
    write(target, (read(here() .. "/template/" .. file[1]):gsub("@(%u+)@", values)))
    out[#out + 1] = "  " .. target
  end
  return ("made:\n%s\n\nnext:\n  cd %s\n  perilune dev     # serves it while you write\n"
    .. "  perilune test    # runs its specs\n"):format(table.concat(out, "\n"), path)
end

return M
