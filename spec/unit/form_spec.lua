local form = require("perilune.form")

describe("perilune.form", function()
  describe(".parse", function()
    it("decodes plus signs and percent escapes (WHATWG URL 5.1)", function()
      assert.same({ q = "a b&c", ["x y"] = "+" }, form.parse("q=a+b%26c&x%20y=%2B"))
    end)

    it("decodes escapes once", function()
      assert.same({ a = "%41" }, form.parse("a=%2541"))
    end)

    it("takes hex digits of either case, and bytes that are no UTF-8", function()
      assert.same({ a = "\255\0/" }, form.parse("a=%fF%00%2f"))
    end)

    it("keeps the first value of a repeated name, even an empty one", function()
      assert.same({ a = "", b = "1" }, form.parse("a=&b=1&a=2&b=3"))
    end)

    it("reads a name without '=' as an empty value, and a value without a name", function()
      assert.same({ flag = "", a = "1" }, form.parse("flag&a=1"))
      assert.same({ [""] = "1" }, form.parse("=1"))
    end)

    it("splits at the first '='", function()
      assert.same({ a = "b=c=" }, form.parse("a=b=c="))
    end)

    it("passes over empty fields", function()
      assert.same({}, form.parse(""))
      assert.same({ a = "1" }, form.parse("&&a=1&"))
    end)

    it("takes fields_max fields and refuses one more", function()
      assert.is_table(form.parse("a=1&b=2&", { fields_max = 2 }))
      local fields, err, code = form.parse("a=1&b=2&c=3", { fields_max = 2 })
      assert.is_nil(fields)
      assert.equal("more than 2 form fields", err)
      assert.equal("too_many_fields", code)
    end)

    it("takes 256 fields by default", function()
      assert.is_table(form.parse(("a=1&"):rep(256)))
      assert.is_nil((form.parse(("a=1&"):rep(257))))
    end)

    for _, bad in ipairs({
      "a=%", "a=%4", "a=%zz", "a=%4z", "%=1", "a=%%41", "a=%4%41", "a=1&b=%",
    }) do
      it("refuses the broken escape in " .. bad, function()
        local fields, err, code = form.parse(bad)
        assert.is_nil(fields)
        assert.truthy(err:find("form field %d$"))
        assert.equal("bad_escape", code)
      end)
    end
  end)

  describe(".encode", function()
    it("writes fields sorted by name", function()
      assert.equal("a=1&b=true&c=x", form.encode({ c = "x", a = 1, b = true }))
    end)

    it("escapes all but letters, digits and *-._ (WHATWG URL 5.2)", function()
      assert.equal("a+%26=%2B%25%C3%A9%7E*-._09Az", form.encode({ ["a &"] = "+%é~*-._09Az" }))
    end)

    it("writes an array as a repeated field", function()
      assert.equal("a=1&a=2&b=", form.encode({ a = { 1, 2 }, b = "" }))
    end)

    it("raises for what has no text", function()
      assert.has_error(function() form.encode({ a = print }) end,
        'form field "a" cannot be a function')
      assert.has_error(function() form.encode({ 1 }) end,
        "names of form fields are strings, not a number")
    end)

    it("writes what parse reads, whatever the bytes", function()
      local all = {}
      for code = 0, 255 do
        all[code + 1] = string.char(code)
      end
      local fields = { [table.concat(all)] = table.concat(all), b = "" }
      assert.same(fields, form.parse(form.encode(fields)))
    end)
  end)
end)
