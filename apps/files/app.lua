-- Files to put up and to fetch, of any size, in constant memory.
--
--   GET    /             a page to look at, to upload and to delete
--   GET    /files        the list, as JSON
--   PUT    /files/:name  takes the body as a file, piece by piece   201, 400
--   GET    /files/:name  the file; ranges and conditions are answered
--   DELETE /files/:name  removes it                                 204, 404
--
-- The files lie in `settings.folder` (default: a folder of their own below /tmp).
-- An upload is written beside its place and moved there when it is whole, so
-- nobody ever fetches half a file.

local P = require("perilune")
local store = require("store")

local app = P.app({ title = "Files" })

local UPLOAD_BYTES_MAX = "4G"
local files = store.open(P.settings.folder or "/tmp/perilune-files")

local function escape(name)
  return (name:gsub("[^%w%-%._~]", function(char)
    return ("%%%02X"):format(char:byte())
  end))
end

app:get("/", function(c)
  c:set("cache-control", "no-cache") -- asked for again each time, sent again when it has changed
  return c:file("page.html", { type = "text/html; charset=utf-8" })
end)

app:get("/files", function()
  return P.json.array(files:list())
end)

app:put("/files/:name", { body_max = UPLOAD_BYTES_MAX, timeout = "1h" }, function(c, name)
  local upload, err = files:begin(name, c.id)
  if not upload then
    return c:problem(400, err)
  end
  c:defer(upload.drop, upload) -- what is not kept goes away, whatever happens here
  for bytes in c:chunks() do
    local ok, why = upload:write(bytes)
    if not ok then
      return c:problem(507, why)
    end
  end
  local size = assert(upload:keep())
  return { name = name, bytes = size }, 201, { location = "/files/" .. escape(name) }
end)

app:get("/files/:name", { timeout = "1h" }, function(c, name)
  if not store.is_name(name) then
    return c:problem(404)
  end
  -- What people put up is shown as it is, but runs nothing in this page's name.
  c:set("content-security-policy", "sandbox")
  c:set("x-content-type-options", "nosniff")
  return c:file(name, { root = files.folder, download = c:query("download") and true })
end)

app:delete("/files/:name", function(c, name)
  if not files:remove(name) then
    return c:problem(404)
  end
end)

return app
