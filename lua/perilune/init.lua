--- Perilune, as apps see it: `local P = require "perilune"`.

local app = require("perilune.app")
local channel = require("perilune.channel")
local core = require("perilune.core")
local json = require("perilune.json")
local span = require("perilune.span")
local task = require("perilune.task")

---@class perilune
---@field app fun(opts?: table): perilune.App
---@field json perilune.json
---@field log perilune.log
---@field metric perilune.metric
---@field shared perilune.shared
---@field config perilune.config
---@field context perilune.current
---@field settings table the app's own settings, `settings` of the configuration
local P = {
  context = require("perilune.current"),
  version = core.version,
  app = app.new,
  json = json,
  log = require("perilune.log"),
  settings = {},

  sleep = task.sleep,
  now = task.now,
  monotonic = task.monotonic,
  atomic = task.atomic,
  spawn = task.spawn,
  detach = task.detach,
  every = task.every,
  all = task.all,
  span = span.span,
  span_set = span.set,
  channel = channel.new,
  mark = require("perilune.mark"),
  keep = require("perilune.keep").keep,
  metric = require("perilune.metric"),
  shared = require("perilune.shared"),
  config = require("perilune.config"),
}

local text = core.settings()
if text and text ~= "" then
  P.settings = assert(json.decode(text))
end

return P
