local cjson = require("cjson").new()
local ffi = require("ffi")
local json = require("perilune.json")
local P = require("perilune")

cjson.decode_invalid_numbers(false)

local function nest(open, close, depth)
  return open:rep(depth) .. close:rep(depth)
end

-- Each of these, as it is, is one JSON text.
local VALID = {
  "null", "true", "false", "0", "-0", "1", "-1", "10", "123456789", "1.5", "0.5", "1e5", "1E+5",
  "1e-5", "0e0", "0e+1", "-1.25e-2", "20e1", "123.456e78", '""', '"a"', '"\\u0061"', '"\\/"',
  '"\\b\\f\\n\\r\\t\\"\\\\"', '"\127"', '"\\u0000"', '"\\uD834\\uDD1e"', '"\\udbff\\udfff"', '"é"',
  '"€"', '"😀"', '"\\\\u0000"', '"\\\\"', '"\239\187\191"', '"\239\191\191"', "[]", "{}", "[1]",
  "[null]", "[[]]", "[{}]", '{"a":[]}', '{"":0}', '{"a":1,"b":2}', " [] ", "\t[\r\n1 , 2\t]\n",
  ' { "a" : 1 , "b" : [ true ] } ', "[1,null,2]", '{"a":{"b":{"c":[1,{"d":null}]}}}', "[1e-400]",
  '["\\u002c"]', "[4.9e-324]", "[1.7976931348623157e308]",
}

