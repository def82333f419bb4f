---@meta _
--- The context `c`: one request, and its answer.
-- luacheck: no unused

--- Valid until the request has ended; used later, all of it raises "context used
--- after its request ended". Of its fields `tenant` and `tier` can be set; leave other things in
--- `c.data`.
---@class perilune.Context
---@field method string "GET", "POST" ...
---@field path string decoded, without dot segments; begins with "/"
---@field target string as it was sent
---@field remote_addr string address of the client, without its port; "unix" on such a socket
---@field scheme string "http"
---@field http_version string "1.1" or "1.0"
---@field id string the request id, as in the log: of a trusted peer, else 16 hex digits
---@field request_id string the same
---@field trace_id string 32 hex digits; of the request's traceparent, if it has a valid one
---@field span_id string 16 hex digits: of this request's part in the trace
---@field tenant string? of a trusted peer, or set: 1 to 64 bytes without control characters
---@field tier perilune.Tier of a trusted peer, or set; else "normal"
---@field deadline number? when the request is over, in the seconds of `P.monotonic`; nil: never
---@field route string? pattern of the route; nil where none matched
---@field data table for middleware to leave things in; fresh for every request
local Context = {}

--- A parameter of the path; handlers also get them as arguments.
---@param name string
---@return string|number|nil value a number for <int>; nil when the pattern has none of that name
function Context:param(name) end

--- The first value of a query parameter, decoded.
---@param name string
---@return string?
function Context:query(name) end

--- All values of a query parameter, decoded, in their order.
---@param name string
---@return string[] values empty when there are none
function Context:queries(name) end

--- A header field of the request; repeated ones are joined by ", ".
---@param name string in any case
---@return string?
function Context:header(name) end

--- All header fields of the request: a new table.
---@return table<string, string> fields by lower-case name
function Context:headers() end

--- A cookie of the request.
---@param name string
---@return string?
function Context:cookie(name) end

--- A value of the baggage that came with the request (W3C Baggage), decoded.
---@param key string case counts
---@return string? value of the first member with that key
function Context:baggage(key) end

--- The whole body; waits for all of it. Asked again, the same string.
---@return string bytes
function Context:body() end

--- The body in pieces, as they come: `for bytes in c:chunks() do ... end`. In
--- constant memory, so for bodies of any size; the route's `body_max` holds.
---@return fun(c: perilune.Context): string?
---@return perilune.Context
function Context:chunks() end

--- Without arguments: the decoded body, where other media types than JSON end
--- the request with 415 and malformed bytes with 400. With a table: answers with it.
---@param value table
---@param status? integer default 200
---@return perilune.Context c to return
---@overload fun(self: perilune.Context): any
function Context:json(value, status) end

---@class perilune.File
---@field name string of the form's field
---@field filename string as sent: never use it as a path
---@field type string media type, as sent
---@field body string

--- The decoded form, urlencoded or multipart. Other media types end the request
--- with 415, malformed bytes with 400, more than 256 fields with 413.
---@return table<string, string> fields the first value of each
---@return perilune.File[] files of multipart/form-data; else empty
function Context:form() end

--- Seconds until the deadline of the request; 0 when it is over.
---@return number
function Context:time_left() end

--- Whether the client is gone.
---@return boolean
function Context:aborted() end

--- Sets the status of the answer.
---@param code integer 200 to 599
---@return perilune.Context
function Context:status(code) end

--- Sets a header of the answer, in place of those of that name. Raises for CR,
--- LF and NUL, and for fields that are the server's, such as Content-Length.
---@param name string
---@param value string|number
---@return perilune.Context
function Context:set(name, value) end

--- Adds a header to the answer, beside those of that name.
---@param name string
---@param value string|number
---@return perilune.Context
function Context:add(name, value) end

---@class perilune.CookieOptions
---@field path? string|false default "/"
---@field domain? string
---@field max_age? number|string seconds, or "1h"
---@field expires? number seconds since the epoch
---@field secure? boolean default false
---@field http_only? boolean default true
---@field same_site? "Lax"|"Strict"|"None"|false default "Lax"

--- Sets a cookie.
---@param name string
---@param value string visible ASCII without quotes, commas, semicolons, backslashes
---@param opts? perilune.CookieOptions
---@return perilune.Context
function Context:set_cookie(name, value, opts) end

--- Answers with text/plain.
---@param s string
---@param status? integer default 200
---@return perilune.Context c to return
function Context:text(s, status) end

--- Answers with text/html.
---@param s string
---@param status? integer default 200
---@return perilune.Context c to return
function Context:html(s, status) end

--- Answers with bytes of any type.
---@param s string
---@param media_type? string default "application/octet-stream"
---@param status? integer default 200
---@return perilune.Context c to return
function Context:bytes(s, media_type, status) end

--- Sends the client elsewhere.
---@param url string
---@param status? integer 300 to 399, default 302
---@return perilune.Context c to return
function Context:redirect(url, status) end

--- Answers with a problem document (RFC 9457).
---@param status integer
---@param detail? string what happened, for the client
---@param extra? table members beside the standard ones; may replace type and title
---@return perilune.Context c to return
function Context:problem(status, detail, extra) end

---@class perilune.FileOptions
---@field root? string the folder that the path must stay below: give it for paths of clients
---@field type? string media type; default: by the extension
---@field download? boolean|string offers to save it, under this name
---@field status? integer

--- Answers with a file; Range and conditional requests too. What is not there,
--- or outside of the root, is a 404. Relative paths begin at the app's folder.
---@param path string
---@param opts? perilune.FileOptions
---@return perilune.Context c to return
function Context:file(path, opts) end

--- Answers in pieces: calls `fn(out, ...)` once the middleware has returned.
---@param fn fun(out: perilune.Out, ...)
---@param ... any for fn, so that no closure is needed
---@return perilune.Context c to return
function Context:stream(fn, ...) end

--- Answers with server-sent events: calls `fn(out, ...)`. The deadline of the
--- request holds: such a route wants `{ timeout = false }`.
---@param fn fun(out: perilune.Events, ...)
---@param ... any for fn
---@return perilune.Context c to return
function Context:sse(fn, ...) end

--- Calls `fn(...)` after the reply has been sent, also after an error.
---@param fn function
---@param ... any for fn
function Context:defer(fn, ...) end

--- The body of a streamed answer.
---@class perilune.Out
local Out = {}

--- Sends a piece. Waits while more than `limits.output` bytes wait for a slow
--- client; raises when the client is gone.
---@param bytes string may be empty
---@return self
function Out:write(bytes) end

--- Hands what was written to the socket now, instead of at the end of the tick.
---@return self
function Out:flush() end

---@class perilune.Events: perilune.Out
local Events = {}

--- Sends an event. Raises where event or id hold a line break.
---@param event? string its type; nil: "message"
---@param data string|table|number|nil a table becomes JSON
---@param id? string|integer
---@return self
function Events:send(event, data, id) end

--- Sends a comment, which keeps what lies between from closing an idle connection.
---@param text? string one line
---@return self
function Events:comment(text) end
