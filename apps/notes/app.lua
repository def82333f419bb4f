-- A JSON API over notes, kept in memory: the app to copy.
--
--   GET    /                what is here
--   GET    /notes           all notes; ?q=text filters
--   POST   /notes           makes one                    201, 422
--   GET    /notes/:id<int>  one note                     404
--   PUT    /notes/:id<int>  replaces title and text      404, 422
--   DELETE /notes/:id<int>  removes it                   204, 404
--
-- Reading is free. Writing needs the token of `settings.token`, if there is one:
--
--   perilune run apps/notes --set settings.token=secret
--
-- Each worker has its own memory: with more than one, use a database.

local P = require("perilune")
local notes = require("notes")

local app = P.app({ title = "Notes" })

local function timing(c, next)
  local start = P.monotonic()
  next(c)
  c:set("server-timing", ("app;dur=%.3f"):format((P.monotonic() - start) * 1000))
end

local WRITES = { POST = true, PUT = true, DELETE = true }

local function only_with_token(c, next)
  local token = P.settings.token
  if token and WRITES[c.method] and c:header("authorization") ~= "Bearer " .. token then
    c:set("www-authenticate", "Bearer")
    return c:problem(401, "this needs the token")
  end
  next(c)
end

app:use(timing)

app:get("/", function()
  return { title = app.title, notes = "/notes" }
end)

local api = app:group("/notes", only_with_token)

api:get("/", function(c)
  return P.json.array(notes.all(c:query("q")))
end)

api:post("/", { body_max = "64K" }, function(c)
  local note, errors = notes.add(c:json())
  if not note then
    return c:problem(422, "the note is not valid", { errors = errors })
  end
  return note, 201, { location = "/notes/" .. note.id }
end)

api:get("/:id<int>", function(c, id)
  return notes.get(id) or c:problem(404, "no note " .. id)
end)

api:put("/:id<int>", { body_max = "64K" }, function(c, id)
  local note, errors = notes.replace(id, c:json())
  if note then
    return note
  elseif errors then
    return c:problem(422, "the note is not valid", { errors = errors })
  end
  return c:problem(404, "no note " .. id)
end)

api:delete("/:id<int>", function(c, id)
  if not notes.remove(id) then
    return c:problem(404, "no note " .. id)
  end
end)

return app