-- Text, then the error: what it says is part of the interface.
local INVALID = {
  { "", "byte 1: unexpected end" },
  { "   ", "byte 4: unexpected end" },
  { "[", "byte 2: unexpected end" },
  { "[1", "byte 3: unexpected end" },
  { "[1,", "byte 4: unexpected end" },
  { "{", "byte 2: unexpected end" },
  { '{"a"', "byte 5: unexpected end" },
  { '{"a":', "byte 6: unexpected end" },
  { '{"a":1', "byte 7: unexpected end" },
  { '{"a":1,', "byte 8: unexpected end" },
  { "[1,]", "byte 4: value expected" },
  { "[,1]", "byte 2: value expected" },
  { "[1,,2]", "byte 4: value expected" },
  { "[1 2]", "byte 4: ',' or ']' expected" },
  { "[1}", "byte 3: ',' or ']' expected" },
  { '{"a":1]', "byte 7: ',' or '}' expected" },
  { '{"a":1 "b":2}', "byte 8: ',' or '}' expected" },
  { '{"a":1,}', "byte 8: name expected" },
  { "{,}", "byte 2: name expected" },
  { "{1:1}", "byte 2: name expected" },
  { "{a:1}", "byte 2: name expected" },
  { "{'a':1}", "byte 2: name expected" },
  { '{"a" 1}', "byte 6: ':' expected" },
  { '{"a",1}', "byte 5: ':' expected" },
  { '{"a"::1}', "byte 6: value expected" },
  { "]", "byte 1: value expected" },
  { "}", "byte 1: value expected" },
  { "[]]", "byte 3: nothing more expected" },
  { "1 1", "byte 3: nothing more expected" },
  { "1\0", "byte 2: nothing more expected" },
  { "[] // no", "byte 4: nothing more expected" },
  { "/* no */ 1", "byte 1: value expected" },
  { "\239\187\1911", "byte 1: value expected" }, -- byte order mark
  { "\0", "byte 1: value expected" },
  { "\f1", "byte 1: value expected" },
  { "nul", "byte 1: value expected" },
  { "nulL", "byte 1: value expected" },
  { "True", "byte 1: value expected" },
  { "truee", "byte 5: nothing more expected" },
  { "undefined", "byte 1: value expected" },
  { "NaN", "byte 1: value expected" },
  { "Infinity", "byte 1: value expected" },
  { "-Infinity", "byte 2: digit expected" },
  { "+1", "byte 1: value expected" },
  { "-", "byte 2: digit expected" },
  { "--1", "byte 2: digit expected" },
  { "- 1", "byte 2: digit expected" },
  { "01", "byte 1: leading zero" },
  { "-01", "byte 2: leading zero" },
  { "[00]", "byte 2: leading zero" },
  { ".5", "byte 1: value expected" },
  { "1.", "byte 3: digit expected" },
  { "1.e1", "byte 3: digit expected" },
  { "1e", "byte 3: digit expected" },
  { "1e+", "byte 4: digit expected" },
  { "1e1.5", "byte 4: nothing more expected" },
  { "0x10", "byte 2: nothing more expected" },
  { "1_000", "byte 2: nothing more expected" },
  { "1e309", "byte 1: number too large" },
  { "[-1e999999999999999999999]", "byte 2: number too large" },
  { '"', "byte 2: unfinished string" },
  { '"abc', "byte 5: unfinished string" },
  { '"\\', "byte 3: unfinished string" },
  { '"\\"', "byte 4: unfinished string" },
  { "'a'", "byte 1: value expected" },
  { '"a\nb"', "byte 3: control character in a string" },
  { '"\0"', "byte 2: control character in a string" },
  { '"\31"', "byte 2: control character in a string" },
  { '"\\x41"', "byte 2: unknown escape" },
  { '"\\\'"', "byte 2: unknown escape" },
  { '"a\\\0"', "byte 4: control character in a string" },
  { '"\\\195\169"', "byte 2: unknown escape" },
  { '"\\u12"', "byte 2: \\u without four hex digits" },
  { '"\\u12g4"', "byte 2: \\u without four hex digits" },
  { '"\\U0041"', "byte 2: unknown escape" },
  { '"\\uD800"', "byte 2: lone surrogate" },
  { '"\\uDC00"', "byte 2: lone surrogate" },
  { '"\\uD800x"', "byte 2: lone surrogate" },
  { '"\\uD800\\n"', "byte 2: lone surrogate" },
  { '"\\uD800\\uD800"', "byte 2: lone surrogate" },
  { '"\\uDC00\\uD800"', "byte 2: lone surrogate" },
  { '"\\uD800\\u12"', "byte 2: lone surrogate" },
  { '"\128"', "byte 2: invalid UTF-8" },
  { '"\255"', "byte 2: invalid UTF-8" },
  { '"\192\175"', "byte 2: invalid UTF-8" }, -- overlong
  { '"\193\191"', "byte 2: invalid UTF-8" },
  { '"\224\159\191"', "byte 2: invalid UTF-8" },
  { '"\240\143\191\191"', "byte 2: invalid UTF-8" },
  { '"\237\160\128"', "byte 2: invalid UTF-8" }, -- surrogate
  { '"\244\144\128\128"', "byte 2: invalid UTF-8" }, -- past U+10FFFF
  { '"\245\128\128\128"', "byte 2: invalid UTF-8" },
  { '"a\195"', "byte 3: invalid UTF-8" },
  { '"\226\130"', "byte 2: invalid UTF-8" },
  { '"\195\169\195"', "byte 4: invalid UTF-8" },
  { '{"\255":1}', "byte 3: invalid UTF-8" },
  { nest("[", "]", 129), "byte 129: nested too deeply" },
  { ('{"a":'):rep(129), "byte 641: nested too deeply" },
}

-- What a double becomes; the texts are those of ECMAScript, but "-0".
local NUMBERS = {
  { 0, "0" }, { -0, "-0" }, { 1, "1" }, { -1, "-1" }, { 100, "100" }, { 0.1, "0.1" },
  { 0.5, "0.5" }, { 1 / 3, "0.3333333333333333" }, { 0.1 + 0.2, "0.30000000000000004" },
  { 2 ^ 31, "2147483648" }, { 2 ^ 53, "9007199254740992" }, { -2 ^ 53, "-9007199254740992" },
  { 2 ^ 53 - 1, "9007199254740991" }, { 1e20, "100000000000000000000" }, { 1e21, "1e+21" },
  { 2 ^ 64, "18446744073709552000" }, { 1e23, "1e+23" }, { 1e-6, "0.000001" }, { 1e-7, "1e-7" },
  { 1.5e-10, "1.5e-10" }, { 4.35, "4.35" }, { 123.456, "123.456" }, { 5e-324, "5e-324" },
  { 2.2250738585072014e-308, "2.2250738585072014e-308" },
  { 1.7976931348623157e308, "1.7976931348623157e+308" },
  { 2 ^ -44, "5.684341886080802e-14" }, { 9007199254740993 * 2, "18014398509481984" },
}

