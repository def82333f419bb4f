--- The loop that answers requests, and where their errors end.
---
--- The core makes coroutines of `loop`; each takes requests until there are
--- none, then yields. A handler that waits parks its coroutine, and another one
--- goes on with the queue. The loop itself is interpreted: then every route
--- function gets a root trace of its own, and an app with hundreds of routes
--- does not become a chain of side exits.
---
--- The life of a request here:
---
---   core.next() -> route function -> finish: -> tasks cancelled -> deferred
---        ^              |            JSON, files,  and waited for     calls
---        |              | error      streams            ^               |
---        |              v               | error         |               |
---        |          log, on_error <-----+               |               |
---        |          or problem -------------------------+               |
---        +--------------------------------------------------------------+
---   core.next() ends the request that the coroutine had.

local compile = require("perilune.compile")
local context = require("perilune.context")
local core = require("perilune.core")
local ffi = require("perilune.ffi")
local log = require("perilune.log")
local problem = require("perilune.problem")
local respond = require("perilune.respond")
local wait = require("perilune.wait")

local C = ffi.C
local band = require("bit").band
local next_request = core.next
local finish = respond.finish
local suspend, idle = wait.suspend, wait.idle
local type, xpcall = type, xpcall

---@class perilune.runner
local M = {}

local handlers, routes, late = compile.handlers, context.routes, context.late
local reqs = {} -- slot -> struct pl_req *
local HEAD_SENT, DONE = 32, 128 -- PL_REQ_*

--- What tasks and deferred calls of a request may take after its deadline.
local CLEANUP_SECONDS = 10
local DEFER_SECONDS = 30

--- Called with (site, message, traceback) for each error of a handler, in place of the log;
--- perilune.test sets it.
---@type fun(site: integer, message: string, traceback: string)|nil
M.observe = nil

---@class perilune.Failure
---@field err any what was raised
---@field traceback string
---@field message string? of err, once it is known
local Failure = {}

--- The failure that `M.rethrown` has seen last: its error comes by again soon.
local passing_by ---@type perilune.Failure|nil

--- The handler of xpcall: keeps the traceback while there is one.
---@param err any
---@return perilune.Tag|perilune.Failure
function M.describe(err)
  if problem.is(err) then
    return err
  end
  local known = passing_by
  if known and rawequal(known.err, err) then
    passing_by = nil
    return known
  end
  return setmetatable({ err = err, traceback = debug.traceback("", 2) }, Failure)
end
local describe = M.describe

--- What xpcall gave, as a tag or a failure: out of memory, or an error in the
--- handler of errors, come as bare strings.
---@param err any
---@return perilune.Tag|perilune.Failure
function M.failure(err)
  if problem.is(err) or type(err) == "table" and getmetatable(err) == Failure then
    return err
  end
  return setmetatable({ err = err, traceback = "" }, Failure)
end

--- The error in what xpcall gave, to be raised again; its traceback is kept for whoever
--- describes it next.
---@param err any
---@return any err
function M.rethrown(err)
  local failure = M.failure(err)
  if problem.is(failure) then
    return failure
  end
  passing_by = failure
  return failure.err
end

--- A line for the log from what was raised.
---@param err any
---@return string
function M.message(err)
  if type(err) == "string" then
    return err
  end
  local meta = type(err) == "table" and getmetatable(err)
  if meta and meta.__tostring then
    local ok, text = pcall(tostring, err)
    return ok and text or "an error that cannot be shown"
  end
  if type(err) == "table" then
    local text = err.message or err.msg or err[1]
    return type(text) == "string" and text or "an error that is a table"
  end
  return "an error that is a " .. type(err) .. ": " .. tostring(err)
end

--- What xpcall gave, with its message. Code of the app's may run: it is called by pcall, before
--- the coroutine is settled. Until then an error that ends it may be raised at any line but those
--- of the outermost functions (is_outermost in core/vm/preempt.c): so they do nothing else by then.
---@param err any
---@return perilune.Tag|perilune.Failure
function M.named(err)
  local failure = M.failure(err)
  if not problem.is(failure) then
    failure.message = M.message(failure.err)
  end
  return failure
end

--- The same when that has failed.
---@param err any
---@return perilune.Tag|perilune.Failure
function M.unnamed(err)
  local failure = M.failure(err)
  if not problem.is(failure) then
    failure.message = "an error that cannot be shown"
  end
  return failure
end

