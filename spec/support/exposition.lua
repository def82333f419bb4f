--- Reads the texts of metrics, and fails at whatever their formats do not allow:
--- Prometheus text 0.0.4, OpenMetrics 1.0.
---
--- Written after the standards and not after what we write: it knows no metric.

local M = {}

local SUFFIXES = {
  counter = { _total = true },
  gauge = { [""] = true },
  histogram = { _bucket = true, _sum = true, _count = true },
}
local UNESCAPED = { ["\\"] = "\\", ['"'] = '"', n = "\n" }

local function fail(at, what, ...)
  error(("line %d: %s: %s"):format(at.number, what:format(...), at.line), 0)
end

--- Labels from behind a "{": a table, their text in order, and what follows the "}".
local function read_labels(at, rest)
  local labels, names = {}, {}
  while not rest:find("^}") do
    local name, after = rest:match('^([%a_][%w_]*)="(.*)$')
    if not name then
      fail(at, "no label at %q", rest)
    elseif labels[name] then
      fail(at, "label %s is there twice", name)
    end
    local value = {}
    while not after:find('^"') do
      local plain = after:match('^[^"\\]+')
      local escaped = after:match("^\\(.)")
      if plain then
        value[#value + 1], after = plain, after:sub(#plain + 1)
      elseif escaped and UNESCAPED[escaped] then
        value[#value + 1], after = UNESCAPED[escaped], after:sub(3)
      else
        fail(at, "bad value of label %s", name)
      end
    end
    labels[name], names[#names + 1] = table.concat(value), name
    rest = after:sub(2)
    if rest:find("^,%a") or rest:find("^,_") then
      rest = rest:sub(2)
    elseif not rest:find("^}") then
      fail(at, "no , or } behind label %s", name)
    end
  end
  return labels, names, rest:sub(2)
end

local function read_number(at, text)
  if text == "+Inf" or text == "-Inf" then
    return text == "+Inf" and math.huge or -math.huge
  elseif text == "NaN" then
    return 0 / 0
  elseif not text:find("^[-+]?%d") and not text:find("^[-+]?%.%d") or not tonumber(text)
    or text:find("x") then
    fail(at, "%q is no number", text)
  end
  return tonumber(text)
end

local function read_exemplar(at, text)
  local labels, names, rest = read_labels(at, text)
  local length = 0
  for _, name in ipairs(names) do
    length = length + #name + #labels[name]
  end
  local value, time = rest:match("^ (%S+) (%S+)$")
  if not value then
    value = rest:match("^ (%S+)$")
  end
  if length > 128 then
    fail(at, "an exemplar of %d characters", length)
  elseif not value then
    fail(at, "an exemplar without a value")
  end
  return { labels = labels, value = read_number(at, value),
    time = time and read_number(at, time) }
end

--- Name, value, labels and exemplar of a line.
local function read_sample(at, is_open)
  local name, rest = at.line:match("^([%a_:][%w_:]*)(.*)$")
  if not name then
    fail(at, "no name")
  end
  local labels, names = {}, {}
  if rest:find("^{") then
    labels, names, rest = read_labels(at, rest:sub(2))
  end
  local value, after = rest:match("^ (%S+)(.*)$")
  if not value then
    fail(at, "no value")
  end
  local exemplar
  if after ~= "" then
    local text = is_open and after:match("^ # {(.*)$")
    if not text then
      fail(at, "more than a sample")
    end
    exemplar = read_exemplar(at, text)
  end
  return { name = name, labels = labels, names = names, value = read_number(at, value),
    exemplar = exemplar, at = at }
end

--- The series as one text, its labels in the order of their names.
local function key_of(sample)
  local parts = {}
  for i, name in ipairs(sample.names) do
    parts[i] = ("%s=%q"):format(name, sample.labels[name])
  end
  table.sort(parts)
  return sample.name .. "{" .. table.concat(parts, ",") .. "}"
end

local function begin_family(families, at, name)
  if families[name] then
    fail(at, "family %s comes twice", name)
  end
  local family = { name = name, samples = {} }
  families[name] = family
  return family
end

local function read_head(families, family, at, is_open)
  local what, name, rest = at.line:match("^# (%u+) ([%a_:][%w_:]*) ?(.*)$")
  if not what or not ({ HELP = true, TYPE = true, UNIT = is_open })[what] then
    fail(at, "no line of a head")
  end
  if not family or family.name ~= name then
    family = begin_family(families, at, name)
  end
  if family[what] or #family.samples > 0 then
    fail(at, "%s comes twice, or late", what)
  end
  family[what] = rest
  if what == "HELP" and rest:gsub("\\[\\n\"]", ""):find("\\") then
    fail(at, "a bad escape")
  elseif what == "TYPE" and not SUFFIXES[rest] then
    fail(at, "an unknown type")
  elseif what == "UNIT" and name:sub(-#rest - 1) ~= "_" .. rest then
    fail(at, "the name does not end in its unit")
  end
  return family
end

local function add_sample(family, at, is_open, seen)
  local sample = read_sample(at, is_open)
  if not family or not family.TYPE then
    fail(at, "no type before it")
  end
  local suffix = sample.name:sub(1, #family.name) == family.name
    and sample.name:sub(#family.name + 1)
  local allowed = SUFFIXES[family.TYPE]
  if family.TYPE == "counter" and not is_open then
    allowed = SUFFIXES.gauge
  end
  if not suffix or not allowed[suffix] then
    fail(at, "does not belong to the %s %s", family.TYPE, family.name)
  end
  if sample.exemplar and suffix ~= "_bucket" and suffix ~= "_total" then
    fail(at, "an exemplar at a %s", family.TYPE)
  end
  local key = key_of(sample)
  if seen[key] then
    fail(at, "comes twice")
  end
  seen[key] = sample.value
  sample.suffix = suffix
  table.insert(family.samples, sample)
end

--- The buckets of one histogram are in order, count up, and agree with its count.
local function check_histogram(family)
  local last_key, le, count, is_done
  for _, sample in ipairs(family.samples) do
    local own = {}
    for _, name in ipairs(sample.names) do
      if name ~= "le" then
        own[#own + 1] = name .. "=" .. sample.labels[name]
      end
    end
    local key = table.concat(own, "\0")
    if sample.suffix == "_bucket" then
      local bound = read_number(sample.at, sample.labels.le or fail(sample.at, "no le"))
      if key ~= last_key then
        last_key, le, count = key, -math.huge, 0
      end
      if not (bound > le) or sample.value < count then
        fail(sample.at, "buckets are not in order")
      end
      local exemplar = sample.exemplar
      if exemplar and not (exemplar.value > le and exemplar.value <= bound) then
        fail(sample.at, "an exemplar of another bucket")
      end
      le, count, is_done = bound, sample.value, bound == math.huge
    elseif key ~= last_key or not is_done then
      fail(sample.at, "no bucket of +Inf before it")
    elseif sample.suffix == "_count" and sample.value ~= count then
      fail(sample.at, "not what its buckets say: %d", count)
    end
  end
end

--- Reads a text. Returns series -> value, and families by name, each with its samples.
---@param text string
---@param is_open boolean OpenMetrics
---@return table<string, number> values by `name{a="x",b="y"}`, labels sorted by name
---@return table<string, table> families
function M.parse(text, is_open)
  local families, seen, family, number = {}, {}, nil, 0
  assert(text:sub(-1) == "\n", "the last line has no end")
  local is_over = false
  for line in text:gmatch("([^\n]*)\n") do
    number = number + 1
    local at = { number = number, line = line }
    if is_over then
      fail(at, "behind # EOF")
    elseif is_open and line == "# EOF" then
      is_over = true
    elseif line:find("^#") then
      family = read_head(families, family, at, is_open)
    else
      add_sample(family, at, is_open, seen)
    end
  end
  assert(is_over == is_open, "no # EOF at the end")
  for _, one in pairs(families) do
    assert(one.TYPE and one.HELP and #one.samples > 0, one.name .. " is not complete")
    if one.TYPE == "histogram" then
      check_histogram(one)
    end
  end
  return seen, families
end

return M
