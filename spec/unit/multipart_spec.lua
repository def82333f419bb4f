local multipart = require("perilune.multipart")

local TYPE = "multipart/form-data; boundary=XX"

--- A body of these parts, each a head and a content.
local function body(...)
  local out = {}
  for i = 1, select("#", ...) do
    local part = select(i, ...)
    out[i] = "--XX\r\n" .. part[1] .. "\r\n\r\n" .. part[2] .. "\r\n"
  end
  return table.concat(out) .. "--XX--\r\n"
end

local function field(name, content)
  return { 'Content-Disposition: form-data; name="' .. name .. '"', content }
end

describe("perilune.multipart", function()
  describe(".parse", function()
    it("tells fields from files", function()
      local fields, files = multipart.parse(body(
        field("title", "a note"),
        {
          'content-disposition: FORM-DATA; filename="a.png"; name=picture\r\nContent-Type: x/y ',
          "\137PNG\r\n\0",
        }
      ), TYPE)
      assert.same({ title = "a note" }, fields)
      assert.same({
        { name = "picture", filename = "a.png", type = "x/y", body = "\137PNG\r\n\0" },
      }, files)
    end)

    it("takes a quoted boundary, other parameters and any case", function()
      local text = body(field("a", "1"))
      for _, content_type in ipairs({
        'multipart/form-data; boundary="XX"', "Multipart/Form-Data;BOUNDARY=XX",
        "multipart/form-data; charset=utf-8 ; boundary=XX ",
      }) do
        assert.same({ a = "1" }, (multipart.parse(text, content_type)))
      end
    end)

    it("keeps the first value of a repeated field, and all files", function()
      local file = { 'Content-Disposition: form-data; name="f"; filename="x"', "1" }
      local fields, files = multipart.parse(body(field("a", ""), field("a", "2"), file, file), TYPE)
      assert.same({ a = "" }, fields)
      assert.equal(2, #files)
      assert.equal("text/plain", files[2].type)
    end)

    it("drops the empty file of an input where none was chosen, keeps other empty ones", function()
      local _, files = multipart.parse(body(
        { 'Content-Disposition: form-data; name="f"; filename=""', "" },
        { 'Content-Disposition: form-data; name="f"; filename="empty"', "" }
      ), TYPE)
      assert.equal(1, #files)
      assert.equal("empty", files[1].filename)
    end)

    it("leaves line ends and dashes of the content alone", function()
      local content = "\r\n--X\r\n\r\n--\r\n--Y--\r\n"
      assert.equal(content, multipart.parse(body(field("a", content)), TYPE).a)
    end)

    it("reads an empty content that shares its line end with the head (RFC 2046 5.1.1)", function()
      local text = '--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n--XX--'
      assert.same({ a = "" }, (multipart.parse(text, TYPE)))
    end)

    it("reads a body without parts", function()
      assert.same({}, (multipart.parse("--XX--\r\n", TYPE)))
    end)

    it("reads backslashes as browsers write them", function()
      local head = [[Content-Disposition: form-data; name="a\"b\\c"; filename="C:\dir\x"]]
      local _, files = multipart.parse(body({ head, "1" }), TYPE)
      assert.equal([[a"b\c]], files[1].name)
      assert.equal([[C:\dir\x]], files[1].filename)
    end)

    it("takes parts_max parts and refuses one more", function()
      local text = body(field("a", "1"), field("b", "2"))
      assert.is_table(multipart.parse(text, TYPE, { parts_max = 2 }))
      local fields, err, code = multipart.parse(text, TYPE, { parts_max = 1 })
      assert.is_nil(fields)
      assert.equal("more than 1 parts", err)
      assert.equal("too_many_parts", code)
    end)

    it("takes a head of head_bytes_max bytes and refuses a longer one", function()
      local part = field("a", "1")
      assert.is_table(multipart.parse(body(part), TYPE, { head_bytes_max = #part[1] }))
      local _, _, code = multipart.parse(body(part), TYPE, { head_bytes_max = #part[1] - 1 })
      assert.equal("head_too_large", code)
      _, _, code = multipart.parse("--XX\r\n" .. ("x"):rep(9000), TYPE)
      assert.equal("head_too_large", code)
    end)

    it("refuses every beginning of a body", function()
      local file = { 'Content-Disposition: form-data; name="f"; filename="x"', "2" }
      local text = body(field("a", "1"), file)
      for bytes = 0, #text - 4 do
        local fields, err, code = multipart.parse(text:sub(1, bytes), TYPE)
        assert.is_nil(fields)
        assert.is_string(err)
        assert.is_string(code)
      end
    end)

    for name, case in pairs({
      ["no media type"] = { nil, "not_multipart" },
      ["another media type"] = { "multipart/mixed; boundary=XX", "not_multipart" },
      ["a longer media type"] = { "multipart/form-data-x; boundary=XX", "not_multipart" },
      ["no boundary"] = { "multipart/form-data", "bad_boundary" },
      ["an empty boundary"] = { 'multipart/form-data; boundary=""', "bad_boundary" },
      ["two boundaries"] = { "multipart/form-data; boundary=XX; boundary=YY", "bad_boundary" },
      ["a boundary that ends with a space"] = {
        'multipart/form-data; boundary="XX "', "bad_boundary" },
      ["a boundary of 71 bytes"] = {
        "multipart/form-data; boundary=" .. ("x"):rep(71), "bad_boundary" },
      ["a boundary with a control character"] = {
        'multipart/form-data; boundary="X\nX"', "bad_boundary" },
      ["an open quote"] = { 'multipart/form-data; boundary="XX', "bad_boundary" },
      ["garbage behind a parameter"] = { "multipart/form-data; boundary=XX YY", "bad_boundary" },
    }) do
      it("refuses a Content-Type with " .. name, function()
        local fields, err, code = multipart.parse(body(field("a", "1")), case[1])
        assert.is_nil(fields)
        assert.is_string(err)
        assert.equal(case[2], code)
      end)
    end

    local good = 'Content-Disposition: form-data; name="a"'
    for name, text in pairs({
      ["bytes before the first boundary"] = "x\r\n--XX\r\n" .. good .. "\r\n\r\n1\r\n--XX--",
      ["a line end before the first boundary"] = "\r\n--XX\r\n" .. good .. "\r\n\r\n1\r\n--XX--",
      ["bytes behind the last boundary"] = "--XX\r\n" .. good .. "\r\n\r\n1\r\n--XX--\r\nx",
      ["a longer boundary"] = "--XX\r\n" .. good .. "\r\n\r\n1\r\n--XXY\r\n--XX--",
      ["a space behind a boundary"] = "--XX \r\n" .. good .. "\r\n\r\n1\r\n--XX--",
      ["bare line feeds"] = "--XX\n" .. good .. "\n\n1\n--XX--\n",
      ["a last boundary with one dash"] = "--XX\r\n" .. good .. "\r\n\r\n1\r\n--XX-",
      ["no last boundary"] = "--XX\r\n" .. good .. "\r\n\r\n1",
      ["no bytes at all"] = "",
    }) do
      it("refuses a body with " .. name, function()
        local fields, _, code = multipart.parse(text, TYPE)
        assert.is_nil(fields)
        assert.equal("bad_framing", code)
      end)
    end

    for name, head in pairs({
      ["no head"] = "",
      ["no Content-Disposition"] = "Content-Type: text/plain",
      ["two of them"] = good .. "\r\n" .. good,
      ["another disposition"] = 'Content-Disposition: attachment; name="a"',
      ["no name"] = "Content-Disposition: form-data",
      ["two names"] = good .. '; name="b"',
      ["an open quote"] = 'Content-Disposition: form-data; name="a',
      ["filename* (RFC 7578 4.2)"] = good .. "; filename*=UTF-8''a",
      ["a folded line"] = "Content-Disposition: form-data;\r\n name=a",
      ["a space before the colon"] = 'Content-Disposition : form-data; name="a"',
      ["a line without a colon"] = good .. "\r\nx",
      ["a NUL"] = good .. "\r\nX: a\0b",
      ["a bare line feed"] = good .. "\r\nX: a\nb",
      ["a transfer encoding (RFC 7578 4.7)"] = good .. "\r\nContent-Transfer-Encoding: base64",
    }) do
      it("refuses a part with " .. name, function()
        local fields, err, code = multipart.parse(body({ head, "1" }), TYPE)
        assert.is_nil(fields)
        assert.truthy(err:find("^part 1: ") or err:find("^head of part 1"))
        assert.equal("bad_part", code)
      end)
    end

    it("takes a transfer encoding that changes nothing", function()
      local part = { good .. "\r\nContent-Transfer-Encoding: 8BIT", "1" }
      assert.same({ a = "1" }, (multipart.parse(body(part), TYPE)))
    end)
  end)
end)