--- A traceback without the frames of this machinery.
---@param text string
---@return string
function M.trim(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    if line:find("perilune/runner.lua:", 1, true) or line:find("perilune/task.lua:", 1, true)
      or line:find("perilune/boot.lua:", 1, true) then
      break -- the frames further out are always the same
    end
    if not line:find("^%s*stack traceback:") then
      lines[#lines + 1] = line:match("^%s*(.-)$")
    end
  end
  if lines[#lines] == "[C]: in function 'xpcall'" then
    lines[#lines] = nil
  end
  return table.concat(lines, "\n")
end

--- Writes a failure to the log.
---@param what string
---@param failure perilune.Failure
---@param site integer?
function M.report(what, failure, site)
  local message = failure.message or M.message(failure.err)
  C.pl_span_fail(message, #message)
  local traceback = M.trim(failure.traceback)
  if M.observe and site then
    M.observe(site, message, traceback)
  else
    log.error(("%s: %s"):format(what, message), "traceback", traceback)
  end
end

local function run_deferred(req, defers)
  C.pl_res_flush(req)
  C.pl_req_set_timeout(req, DEFER_SECONDS)
  for i = 1, #defers do
    local call = defers[i]
    local ok, failure = xpcall(call.fn, describe, unpack(call, 1, call.count))
    if not ok and not problem.is(failure) then
      M.report("a deferred call failed", M.failure(failure), req.site)
    end
  end
end

--- Ends what the handler has left: its tasks, then its deferred calls.
---@param req ffi.cdata*
local function clean_up(req)
  C.pl_settle()
  if req.task_count > 0 then
    C.pl_cancel_tasks(req)
    while req.task_count > 0 do
      C.pl_wait_tasks(req)
      if suspend() ~= 0 then
        C.pl_req_set_timeout(req, CLEANUP_SECONDS)
      end
    end
  end
  local record = late[req.slot]
  if record then
    late[req.slot] = nil
    if record.defers and record.serial == req.serial then
      run_deferred(req, record.defers)
      if req.task_count > 0 then
        return clean_up(req)
      end
    end
  end
end

local function serve(state)
  while true do
    local slot, route, serial, code = next_request()
    if slot then
      local req = reqs[slot]
      if not req then
        req = ffi.request(slot)
        reqs[slot] = req
      end
      state.req, state.route, state.serial = req, route, serial
      if code then -- its first runner would not end, and was abandoned
        error(problem.by_code[code], 0)
      end
      local c = handlers[route][req] -- calls it, see compile.handlers
      if c and finish(c) then
        clean_up(req)
      end
    else
      idle()
    end
  end
end
jit.off(serve)

--- Answers with a problem, or breaks off what has been begun.
local function plain(req, status, detail)
  if band(req.flags, DONE) ~= 0 then
    return
  end
  if band(req.flags, HEAD_SENT) ~= 0 then
    C.pl_res_abort(req)
  else
    respond.problem(req, status, detail)
  end
end

--- Answers a request whose handler raised.
local function fail(state, failure)
  local req, route = state.req, routes[state.route]
  if problem.is(failure) then
    if failure.kind == "problem" then
      plain(req, failure.status, failure.detail)
    elseif failure.kind == "deadline" then
      log.warn("a handler passed its deadline",
        "pattern", route.pattern, "at", core.stopped_at())
      plain(req, failure.status, failure.detail)
    elseif failure.kind == "memory" or failure.kind == "lost" then -- the core has told why
      plain(req, failure.status, failure.detail)
    else
      plain(req, 503)
    end
    return
  end
  M.report("a handler failed", failure, req.site)
  if band(req.flags, HEAD_SENT) ~= 0 then
    return plain(req, 500)
  end
  req.status = 0
  respond.remove_of_body(req)
  if not route.on_error then
    return plain(req, 500)
  end
  local c = context.fresh(req, state.serial)
  respond.status(req, 500)
  local body, status, headers = route.on_error(c, failure.err)
  if body ~= nil or status ~= nil then
    respond.keep(c, body, status)
  end
  if headers ~= nil then
    respond.headers(c, headers)
  end
  if c._body == false then
    return plain(req, 500)
  end
  if respond.reply(c) then
    finish(c)
  end
end

local function recover(state, failure)
  local req, named, own = state.req, false, nil
  local ok, second = xpcall(fail, describe, state, failure)
  if not ok then
    named, own = pcall(M.named, second)
  end
  local code = core.over()
  C.pl_settle()
  if not ok then
    own = named and own or M.unnamed(second)
    if code ~= 0 and type(second) ~= "table" then -- ended while an error was being described
      own = problem.by_code[code]
    end
    if not problem.is(own) then
      M.report("on_error failed", own, req.site)
    end
    plain(req, own.status or 500, own.detail)
  end
  clean_up(req)
end

--- The main function of a runner. Never returns.
function M.loop()
  wait.root()
  local state = { req = false, route = 0, serial = 0 }
  while true do
    state.req = false
    local _, err = xpcall(serve, describe, state)
    local named, failure = pcall(M.named, err)
    local code, own = core.over(), nil
    if not named then
      C.pl_settle()
      failure = M.unnamed(err)
    end
    if code ~= 0 and state.req and not problem.is(failure) then
      own, failure = failure, problem.by_code[code]
    end
    if problem.is(failure) then -- no code of the app's will run before the deferred calls
      C.pl_settle()
    end
    -- What it has made of the error that ended it, or one of its own, too late. A bare text is
    -- LuaJIT's: the error came while another one was being described.
    if own and type(err) == "table" then
      M.report("a handler failed", own, state.req.site)
    end
    if not state.req then
      error(M.message(failure.err), 0) -- not of a request: the loop itself is broken
    end
    local ok, last = xpcall(recover, describe, state, failure)
    C.pl_settle()
    if not ok and not problem.is(last) then
      M.report("the end of a request failed", M.failure(last), state.req.site)
    end
  end
end

return M
