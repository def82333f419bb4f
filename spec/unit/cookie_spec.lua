local cookie = require("perilune.cookie")

describe("perilune.cookie", function()
  it("makes a cookie for the whole site, out of reach of scripts and other sites", function()
    assert.equal("a=1; Path=/; SameSite=Lax; HttpOnly", cookie.encode("a", "1"))
  end)

  it("writes every attribute", function()
    assert.equal("a=1; Path=/x; Domain=example.org; Max-Age=60;"
      .. " Expires=Thu, 01 Jan 1970 00:00:10 GMT; SameSite=None; Secure",
      cookie.encode("a", "1", { path = "/x", domain = "example.org", max_age = "1m", expires = 10,
        same_site = "None", secure = true, http_only = false }))
  end)

  it("leaves attributes out on demand", function()
    assert.equal("a=", cookie.encode("a", "", { path = false, same_site = false,
      http_only = false }))
  end)

  for what, case in pairs({
    ["a name with a space"] = { "a b", "1" },
    ["an empty name"] = { "", "1" },
    ["a value with a semicolon"] = { "a", "1;2" },
    ["a value with a line break"] = { "a", "1\r\nb" },
    ["a value with a space"] = { "a", "1 2" },
    ["a value outside ASCII"] = { "a", "\195\164" },
    ["a path with a semicolon"] = { "a", "1", { path = "/;x" } },
    ["an unknown option"] = { "a", "1", { httponly = true } },
    ["SameSite=None without Secure"] = { "a", "1", { same_site = "None" } },
    ["an unknown SameSite"] = { "a", "1", { same_site = "Sometimes" } },
    ["__Secure- without Secure"] = { "__Secure-a", "1" },
    ["__Host- with a domain"] = { "__Host-a", "1", { secure = true, domain = "x.org" } },
    ["a max_age that is none"] = { "a", "1", { max_age = "soon" } },
  }) do
    it("refuses " .. what, function()
      local line, err = cookie.encode(case[1], case[2], case[3])
      assert.is_nil(line)
      assert.is_string(err)
    end)
  end
end)
