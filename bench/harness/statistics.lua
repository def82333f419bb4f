-- bench/harness/statistics.lua - medians of samples that are tables of numbers.

local M = {}

---@param numbers number[] at least one; left as it is
---@return number
function M.median(numbers)
  local sorted = {}
  for i, number in ipairs(numbers) do
    sorted[i] = number
  end
  table.sort(sorted)
  local middle = math.floor((#sorted + 1) / 2)
  if #sorted % 2 == 1 then
    return sorted[middle]
  end
  return (sorted[middle] + sorted[middle + 1]) / 2
end

--- The median of each field by itself; fields that are tables are taken apart in the same way.
---@param samples table[] all of one shape, which the first one shows
---@return table
function M.medians(samples)
  local result = {}
  for field, example in pairs(samples[1]) do
    local values = {}
    for _, sample in ipairs(samples) do
      values[#values + 1] = sample[field]
    end
    if type(example) == "number" then
      result[field] = M.median(values)
    elseif type(example) == "table" then
      result[field] = M.medians(values)
    end
  end
  return result
end

return M
