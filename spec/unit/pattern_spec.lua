local pattern = require("perilune.pattern")

describe("perilune.pattern", function()
  describe(".parts", function()
    it("tells static segments, parameters with their types, and the rest", function()
      assert.same({
        { text = "a" }, { name = "id", type = "int" }, { name = "name" },
        { name = "path", rest = true },
      }, pattern.parts("/a/:id<int>/:name/*path"))
      assert.same({ { text = "" } }, pattern.parts("/"))
      assert.same({ { text = "a" }, { text = "" } }, pattern.parts("/a/"))
    end)

    for text, why in pairs({
      ["a"] = "begins with", ["/:"] = "is none", ["/:a<float>"] = "no parameter type",
      ["/*a/b"] = "nothing can follow", ["/:a/:a"] = "there twice", ["/a b"] = "needs %%%-encoding",
      ["/*1"] = "is none",
    }) do
      it("refuses " .. text, function()
        local parts, err = pattern.parts(text)
        assert.is_nil(parts)
        assert.matches(why, err)
      end)
    end
  end)

  describe(".covers", function()
    local function covers(prefix, text)
      return pattern.covers(pattern.parts(prefix), pattern.parts(text))
    end

    it("is true for the prefix itself and all below", function()
      assert.is_true(covers("/a", "/a"))
      assert.is_true(covers("/a", "/a/b"))
      assert.is_true(covers("/a", "/a/*rest"))
      assert.is_true(covers("/:org", "/x/y"))
    end)

    it("is false for all beside it", function()
      assert.is_false(covers("/a", "/ab"))
      assert.is_false(covers("/a/b", "/a"))
      assert.is_false(covers("/a/b", "/a/c/b"))
    end)

    it("is nil where the path decides", function()
      assert.is_nil(covers("/a", "/:x"))
      assert.is_nil(covers("/a/b", "/a/:x/c"))
      assert.is_nil(covers("/a/b", "/*rest"))
    end)

    it("is false as soon as one segment tells, whatever came before", function()
      assert.is_false(covers("/a/b", "/:x/c"))
    end)
  end)

  describe(".under", function()
    local function under(prefix, path)
      return pattern.under(pattern.parts(prefix), path)
    end

    it("holds for the prefix itself and all below, and ends at a segment", function()
      assert.is_true(under("/admin", "/admin"))
      assert.is_true(under("/admin", "/admin/"))
      assert.is_true(under("/admin", "/admin/x/y"))
      assert.is_false(under("/admin", "/administrator"))
      assert.is_false(under("/admin", "/"))
      assert.is_false(under("/admin/x", "/admin"))
    end)

    it("takes any segment but an empty one for a parameter", function()
      assert.is_true(under("/:org/settings", "/x/settings/y"))
      assert.is_false(under("/:org/settings", "//settings"))
    end)
  end)

  it("joins a prefix and a pattern; / of a group is the prefix itself", function()
    assert.equal("/api", pattern.join("/api", "/"))
    assert.equal("/api/x", pattern.join("/api", "/x"))
    assert.equal("/", pattern.join("", "/"))
  end)
end)
