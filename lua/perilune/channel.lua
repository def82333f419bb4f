--- Channels between the coroutines of one worker: `local ch = P.channel(size)`.
---
--- Values go in at one end and come out at the other in the same order, each to one
--- receiver. A channel has room for `size` values; when it is full, senders wait. With
--- size 0 each sender waits for its receiver.
---
--- Who waits is handed what it waits for by whoever wakes it (`turn.done`), so nobody
--- overtakes. A coroutine that was handed a value keeps it, also if it was to be ended at
--- that very moment: its next wait ends it.

local clock = require("perilune.clock")
local ffi = require("perilune.ffi")
local units = require("perilune.units")
local wait = require("perilune.wait")

local C = ffi.C
local error, setmetatable, type = error, setmetatable, type
local remove = table.remove

---@class perilune.channel
local M = {}

local SIZE_MAX = 1048576
local EVENT_RECEIVE, EVENT_SEND = 6, 7 -- PL_EVENT_*

--- A coroutine that waits, in a queue of the channel's.
---@class perilune.channel.Turn
---@field id number of its coroutine
---@field value any to send, or received
---@field done boolean it has been served, or the channel was closed
---@field closed boolean

---@class perilune.Channel
---@field _number integer
---@field _size integer
---@field _values table the ring: _first .. _first + _count - 1
---@field _first integer
---@field _count integer
---@field _receivers perilune.channel.Turn[] oldest first
---@field _senders perilune.channel.Turn[]
---@field _closed boolean
---@field _watch table|false see wait.lua
local Channel = {}
Channel.__index = Channel

local channels = 0 -- that were made

--- Makes a channel.
---@param size? integer values that it has room for; default 0
---@return perilune.Channel
function M.new(size)
  size = size or 0
  if type(size) ~= "number" or size < 0 or size > SIZE_MAX or size % 1 ~= 0 then
    error(("P.channel takes a number of values from 0 to %d"):format(SIZE_MAX), 2)
  end
  channels = channels + 1
  return setmetatable({
    _number = channels, _size = size, _values = {}, _first = 1, _count = 0,
    _receivers = {}, _senders = {}, _closed = false, _watch = false,
  }, Channel)
end

local function serve(turn, value, closed)
  turn.value, turn.closed, turn.done = value, closed, true
  C.pl_wake(turn.id)
end

local function put(self, value)
  self._values[self._first + self._count] = value
  self._count = self._count + 1
end

local function take(self)
  local first = self._first
  local value = self._values[first]
  self._values[first] = nil
  self._first, self._count = first + 1, self._count - 1
  return value
end

local function leave(queue, turn)
  for i = 1, #queue do
    if queue[i] == turn then
      remove(queue, i)
      return
    end
  end
end

--- Waits for its turn, which is in `queue`. Entered held, and left so.
---@return boolean served false: the time is over
local function await(self, queue, turn, reason, seconds)
  local due = seconds and clock.monotonic() + seconds
  while not turn.done do
    local watch, root
    if due then -- the clock will wake it, so somebody can
      C.pl_wait_event(reason, 0, self._number, due - clock.monotonic() + clock.since_tick())
    else
      watch, root = wait.enter(self, reason, self._number)
    end
    C.pl_release()
    local code = wait.suspend()
    C.pl_hold()
    if watch then
      watch[root] = nil
    end
    if turn.done then
      break
    end
    if code ~= 0 then
      leave(queue, turn)
      C.pl_release()
      wait.raise(code)
    end
    if due and clock.monotonic() >= due then
      leave(queue, turn)
      return false
    end
  end
  return true
end

local function check(seconds, level)
  local time = seconds
  if type(seconds) == "string" then
    time = units.seconds(seconds)
  end
  if seconds ~= nil and (type(time) ~= "number" or not (time >= 0)) then
    error("a timeout is a number of seconds or a text such as \"250ms\"", level + 1)
  end
  wait.check(level + 1)
  return time
end

local function receive(self, seconds)
  local value
  if self._count > 0 then
    value = take(self)
    local sender = remove(self._senders, 1)
    if sender then
      put(self, sender.value)
      serve(sender)
    end
    return value
  end
  local sender = remove(self._senders, 1)
  if sender then -- of a channel without room
    value = sender.value
    serve(sender)
    return value
  end
  if self._closed then
    return nil, "closed"
  end
  if seconds == 0 then
    return nil, "timeout"
  end
  local turn = { id = C.pl_coro_id(), done = false }
  self._receivers[#self._receivers + 1] = turn
  if not await(self, self._receivers, turn, EVENT_RECEIVE, seconds) then
    return nil, "timeout"
  end
  if turn.closed then
    return nil, "closed"
  end
  return turn.value
end

--- Takes the oldest value; waits for one if there is none.
---@param timeout? number|string the longest to wait; 0: not at all; default: until the deadline
---@return any value never nil, unless there is an err
---@return string? err "closed": and nothing is left in it; "timeout"
function Channel:recv(timeout)
  local seconds = check(timeout, 2)
  C.pl_hold()
  local value, err = receive(self, seconds)
  C.pl_release()
  return value, err
end

local function send(self, value, seconds)
  if self._closed then
    return nil, "closed"
  end
  local receiver = remove(self._receivers, 1)
  if receiver then
    serve(receiver, value)
    return true
  end
  if self._count < self._size then
    put(self, value)
    return true
  end
  if seconds == 0 then
    return nil, "timeout"
  end
  local turn = { id = C.pl_coro_id(), value = value, done = false }
  self._senders[#self._senders + 1] = turn
  if not await(self, self._senders, turn, EVENT_SEND, seconds) then
    return nil, "timeout"
  end
  if turn.closed then
    return nil, "closed"
  end
  return true
end

--- Gives a value in; waits while the channel is full.
---@param value any not nil
---@param timeout? number|string as in recv
---@return true? sent
---@return string? err "closed", "timeout": it was not sent
function Channel:send(value, timeout)
  if value == nil then
    error("nil cannot be sent", 2)
  end
  local seconds = check(timeout, 2)
  C.pl_hold()
  local sent, err = send(self, value, seconds)
  C.pl_release()
  return sent, err
end

--- Nothing more comes in. What is in it can still be received; those that wait to send, or
--- to receive from the empty channel, get "closed". Closing it again does nothing.
function Channel:close()
  C.pl_hold()
  self._closed = true
  local receivers, senders = self._receivers, self._senders
  self._receivers, self._senders = {}, {}
  for i = 1, #receivers do
    serve(receivers[i], nil, true)
  end
  for i = 1, #senders do
    serve(senders[i], nil, true)
  end
  C.pl_release()
end

--- How many values are in it.
---@return integer
function Channel:count()
  return self._count
end

return M
