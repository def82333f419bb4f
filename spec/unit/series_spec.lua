local series = require("perilune.series")

local TEXT = [[
# HELP notes_total Notes.
# TYPE notes_total counter
notes_total{route="/notes"} 1
notes_total{route="/notes/old"} 10
notes_total{route="/old/notes"} 100
notes_total{sub_route="/notes",route="/other"} 1000
notes_total{kind="}\",route=\"/notes",route="/last"} 10000
notes_total_more{route="/notes"} 5
plain 7
plain_more 9
]]

describe("perilune.series", function()
  describe(".sum", function()
    it("adds all series of a metric, and of no other", function()
      assert.equal(11111, series.sum(TEXT, "notes_total"))
      assert.equal(7, series.sum(TEXT, "plain"))
      assert.is_nil(series.sum(TEXT, "notes"))
    end)

    it("takes labels whole: a route is not another one that contains it", function()
      assert.equal(1, series.sum(TEXT, "notes_total", { route = "/notes" }))
      assert.equal(10, series.sum(TEXT, "notes_total", { route = "/notes/old" }))
      assert.is_nil(series.sum(TEXT, "notes_total", { route = "/note" }))
    end)

    it("takes no label for one whose name ends like it", function()
      assert.equal(1000, series.sum(TEXT, "notes_total", { route = "/other" }))
      assert.is_nil(series.sum(TEXT, "notes_total", { te = "/notes" }))
    end)

    it("reads values with quotes and braces", function()
      assert.equal(10000, series.sum(TEXT, "notes_total", { kind = '}",route="/notes' }))
      assert.equal(10000, series.sum(TEXT, "notes_total", { route = "/last" }))
    end)

    it("wants every label that is asked for", function()
      assert.equal(1000,
        series.sum(TEXT, "notes_total", { route = "/other", sub_route = "/notes" }))
      assert.is_nil(series.sum(TEXT, "notes_total", { route = "/notes", sub_route = "/notes" }))
      assert.is_nil(series.sum(TEXT, "plain", { route = "/notes" }))
    end)
  end)

  describe(".labels", function()
    it("undoes what the format escapes", function()
      assert.same({ a = 'x"\\\ny' }, series.labels([[a="x\"\\\ny"]]))
      assert.same({ a = "1", b = "2" }, series.labels(' a = "1" , b="2", '))
      assert.same({}, series.labels(""))
    end)

    for _, bad in ipairs({ "a", "a=b", 'a="b', 'a="b" c="d"', '="b"', 'a="b\\' }) do
      it("refuses " .. bad, function()
        assert.is_nil(series.labels(bad))
      end)
    end
  end)
end)
