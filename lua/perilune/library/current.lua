---@meta perilune.current
--- On whose behalf something runs: `P.context`.
-- luacheck: no unused

---@alias perilune.Tier "high"|"normal"|"low"

--- In handlers and what they wait for, in tasks that were spawned or detached, in timers.
---@class perilune.current
local current = {}

---@class perilune.CurrentContext
---@field trace_id string 32 hex digits
---@field span_id string 16 hex digits; a detached task and each run of a timer have their own, and
---   so has what runs in a `P.span`
---@field parent_id string? the span that asked for it; nil: the trace begins here
---@field sampled boolean whether the trace is kept in any case, here or by the caller
---@field request_id string? nil in timers, and in tasks that the app's top level has detached
---@field tenant string?
---@field tier perilune.Tier
---@field deadline number? of the request, in the seconds of `P.monotonic`; nil: none

--- The context of what runs: a new table, which doesn't change any more.
---@return perilune.CurrentContext? now nil while the app loads
function current.current() end

--- A value of the baggage that came with the request (W3C Baggage), decoded.
---@param key string case counts
---@return string? value of the first member with that key
function current.baggage(key) end

--- The headers of a request that is sent on behalf of what runs: `traceparent`, whose parent is
--- the span of this work (`P.span`), and `tracestate` and `baggage` as they came, within their
--- limits.
---@param into? table<string, string> where they are put; a new table without
---@param trusted? boolean the receiver is one of ours: request id, tenant and tier as well, in
---   the fields that the keys `context.*_header` name
---@return table<string, string> headers
function current.headers(into, trusted) end

return current
