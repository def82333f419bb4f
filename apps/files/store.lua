--- A folder of files. Knows no HTTP.
---
--- Files on a local disk are read and written in a moment; the worker waits for
--- the disk meanwhile.

local ffi = require("ffi")

if not pcall(ffi.sizeof, "struct perilune_files_entry") then -- a spec loads this more than once
  ffi.cdef([[
int mkdir(const char *path, unsigned int mode);
struct perilune_files_dir;
struct perilune_files_dir *opendir(const char *path);
int closedir(struct perilune_files_dir *dir);
struct perilune_files_entry { /* struct dirent of 64-bit Linux */
  uint64_t ino; int64_t off; uint16_t size; uint8_t kind; char name[256];
};
struct perilune_files_entry *readdir(struct perilune_files_dir *dir);
]])
end

local C = ffi.C

---@class files.Store
---@field folder string absolute
local Store = {}
Store.__index = Store

---@class files.Upload
local Upload = {}
Upload.__index = Upload

local M = {}

local PARTIAL = ".part" -- files that are being written; names don't end so

--- Names are plain: no slash, no control characters, no dot in front.
---@param name string
---@return boolean
function M.is_name(name)
  return #name <= 200 and name:find("^[^%./%c][^/%c]*$") ~= nil and name:sub(-#PARTIAL) ~= PARTIAL
end

--- The store in a folder, which is made when it is first written to.
---@param folder string
---@return files.Store
function M.open(folder)
  return setmetatable({ folder = folder }, Store)
end

local function size_of(path)
  local file = io.open(path, "rb")
  local bytes = file and file:seek("end")
  if file then
    file:close()
  end
  return bytes
end

--- The files in the folder, by name.
---@return table[] list { name, bytes }
function Store:list()
  local list = {}
  local dir = C.opendir(self.folder)
  if dir == nil then
    return list
  end
  local entry = C.readdir(dir)
  while entry ~= nil do
    local name = ffi.string(entry.name)
    if M.is_name(name) then
      list[#list + 1] = { name = name, bytes = size_of(self.folder .. "/" .. name) }
    end
    entry = C.readdir(dir)
  end
  C.closedir(dir)
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  return list
end

--- Begins to write a file.
---@param name string
---@param unique string tells this upload from others of the name, in any worker
---@return files.Upload? upload
---@return string? err
function Store:begin(name, unique)
  if not M.is_name(name) then
    return nil, "that is no name for a file"
  end
  C.mkdir(self.folder, 448) -- 0700; it is there already, as a rule
  local path = self.folder .. "/" .. name
  local partial = ("%s.%s%s"):format(path, unique, PARTIAL)
  local file, err = io.open(partial, "wb")
  if not file then
    return nil, err
  end
  return setmetatable({ _file = file, _partial = partial, _path = path, _bytes = 0 }, Upload)
end

---@param name string
---@return boolean removed
function Store:remove(name)
  return M.is_name(name) and os.remove(self.folder .. "/" .. name) ~= nil
end

---@param bytes string
---@return boolean? ok
---@return string? err
function Upload:write(bytes)
  self._bytes = self._bytes + #bytes
  return self._file:write(bytes)
end

--- Moves what was written to its place.
---@return integer? bytes
---@return string? err
function Upload:keep()
  local ok, err = self._file:close()
  self._file = nil
  if ok then
    ok, err = os.rename(self._partial, self._path)
  end
  if not ok then
    os.remove(self._partial)
    return nil, err
  end
  return self._bytes
end

--- Forgets what was written, unless it was kept.
function Upload:drop()
  if self._file then
    self._file:close()
    self._file = nil
    os.remove(self._partial)
  end
end

return M
