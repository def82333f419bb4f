--- The notes: a store in memory, and what makes a note valid. Knows no HTTP.
---
--- Requests run side by side, and one can be interrupted between any two steps:
--- what changes several variables is done in P.atomic.

local P = require("perilune")

local M = {}

local TITLE_BYTES_MAX = 200
local NOTES_MAX = 10000

local by_id = {}
local count, last_id = 0, 0

---@class notes.Note
---@field id integer
---@field title string
---@field text string

---@param input any decoded JSON
---@return table[]? errors { pointer, detail } for each fault; nil when there is none
local function faults(input)
  if type(input) ~= "table" then
    return { { pointer = "", detail = "must be an object" } }
  end
  local errors = {}
  if type(input.title) ~= "string" or input.title == "" then
    errors[#errors + 1] = { pointer = "/title", detail = "must be a text that is not empty" }
  elseif #input.title > TITLE_BYTES_MAX then
    errors[#errors + 1] = { pointer = "/title", detail = "must have at most 200 bytes" }
  end
  if input.text ~= nil and type(input.text) ~= "string" then
    errors[#errors + 1] = { pointer = "/text", detail = "must be a text" }
  end
  return #errors > 0 and errors or nil
end

-- Called in P.atomic.
local function insert(note)
  if count == NOTES_MAX then
    return nil
  end
  last_id, count = last_id + 1, count + 1
  note.id = last_id
  by_id[note.id] = note
  return note
end

-- Called in P.atomic.
local function take_out(id)
  if not by_id[id] then
    return false
  end
  by_id[id] = nil
  count = count - 1
  return true
end

--- All notes in the order they were made; with `text`, those that contain it.
---@param text? string
---@return notes.Note[]
function M.all(text)
  local list = {}
  for id = 1, last_id do
    local note = by_id[id]
    if note and (not text or note.title:find(text, 1, true) or note.text:find(text, 1, true)) then
      list[#list + 1] = note
    end
  end
  return list
end

---@param id integer
---@return notes.Note?
function M.get(id)
  return by_id[id]
end

---@param input any
---@return notes.Note? note
---@return table[]? errors
function M.add(input)
  local errors = faults(input)
  if errors then
    return nil, errors
  end
  local note = P.atomic(insert, { title = input.title, text = input.text or "" })
  if not note then
    return nil, { { pointer = "", detail = "there is no room for another note" } }
  end
  return note
end

---@param id integer
---@param input any
---@return notes.Note? note nil and no errors: there is none of that id
---@return table[]? errors
function M.replace(id, input)
  if not by_id[id] then
    return nil
  end
  local errors = faults(input)
  if errors then
    return nil, errors
  end
  local note = { id = id, title = input.title, text = input.text or "" }
  by_id[id] = note -- one step
  return note
end

---@param id integer
---@return boolean removed
function M.remove(id)
  return P.atomic(take_out, id)
end

return M
