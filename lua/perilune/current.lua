--- P.context: on whose behalf something runs, wherever that is: in a handler, after its waits, in
--- tasks that were spawned or detached, in timers. And what others are told of it who are asked on
--- its behalf (W3C Trace Context and Baggage).
---
--- The core knows the context of the running coroutine; nothing is kept here.

local clock = require("perilune.clock")
local context = require("perilune.context")
local core = require("perilune.core")
local ffi = require("perilune.ffi")

local C = ffi.C
local band = require("bit").band
local long_text, TIERS = context.long_text, context.TIERS
local text_buffer = require("ffi").typeof("char[64]")
local text_of = require("ffi").string
local error, type = error, type

---@class perilune.current
local M = {}

---@alias perilune.Tier "high"|"normal"|"low"

local SAMPLED = 1 -- PL_TRACE_SAMPLED
local STATE, BAGGAGE = 1, 2 -- PL_PASSES_*

local function lower(key)
  local name = core.config(key)
  return name and name ~= "" and name:lower() or nil
end

-- Names of the fields that peers trust each other with; nil: there is none.
local ID_FIELD = lower("context.request_id_header")
local TENANT_FIELD = lower("context.tenant_header")
local TIER_FIELD = lower("context.tier_header")

local function text(write, now)
  local out = text_buffer()
  local bytes = write(now, out)
  return bytes > 0 and text_of(out, bytes) or nil
end

--- Of the span that runs, which P.span may have begun.
local function text_of_span(write)
  local out = text_buffer()
  local bytes = write(out)
  return bytes > 0 and text_of(out, bytes) or nil
end

local function tenant_of(now)
  return now.tenant_bytes > 0 and text_of(now.tenant, now.tenant_bytes) or nil
end

---@class perilune.CurrentContext
---@field trace_id string 32 hex digits
---@field span_id string 16 hex digits: of this work
---@field parent_id string? of the work that asked for it; nil: the trace begins here
---@field sampled boolean whether the trace is recorded anyway, here or by the caller
---@field request_id string? nil: in a timer, or a task of the server's own
---@field tenant string?
---@field tier perilune.Tier
---@field deadline number? in the seconds of P.monotonic; nil: none

--- The context of what runs: a new table, which doesn't change any more.
---@return perilune.CurrentContext? now nil while the app loads
function M.current()
  local now = C.pl_context()
  if now == nil then
    return nil
  end
  local deadline = C.pl_context_deadline()
  return {
    trace_id = text(C.pl_context_trace_id, now),
    span_id = text_of_span(C.pl_span_id),
    parent_id = text_of_span(C.pl_span_parent_id),
    sampled = band(now.trace_flags, SAMPLED) ~= 0,
    request_id = text(C.pl_context_request_id, now),
    tenant = tenant_of(now),
    tier = TIERS[now.tier],
    deadline = deadline - clock.monotonic() < context.FOREVER and deadline or nil,
  }
end

--- A value of the baggage that came with the request, decoded.
---@param key string case counts
---@return string?
function M.baggage(key)
  if type(key) ~= "string" then
    error("a key of the baggage is a string", 2)
  end
  C.pl_hold() -- for long_text
  local bytes = C.pl_context_value(key, #key, long_text)
  local value = bytes >= 0 and text_of(long_text, bytes) or nil
  C.pl_release()
  return value
end

--- What `write` puts out, if the context has such a thing to pass on.
local function passed_on(now, bit, write)
  if band(now.passes, bit) == 0 then
    return nil
  end
  C.pl_hold()
  local bytes = write(long_text)
  local value = bytes > 0 and text_of(long_text, bytes) or nil
  C.pl_release()
  return value
end

--- The headers of a request that is sent on behalf of what runs: `traceparent`, with the span of
--- this work as parent, `tracestate` and `baggage`.
---@param into? table<string, string> where they are put; a new table without
---@param trusted? boolean the receiver is one of ours: request id, tenant and tier as well
---@return table<string, string> headers
function M.headers(into, trusted)
  local headers, now = into or {}, C.pl_context()
  if now == nil then
    return headers
  end
  local out = text_buffer()
  headers.traceparent = text_of(out, C.pl_context_traceparent(out))
  headers.tracestate = passed_on(now, STATE, C.pl_context_tracestate)
  headers.baggage = passed_on(now, BAGGAGE, C.pl_context_baggage)
  if trusted then
    if ID_FIELD then
      headers[ID_FIELD] = text(C.pl_context_request_id, now)
    end
    if TENANT_FIELD then
      headers[TENANT_FIELD] = tenant_of(now)
    end
    if TIER_FIELD then
      headers[TIER_FIELD] = TIERS[now.tier]
    end
  end
  return headers
end

return M
