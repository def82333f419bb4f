-- What the specs of the wire and of faults drive: each route does one thing
-- that a client can see. `/hits` tells how many handlers have run, so that a
-- spec can prove that a refused request reached none.

local P = require("perilune")
local app = P.app({ title = "Wire" })

local hits, kept, deferred = 0, 0, 0

app:get("/hits", function()
  return tostring(hits)
end)

app:get("/memory", function()
  return ("%d %d"):format(kept, deferred)
end)

app:use(function(c, next)
  if c.path ~= "/hits" then
    hits = hits + 1
  end
  next(c)
end)

local function text_of(value)
  return value == nil and P.json.null or value
end

-- What arrived, as JSON.
app:any("/echo/*rest", function(c, rest)
  return {
    method = c.method, path = c.path, target = c.target, rest = rest, version = c.http_version,
    host = text_of(c:header("host")), a = text_of(c:query("a")), x = text_of(c:header("x-x")),
    body = c:body(),
  }
end)

app:get("/text", function() return "text" end)
app:post("/text", function(c) return c:body() end)
app:put("/put-only", function(c) return c:body() end)
app:patch("/put-only", function(c) return c:body() end)
app:get("/nothing", function() end)
app:get("/teapot", function() return "short", 418 end)
app:get("/status/:code<int>", function(_, code) return "some text", code end)
app:get("/html", function(c) return c:html("<p>hello") end)

app:get("/slow/:ms<int>", function(_, ms)
  P.sleep(ms / 1000)
  return ("slow %d"):format(ms)
end)

-- The same with a deadline of its own.
app:get("/own/:ms<int>", { timeout = "5s" }, function(_, ms)
  P.sleep(ms / 1000)
  return ("own %d"):format(ms)
end)

-- Never comes back, and nothing can interrupt it.
app:get("/spin", function()
  while true do end -- luacheck: ignore 542
end)

-- Answers without a look at the body.
app:post("/unread", { body_max = "64M" }, function() return "unread" end)

-- Says how much came, in how many pieces, and the largest of them.
app:post("/count", { body_max = "1G", timeout = "2m" }, function(c)
  local bytes, pieces, largest = 0, 0, 0
  for piece in c:chunks() do
    bytes, pieces = bytes + #piece, pieces + 1
    largest = math.max(largest, #piece)
  end
  return ("%d %d %d"):format(bytes, pieces, largest)
end)

-- Sends each piece back as it comes.
app:post("/mirror", { body_max = "1G" }, function(c)
  return c:stream(function(out)
    for piece in c:chunks() do
      out:write(piece)
      out:flush()
    end
  end)
end)

app:post("/small", { body_max = 10 }, function(c) return c:body() end)

local PIECE = ("0123456789abcdef"):rep(4096)

local sent = 0 -- bytes that /stream has got rid of

-- So many bytes, in pieces of 64 KiB.
app:get("/stream/:bytes<int>", { timeout = "2m" }, function(c, bytes)
  return c:stream(function(out)
    sent = 0
    while bytes > 0 do
      local piece = bytes < #PIECE and PIECE:sub(1, bytes) or PIECE
      out:write(piece)
      bytes = bytes - #piece
      sent = sent + #piece
    end
  end)
end)

app:get("/sent", function() return tostring(sent) end)

-- Two pieces with a pause between them.
app:get("/halves/:ms<int>", function(c, ms)
  return c:stream(function(out)
    out:write("first "):flush()
    P.sleep(ms / 1000)
    out:write("second")
  end)
end)

app:get("/empty-stream", function(c) return c:stream(function() end) end)

-- A whole body of so many bytes.
app:get("/big/:bytes<int>", { timeout = "2m" }, function(_, bytes)
  return PIECE:rep(math.ceil(bytes / #PIECE)):sub(1, bytes)
end)

app:get("/events/:count<int>", { timeout = "1m" }, function(c, count)
  return c:sse(function(out, n)
    for i = 1, n do
      out:send("tick", { number = i }, i)
    end
    out:send(nil, "two\nlines")
  end, count)
end)

app:get("/endless-events", { timeout = "1m" }, function(c)
  return c:sse(function(out)
    while true do
      out:send("tick", "now")
      P.sleep(0.02)
    end
  end)
end)

app:get("/file/*path", function(c, path)
  return c:file(path, { root = P.settings.root or "files" })
end)

-- Errors: before an answer, in the middle of one, in a deferred call.
app:get("/boom", function() error("secret of the handler") end)
app:get("/boom-late", function(c)
  return c:stream(function(out)
    out:write("first"):flush()
    P.sleep(0.05)
    error("secret of the stream")
  end)
end)
app:get("/defer", function(c)
  c:defer(function() deferred = deferred + 1 end)
  return "later"
end)

-- Notices when the client has gone.
local gone = 0
app:get("/patient", { timeout = "1m" }, function(c)
  local ok = pcall(P.sleep, 30)
  if not ok and c:aborted() then
    gone = gone + 1
  end
end)
app:get("/gone", function() return tostring(gone) end)

app:get("/tasks/:count<int>", function(_, count)
  local started, why = 0, "none refused"
  for _ = 1, count do
    local task, err = P.spawn(P.sleep, 0.2)
    if not task then
      why = err
      break
    end
    started = started + 1
  end
  return ("%d %s"):format(started, why)
end)

-- Takes memory until there is none.
app:get("/hoard", function()
  local hoard = {}
  for i = 1, 1e6 do
    hoard[i] = ("x"):rep(100000) .. i
  end
  kept = #hoard
  return "kept"
end)

app:get("/huge", function()
  kept = #("x"):rep(1e9)
  return "kept"
end)

-- The same in tables, which a collector has to look at one by one.
app:get("/hoard-tables", function()
  local hoard = {}
  for i = 1, 1e9 do
    hoard[i] = { i }
  end
  kept = #hoard
  return "kept"
end)

app:post("/log", function(c)
  P.log.info(c:body(), { answer = 42 })
end)

return app
