--- Reads large responses from a wire: pieces are joined once, at the end, as a
--- string that grows by each piece would fill the memory of these specs.

local posix = require("spec.support.posix")

local M = {}

local PATIENCE_S = 20

--- Reads a response that has a Content-Length.
---@param wire spec.Wire
---@return { status: integer, body: string }? response
---@return string? err
function M.response(wire)
  local head, err = wire:receive_until("\r\n\r\n", PATIENCE_S)
  if not head then
    return nil, err
  end
  local left = tonumber(head:lower():match("\r\ncontent%-length: (%d+)\r\n"))
  local parts, due = {}, posix.now() + PATIENCE_S
  while left > 0 do
    local bytes, why
    if #wire.input > 0 then
      bytes = wire:receive_bytes(math.min(left, #wire.input))
    else
      bytes, why = wire:receive(due - posix.now())
    end
    if not bytes then
      return nil, why
    end
    if #bytes > left then -- the beginning of the next response
      wire.input = bytes:sub(left + 1)
      bytes = bytes:sub(1, left)
    end
    parts[#parts + 1] = bytes
    left = left - #bytes
  end
  return { status = tonumber(head:match("^HTTP/1%.1 (%d%d%d) ")), body = table.concat(parts) }
end

return M
