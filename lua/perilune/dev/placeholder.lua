--- What `perilune dev` serves while the app has not loaded even once: why it does not.

local P = require("perilune")

local app = P.app { title = "The app does not load" }
local text = tostring(P.settings.error or "the app does not load")

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local PAGE = [[<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The app does not load</title>
<meta name="color-scheme" content="light dark">
<style>body{font:16px/1.5 system-ui,sans-serif;margin:8vh auto;max-width:60em;padding:0 1em}
pre{overflow:auto;padding:1em;border-left:4px solid #d33a3a;background:#8881}</style></head>
<body><h1>The app does not load</h1>
<p>This page goes away by itself when it does.</p>
<pre>%s</pre></body></html>
]]

local page = PAGE:gsub("%%s", function() return (text:gsub('[&<>"]', ESCAPES)) end)

app:not_found(function(c)
  local accept = c:header("accept") or ""
  if accept:find("text/html", 1, true) then
    return c:html(page, 500)
  end
  return c:problem(500, text)
end)

return app
