-- The reader of metrics that other specs use refuses what it should.

local exposition = require("spec.support.exposition")

local HEAD = "# HELP a_seconds Help.\n# TYPE a_seconds histogram\n"

local function parse(text)
  return exposition.parse(text, true)
end

describe("the reader of OpenMetrics", function()
  it("reads what is right", function()
    local values, families = parse('# HELP x \\"Xs\\".\n# TYPE x counter\n'
      .. 'x_total{b="1\\n",a="\\\\"} 2\n' .. HEAD
      .. 'a_seconds_bucket{le="1.0"} 1 # {trace_id="ab"} 0.5 17.25\n'
      .. 'a_seconds_bucket{le="+Inf"} 2\na_seconds_sum 7\na_seconds_count 2\n# EOF\n')
    assert.equal(2, values['x_total{a="\\\\",b="1\\\n"}'])
    assert.equal(7, values["a_seconds_sum{}"])
    assert.same({ labels = { trace_id = "ab" }, value = 0.5, time = 17.25 },
      families.a_seconds.samples[1].exemplar)
  end)

  for what, text in pairs({
    ["no EOF"] = "# HELP g G\n# TYPE g gauge\ng 1\n",
    ["text behind EOF"] = "# EOF\n# HELP g G\n",
    ["a last line without end"] = "# HELP g G\n# TYPE g gauge\ng 1\n# EOF",
    ["a series twice"] = '# HELP g G\n# TYPE g gauge\ng{a="1",b="2"} 1\ng{b="2",a="1"} 1\n# EOF\n',
    ["a family twice"] = "# HELP g G\n# TYPE g gauge\ng 1\n# HELP h G\n# TYPE h gauge\nh 1\n"
      .. "# HELP g G\n# TYPE g gauge\ng 1\n# EOF\n",
    ["a counter without _total"] = "# HELP x X\n# TYPE x counter\nx 1\n# EOF\n",
    ["a label twice"] = '# HELP g G\n# TYPE g gauge\ng{a="1",a="2"} 1\n# EOF\n',
    ["a bad escape"] = '# HELP g G\n# TYPE g gauge\ng{a="\\t"} 1\n# EOF\n',
    ["a comma at the end"] = '# HELP g G\n# TYPE g gauge\ng{a="1",} 1\n# EOF\n',
    ["no number"] = "# HELP g G\n# TYPE g gauge\ng one\n# EOF\n",
    ["an empty line"] = "# HELP g G\n# TYPE g gauge\n\ng 1\n# EOF\n",
    ["a sample of another family"] = "# HELP g G\n# TYPE g gauge\nh 1\n# EOF\n",
    ["an exemplar at a gauge"] = '# HELP g G\n# TYPE g gauge\ng 1 # {a="b"} 1\n# EOF\n',
    ["an exemplar that is too long"] = HEAD .. 'a_seconds_bucket{le="+Inf"} 1 # {a="'
      .. ("x"):rep(128) .. '"} 1\na_seconds_sum 1\na_seconds_count 1\n# EOF\n',
    ["an exemplar of another bucket"] = HEAD .. 'a_seconds_bucket{le="1.0"} 1 # {a="b"} 2\n'
      .. 'a_seconds_bucket{le="+Inf"} 1\na_seconds_sum 1\na_seconds_count 1\n# EOF\n',
    ["buckets that fall"] = HEAD .. 'a_seconds_bucket{le="1.0"} 2\n'
      .. 'a_seconds_bucket{le="+Inf"} 1\na_seconds_sum 1\na_seconds_count 1\n# EOF\n',
    ["buckets out of order"] = HEAD .. 'a_seconds_bucket{le="2.0"} 1\n'
      .. 'a_seconds_bucket{le="1.0"} 1\na_seconds_bucket{le="+Inf"} 1\n# EOF\n',
    ["a histogram without +Inf"] = HEAD .. 'a_seconds_bucket{le="1.0"} 1\n'
      .. "a_seconds_sum 1\na_seconds_count 1\n# EOF\n",
    ["a count that is another"] = HEAD .. 'a_seconds_bucket{le="+Inf"} 1\n'
      .. "a_seconds_sum 1\na_seconds_count 2\n# EOF\n",
    ["a unit that the name does not end in"] = "# HELP g G\n# TYPE g gauge\n# UNIT g bytes\n"
      .. "g 1\n# EOF\n",
  }) do
    it("refuses " .. what, function()
      assert.has_error(function() parse(text) end)
    end)
  end

  it("has no exemplars in the older format", function()
    assert.has_error(function()
      exposition.parse(HEAD .. 'a_seconds_bucket{le="+Inf"} 1 # {a="b"} 1\n'
        .. "a_seconds_sum 1\na_seconds_count 1\n", false)
    end)
  end)
end)