--- Calls without a tail call, so that this line is the caller.
local function encode_here(value)
  local text = json.encode(value)
  return text
end

--- Equal in value, NaN aside; arrays and objects are not the same.
local function equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  elseif getmetatable(a) ~= getmetatable(b) then
    return false
  end
  for key, value in pairs(a) do
    if not equal(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

--- As `equal`, for what lua-cjson made: its arrays have no metatable.
local function equal_to_oracle(a, b)
  if a == json.null then
    return b == cjson.null
  elseif type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not equal_to_oracle(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

local PIECES = {
  "a", "é", "€", "😀", '"', "\\", "/", "\n", "\1", "\127", " ", "plain text of some length",
}

local function random_string()
  local s = {}
  for i = 1, math.random(0, 12) do
    s[i] = PIECES[math.random(#PIECES)]
  end
  return table.concat(s)
end

local double_cell = ffi.typeof("union { uint32_t half[2]; double number; }")

local function random_double()
  local cell = double_cell()
  repeat -- look before the number is made: LuaJIT takes odd NaNs for other types
    cell.half[0], cell.half[1] = math.random(0, 2 ^ 32 - 1), math.random(0, 2 ^ 32 - 1)
  until bit.band(cell.half[1], 0x7ff00000) ~= 0x7ff00000 -- finite
  return cell.number
end

local function random_value(depth)
  local kind = math.random(depth > 0 and 8 or 6)
  if kind == 1 then
    return math.random(-1000, 1000)
  elseif kind == 2 then
    return random_double()
  elseif kind == 3 then
    return math.random() < 0.5
  elseif kind == 4 then
    return json.null
  elseif kind <= 6 then
    return random_string()
  end
  local t = kind == 7 and json.array({}) or {}
  for i = 1, math.random(0, 6) do
    t[kind == 7 and i or random_string()] = random_value(depth - 1)
  end
  return t
end

describe("perilune.json", function()
  local seed = os.time()

  setup(function()
    print("json_spec: seed " .. seed)
    math.randomseed(seed)
  end)

  describe(".decode", function()
    for _, text in ipairs(VALID) do
      it("takes " .. text .. ", and reads what lua-cjson reads", function()
        local value, err = json.decode(text)
        assert.is_nil(err)
        assert.is_true(equal_to_oracle(value, cjson.decode(text)))
      end)
    end

    for _, case in ipairs(INVALID) do
      it(("refuses %.40q"):format(case[1]), function()
        local value, err = json.decode(case[1])
        assert.is_nil(value)
        assert.equal(case[2], err)
      end)
    end

    it("refuses every beginning of a document", function()
      local text = '{"a":[1,{"b":null,"c":true}],"d":"x\\u00e9\\n€","e":-1.5e3}'
      assert.is_table(json.decode(text))
      for bytes = 0, #text - 1 do
        local value, err = json.decode(text:sub(1, bytes))
        assert.is_nil(value)
        assert.is_string(err)
      end
    end)

    it("decodes escapes to UTF-8", function()
      assert.equal('a"\\/\b\f\n\r\té€😀\0b', json.decode(
        '"a\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\uDE00\\u0000b"'))
    end)

    it("decodes escapes in strings of any length", function()
      for bytes = 1, 2100, 7 do
        local text = ("x"):rep(bytes)
        assert.equal(text .. "\n" .. text, json.decode('"' .. text .. "\\n" .. text .. '"'))
      end
    end)

    it("finds what ends a plain run at every place of a string", function()
      for place = 0, 40 do
        local run = ("x"):rep(place)
        assert.equal(run, json.decode('"' .. run .. '"'))
        assert.equal(run .. "é", json.decode('"' .. run .. 'é"'))
        local _, err = json.decode('"' .. run .. '\1"')
        assert.equal("byte " .. place + 2 .. ": control character in a string", err)
      end
    end)

    it("gives null as P.json.null, which is truthy and keeps its place", function()
      local t = json.decode("[null,1,null]")
      assert.equal(3, #t)
      assert.equal(json.null, t[1])
      assert.equal(json.null, json.decode('{"a":null}').a)
      assert.equal(json.null, json.decode("null"))
    end)

    it("lets the last of two equal names count, as ECMAScript does", function()
      assert.same({ a = 3, b = 2 }, json.decode('{"a":1,"b":2,"a":3}'))
      local members = {}
      for i = 1, 500 do
        members[i] = ('"k%d":%d'):format(i % 250, i)
      end
      local t = json.decode("{" .. table.concat(members, ",") .. "}")
      assert.equal(251, t.k1)
      assert.equal(500, t.k0)
    end)

    it("keeps integers exact up to 2^53", function()
      assert.equal(2 ^ 53, json.decode("9007199254740992"))
      assert.equal(-2 ^ 53 + 1, json.decode("-9007199254740991"))
    end)

    it("rounds to the nearest double, ties to even", function()
      assert.equal(2 ^ 53, json.decode("9007199254740993"))
      assert.equal(2 ^ 53, json.decode("9007199254740993.0"))
      assert.equal(2 ^ 53 + 2, json.decode("9007199254740993.00000000000000000000000001"))
      assert.equal(2 ^ 53 + 4, json.decode("9007199254740995"))
      assert.equal(1e23, json.decode("1e23"))
      assert.equal(5e-324, json.decode("3e-324"))
      assert.equal(0, json.decode("2e-324"))
      assert.equal(1.7976931348623157e308, json.decode("1.7976931348623158e308"))
      assert.equal(0.1, json.decode("0.1000000000000000055511151231257827021181583404541015625"))
      assert.equal(-1 / 0, 1 / json.decode("-0"))
    end)

    it("takes a number of 1200 bytes and refuses one more", function()
      assert.equal(1, json.decode("1." .. ("0"):rep(1198)))
      local _, err = json.decode("1." .. ("0"):rep(1199))
      assert.equal("byte 1: number too long", err)
    end)

    it("takes 128 levels", function()
      assert.is_table(json.decode(nest("[", "]", 128)))
      assert.is_table(json.decode(('{"a":'):rep(128) .. "1" .. ("}"):rep(128)))
    end)

    it("refuses more than 64 MiB", function()
      local _, err = json.decode((" "):rep(67108864) .. "1")
      assert.equal("byte 67108865: document too long", err)
    end)

    for _, count in ipairs({ 1, 31, 32, 33, 255, 256, 257, 511, 513, 5000 }) do
      it("reads arrays and objects of " .. count .. ", near the root and far from it", function()
        local elements, members = {}, {}
        for i = 1, count do
          elements[i] = tostring(i)
          members[i] = ('"k%d":%d'):format(i, i)
        end
        for _, depth in ipairs({ 0, 20 }) do
          local text = ("[%s{%s}]"):format("[" .. table.concat(elements, ",") .. "],",
            table.concat(members, ","))
          local value = json.decode(("[7,"):rep(depth) .. text .. (",8]"):rep(depth))
          for _ = 1, depth do
            assert.equal(7, value[1])
            assert.equal(8, value[3])
            value = value[2]
          end
          assert.equal(count, #value[1])
          for i = 1, count do
            assert.equal(i, value[1][i])
            assert.equal(i, value[2]["k" .. i])
          end
        end
      end)
    end

    it("raises when it is given no string", function()
      assert.has_error(function() json.decode(12) end)
      assert.has_error(function() json.decode(nil) end)
    end)
  end)

  describe(".encode", function()
    it("writes scalars", function()
      assert.equal("null", json.encode(json.null))
      assert.equal("true", json.encode(true))
      assert.equal("false", json.encode(false))
      assert.equal('"a"', json.encode("a"))
      assert.equal('""', json.encode(""))
    end)

    for _, case in ipairs(NUMBERS) do
      it("writes " .. case[2] .. " with the fewest digits that read back the same", function()
        assert.equal(case[2], json.encode(case[1]))
        assert.equal("[" .. case[2] .. "]", json.encode({ case[1] }))
        assert.equal(case[1], tonumber(json.encode(case[1])))
      end)
    end

    it("writes 64-bit integers with all their digits", function()
      assert.equal("[9223372036854775807,-9223372036854775808,18446744073709551615]",
        json.encode({ 9223372036854775807LL, -9223372036854775807LL - 1, 18446744073709551615ULL }))
    end)

    it("escapes what has to be, and nothing else", function()
      assert.equal('"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\127é€😀"',
        json.encode('"\\/\b\f\n\r\t\0\31\127é€😀'))
    end)

    it("escapes at every place of a string", function()
      for place = 0, 40 do
        for after = 0, 20 do
          local a, b = ("x"):rep(place), ("y"):rep(after)
          assert.equal('["' .. a .. "\\n" .. b .. '"]', json.encode({ a .. "\n" .. b }))
        end
      end
    end)

    it("writes a table with strings as names as an object", function()
      assert.equal('{"a":1}', json.encode({ a = 1 }))
      assert.equal('{"a\\"":{"":[]}}', json.encode({ ['a"'] = { [""] = json.array({}) } }))
    end)

    it("writes {} for a table without elements, [] for an empty array", function()
      assert.equal("{}", json.encode({}))
      assert.equal("[]", json.encode(json.array({})))
      assert.equal('[{},[],{"a":{}}]', json.encode({ {}, json.array({}), { a = {} } }))
    end)

    for _, text in ipairs({
      "[]", "{}", "[[]]", "[{}]", '{"a":[]}', '{"a":{}}', "[null]", "[1,[2,[]],{}]",
    }) do
      it("gives " .. text .. " back after decoding", function()
        assert.equal(text, json.encode(json.decode(text)))
      end)
    end

    it("goes by the array, not by how it was filled", function()
      local t = {}
      t[3], t[2], t[1] = "c", "b", "a"
      assert.equal('["a","b","c"]', json.encode(t))
      local decoded = json.decode("[1,2,3]")
      decoded[4], decoded[1] = 4, "x"
      assert.equal('["x",2,3,4]', json.encode(decoded))
    end)

    it("does not call metamethods", function()
      local t = setmetatable({ a = 1 }, { __index = error, __len = error, __pairs = error })
      assert.equal('{"a":1}', json.encode(t))
    end)

    for _, case in ipairs({
      { "a function", print, "a function" },
      { "nil", nil, "a nil" },
      { "a thread", coroutine.create(print), "a thread" },
      { "a pointer", ffi.new("int[1]"), "a cdata" },
      { "a function in a table", { user = { items = { 1, 2, print } } },
        "a function at user.items[3]" },
      { "a function behind odd names", { ["a b"] = { { x = print } } },
        'a function at ["a b"][1].x' },
      { "NaN", 0 / 0, "NaN" },
      { "infinity", { 1, 1 / 0 }, "an infinity at [2]" },
      { "invalid UTF-8", { name = "\255" }, "invalid UTF-8 at name" },
      { "invalid UTF-8 in a name", { a = { ["\255"] = 1 } },
        'invalid UTF-8 in the key at a["\255"]' },
      { "a surrogate", { "\237\160\128" }, "invalid UTF-8 at [1]" },
      { "names in an array", { a = { 1, 2, b = 3 } },
        "a table with gaps, or keys of both kinds at a.b" },
      { "a gap", { 1, 2, [5] = 3 }, "a table with gaps, or keys of both kinds at [5]" },
      { "an array from 0", { [0] = 0, 1, 2 }, "a table with gaps, or keys of both kinds at [0]" },
      { "an array from 2", { [2] = 1 }, "a table with gaps, or keys of both kinds at [2]" },
      { "a name among elements that were added one by one", (function()
        local t = { 1 }
        t.x = 1
        t[2], t[3] = 2, 3
        return t
      end)(), "a table with gaps, or keys of both kinds at x" },
      { "a broken index", { 1, [1.5] = 2 }, "a table with gaps, or keys of both kinds at [1.5]" },
      { "a name in a marked array", json.array({ a = 1 }),
        "a table with gaps, or keys of both kinds at a" },
      { "a boolean key", { [true] = 1 }, "a key that is no string at [true]" },
    }) do
      it("refuses " .. case[1], function()
        local done, err = pcall(encode_here, case[2])
        assert.is_false(done)
        assert.equal("cannot encode as JSON: " .. case[3], (err:gsub("^.-json_spec.lua:%d+: ", "")))
      end)
    end

    it("names the line that called it", function()
      local _, err = pcall(encode_here, { { print } })
      assert.truthy(err:find("json_spec.lua:%d+: "))
    end)

    it("refuses a circle", function()
      local t = {}
      t.again = { t }
      local done, err = pcall(json.encode, t)
      assert.is_false(done)
      assert.truthy(err:find(
        "more than 128 tables within each other, or a circle, at again[1].again[1]", 1, true))
    end)

    it("takes 128 levels and refuses one more", function()
      local text = nest("[", "]", 128)
      local value = json.decode(text)
      assert.equal(text, json.encode(value))
      assert.has_error(function() json.encode({ value }) end)
    end)

    it("is whole again after an error in the middle", function()
      local good, bad = { 1, { a = "x" } }, { 1, { a = { print } } }
      for _ = 1, 100 do
        pcall(json.encode, bad)
        assert.equal('[1,{"a":"x"}]', json.encode(good))
      end
    end)

    it("gives right results after an error has ended it at any place", function()
      local big = {}
      for i = 1, 300 do
        big[i] = { i = i, s = "text" }
      end
      local whole = json.encode(big)
      for i = 1, 20 do
        local task = P.detach("encoder", function()
          repeat until json.encode(big) ~= whole
          return "wrong"
        end)
        P.sleep(i / 1500)
        task:cancel()
        assert.same({ nil, "cancelled" }, { task:wait() })
        assert.equal(whole, json.encode(big))
      end
    end)

    it("writes documents that outgrow its buffer many times", function()
      local long = ('x"'):rep(50000)
      local t = { long, long }
      for i = 3, 3000 do
        t[i] = i % 3 == 0 and ("y"):rep(i) or i % 3 == 1 and i / 7 or { i }
      end
      local text = json.encode(t)
      assert.is_true(equal_to_oracle(json.decode(text), cjson.decode(text)))
      assert.equal(text, json.encode(json.decode(text)))
    end)

    it("writes brackets only, at every fill of its buffer", function()
      local t = json.array({})
      for i = 1, 5000 do
        t[i] = i % 2 == 0 and {} or json.array({ {} })
      end
      assert.equal("[" .. ("[{}],{},"):rep(2500):sub(1, -2) .. "]", json.encode(t))
    end)

    it("writes as many bytes as lua-cjson reads, whatever their number", function()
      for bytes = 4000, 4200 do
        local text = json.encode({ ("x"):rep(bytes), true, false, json.null, 1 })
        assert.equal(bytes, #cjson.decode(text)[1])
      end
    end)

    it("refuses to write more than 64 MiB", function()
      local megabyte = ("x"):rep(2 ^ 20)
      local t = {}
      for i = 1, 70 do
        t[i] = megabyte
      end
      local done, err = pcall(json.encode, t)
      assert.is_false(done)
      assert.truthy(err:find("more than 67108864 bytes", 1, true))
    end)
  end)

  describe(".array", function()
    it("gives its table back, and raises for anything else", function()
      local t = {}
      assert.equal(t, json.array(t))
      assert.has_error(function() json.array("x") end)
    end)
  end)

  describe("round trip", function()
    it("gives random values back", function()
      for _ = 1, 3000 do
        local value = random_value(4)
        local text = json.encode(value)
        local again, err = json.decode(text)
        assert.is_nil(err, text)
        assert.is_true(equal(value, again), text)
      end
    end)

    it("agrees with lua-cjson about random values", function()
      for _ = 1, 2000 do
        local text = json.encode(random_value(4))
        assert.is_true(equal_to_oracle(json.decode(text), cjson.decode(text)), text)
      end
    end)

    it("gives random doubles back, and reads 17 digits as the C library does", function()
      for _ = 1, 20000 do
        local number = random_double()
        assert.equal(number, json.decode(json.encode(number)))
        assert.equal(number, json.decode(("%.17g"):format(number)))
        assert.equal(number, json.decode(("%.25e"):format(number)))
      end
    end)

    it("does not accept what lua-cjson refuses when bytes are changed at random", function()
      for _ = 1, 20000 do
        local text = json.encode(random_value(2))
        local place, byte = math.random(#text), string.char(math.random(0, 255))
        local changed = text:sub(1, place - 1) .. byte .. text:sub(place + 1)
        local value, err = json.decode(changed)
        if err == nil then
          local done, theirs = pcall(cjson.decode, changed)
          assert.is_true(done and equal_to_oracle(value, theirs), changed)
        end
      end
    end)
  end)
end)
