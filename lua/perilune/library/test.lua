---@meta perilune.test
--- Drives an app in specs, without a socket: `require "perilune.test"`.
-- luacheck: no unused

---@class perilune.test
local test = {}

---@class perilune.test.Options
---@field config? table { settings = {...}, limits = { body = ... }, timeouts = { handler = ... } }
---@field timers? boolean start what P.every and P.detach have registered; for paths only

--- An app to drive. A path is loaded afresh, with the app's own modules.
---@param app string|perilune.App file or folder of an app, or an app
---@param opts? perilune.test.Options
---@return perilune.test.Api
function test.app(app, opts) end

---@class perilune.test.RequestOptions
---@field headers? table<string, string>
---@field query? table<string, string|number|(string|number)[]>
---@field body? string
---@field json? any encoded as the body
---@field form? table<string, string|number|boolean|table> encoded as the body
---@field cookies? table<string, string>
---@field allow_error? boolean else an error in a handler fails the spec, with its traceback
---@field remote? string address of the client

---@class perilune.test.Api
local Api = {}

--- Sends a request and waits for its response.
---@param method string
---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:request(method, path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:get(path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:post(path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:put(path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:patch(path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:delete(path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:head(path, opts) end

---@param path string
---@param opts? perilune.test.RequestOptions
---@return perilune.test.Response
function Api:options(path, opts) end

--- Sends bytes as they are, on a connection of their own. Errors of handlers
--- don't fail the spec.
---@param bytes string|string[] a list: piece by piece, with a tick between
---@param count? integer of responses to wait for; default: until the server closes
---@return string raw all that came back
---@return boolean closed by the server
function Api:raw(bytes, count) end

--- A connection to send and read by hand.
---@param opts? { remote?: string }
---@return perilune.test.Connection
function Api:connect(opts) end

--- What handlers have raised since the last request; empties the list.
---@return string[] texts with tracebacks
function Api:errors() end

--- Moves all clocks and deadlines forward, and lets what became due run.
---@param seconds number|string seconds, or "10s"
function Api:advance(seconds) end

---@class perilune.test.Response
---@field status integer
---@field reason string
---@field headers table<string, string> by lower-case name; repeated ones joined by ", "
---@field body string
---@field cookies table<string, string> that it sets; to give back as `cookies`
---@field set_cookies string[] the Set-Cookie fields as they are
---@field informational integer[] statuses of the 1xx responses before it
---@field raw string all its bytes
local Response = {}

--- The decoded body; raises when it is no JSON.
---@return any
function Response:json() end

---@class perilune.test.Connection
---@field closed boolean by the server
local Connection = {}

---@param bytes string
function Connection:send(bytes) end

--- Waits until more bytes have come, or none will.
function Connection:wait() end

--- Waits for the next response.
---@param method string of its request
---@return perilune.test.Response? response without its methods; nil: closed without one
function Connection:response(method) end

--- Waits until the server has closed.
---@return string bytes all that has come
function Connection:rest() end

--- Says that the client sends no more.
function Connection:half_close() end

--- Whether the client reads what comes.
---@param stalled boolean
function Connection:stall(stalled) end

--- The client goes away.
function Connection:close() end

return test
