--- Problem documents (RFC 9457), and the errors that are answers: values which
--- are raised to leave a handler at once, and which the runner understands.
---
--- Such an error is a table with the metatable `Tag`. It never reaches a
--- client as text: its kind says what is answered, if anything.
---
---   kind       raised when                              answered with
---   problem    a body or a query cannot be read         its status and detail
---   deadline   a wait ends at the request's deadline    503
---   gone       the client has gone away                 nothing
---   cancelled  the task (or its request) was cancelled  nothing
---   memory     the VM holds too much, most of it here   503
---   lost       nobody can reach what it waits for       500
---
--- The last five are raised out of waits, and all but `lost` also out of code that
--- computes, between any two of its steps. User code may catch them with pcall; the
--- next wait ends the same way, and what computes on gets the error again, until the
--- core leaves it where it is: no handler outlives its deadline by catching.

---@class perilune.problem
local M = {}

---@class perilune.Tag
---@field kind "problem"|"deadline"|"gone"|"cancelled"|"memory"|"lost"
---@field message string
---@field status integer? of the answer
---@field detail string? of the answer
local Tag = {}
Tag.__index = Tag
Tag.__tostring = function(tag)
  return tag.message
end

--- Reason phrases of the statuses a server sends (IANA registry), by status.
M.titles = {
  [200] = "OK", [201] = "Created", [202] = "Accepted", [204] = "No Content",
  [206] = "Partial Content", [301] = "Moved Permanently", [302] = "Found", [303] = "See Other",
  [304] = "Not Modified", [307] = "Temporary Redirect", [308] = "Permanent Redirect",
  [400] = "Bad Request", [401] = "Unauthorized", [402] = "Payment Required", [403] = "Forbidden",
  [404] = "Not Found", [405] = "Method Not Allowed", [406] = "Not Acceptable",
  [407] = "Proxy Authentication Required", [408] = "Request Timeout", [409] = "Conflict",
  [410] = "Gone", [411] = "Length Required", [412] = "Precondition Failed",
  [413] = "Content Too Large", [414] = "URI Too Long", [415] = "Unsupported Media Type",
  [416] = "Range Not Satisfiable", [417] = "Expectation Failed", [418] = "I'm a Teapot",
  [421] = "Misdirected Request", [422] = "Unprocessable Content", [423] = "Locked",
  [424] = "Failed Dependency", [425] = "Too Early", [426] = "Upgrade Required",
  [428] = "Precondition Required", [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [451] = "Unavailable For Legal Reasons",
  [500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
  [503] = "Service Unavailable", [504] = "Gateway Timeout", [505] = "HTTP Version Not Supported",
  [507] = "Insufficient Storage", [508] = "Loop Detected",
  [511] = "Network Authentication Required",
}

--- A new problem document.
---@param status integer
---@param detail? string what happened, for the client
---@param extra? table members beside the standard ones; may replace type and title
---@return table document
function M.document(status, detail, extra)
  local document = {
    type = "about:blank",
    title = M.titles[status] or "Error",
    status = status,
    detail = detail,
  }
  if extra then
    for name, value in pairs(extra) do
      document[name] = value
    end
  end
  return document
end

---@param status integer
---@param detail? string
---@return perilune.Tag
function M.new(status, detail)
  return setmetatable({
    kind = "problem",
    status = status,
    detail = detail,
    message = ("%d %s%s"):format(status, M.titles[status] or "Error",
      detail and ": " .. detail or ""),
  }, Tag)
end

--- Leaves the handler with an answer.
---@param status integer
---@param detail? string
function M.raise(status, detail)
  error(M.new(status, detail), 0)
end

---@param err any
---@return boolean
function M.is(err)
  return type(err) == "table" and getmetatable(err) == Tag
end

M.DEADLINE = setmetatable({
  kind = "deadline", status = 503, message = "the deadline of the request is over",
  detail = "the request took too long",
}, Tag)
M.MEMORY = setmetatable({
  kind = "memory", status = 503, message = "the server is short of memory",
  detail = "the server is short of memory",
}, Tag)
M.GONE = setmetatable({ kind = "gone", message = "the client is gone" }, Tag)
M.CANCELLED = setmetatable({ kind = "cancelled", message = "the task was cancelled" }, Tag)
M.LOST = setmetatable({ kind = "lost", status = 500, message = "nobody can wake this" }, Tag)

--- By the codes of the core, PL_WAKE_*.
M.by_code = {
  [1] = M.DEADLINE, [2] = M.GONE, [3] = M.CANCELLED, [4] = M.MEMORY, [5] = M.LOST,
}

return M
