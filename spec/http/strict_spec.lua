-- What smuggling lives on is refused: 400 and close, before any handler runs
-- (RFC 9112 2.2, 3.2, 5, 6, 7.1, 11.2).

local process = require("spec.support.process")
local ways = require("spec.support.ways")

describe("a malformed request", function()
  local wire = ways.open(it, "spec/support/app/wire")
  teardown(process.cleanup)

  -- What would be served if anybody took it for a request of its own.
  local SMUGGLED = "GET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

  local function refuses(what, bytes, status, how)
    wire.fact("is refused: " .. what, function(talk)
      local before = talk:hits()
      local r = talk:last(bytes)
      assert.equal(status or 400, r.status)
      assert.equal("close", r.headers.connection)
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.equal(before, talk:hits())
    end, how)
  end

  local function fields(lines, rest)
    return "POST /text HTTP/1.1\r\nHost: x\r\n" .. lines .. "\r\n" .. (rest or "") .. SMUGGLED
  end

  local SOCKET = { socket = true }

  describe("(framing)", function()
    refuses("Content-Length before Transfer-Encoding",
      fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400, SOCKET)
    refuses("Transfer-Encoding before Content-Length",
      fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400, SOCKET)
    refuses("two Content-Length fields that differ",
      fields("Content-Length: 5\r\nContent-Length: 6\r\n", "123456"), 400, SOCKET)
    refuses("two Content-Length fields that agree",
      fields("Content-Length: 5\r\nContent-Length: 5\r\n", "12345"))
    for _, length in ipairs({
      "+5", "-5", "-0", "5,5", "5, 5", "5 5", "0x5", "5.0", "5e0", "five", "", "5;", "\"5\"",
      "9007199254740992", "18446744073709551616", "18446744073709551621",
      "99999999999999999999999999", "00000000000000000005", "\v5", "5\v",
    }) do
      refuses(("Content-Length of %q"):format(length),
        fields("Content-Length: " .. length .. "\r\n", "12345"))
    end
    for _, coding in ipairs({
      "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,",
      ",chunked", "xchunked", "chunkedx", "chunked;q=1", "\"chunked\"", "chunked identity",
      "", "x", "\vchunked", "chunked\v", "cow",
    }) do
      refuses(("Transfer-Encoding of %q"):format(coding),
        fields("Transfer-Encoding: " .. coding .. "\r\n", "0\r\n\r\n"))
    end
    refuses("two Transfer-Encoding fields",
      fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"))
    refuses("a second Transfer-Encoding that hides the first",
      fields("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", "0\r\n\r\n"), 400, SOCKET)
    refuses("Transfer-Encoding behind a space",
      fields(" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"))
    refuses("Transfer-Encoding with a space before its colon",
      fields("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400, SOCKET)
    refuses("Transfer-Encoding with a tab before its colon",
      fields("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"))
    refuses("Transfer-Encoding on a line that is folded",
      fields("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"))
    refuses("Transfer-Encoding hidden behind a bare LF",
      fields("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"))
    refuses("Transfer-Encoding hidden behind a bare CR",
      fields("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"))
    refuses("Transfer-Encoding with NUL behind it",
      fields("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"))
    refuses("Transfer-Encoding in a request of HTTP/1.0",
      "POST /text HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" .. SMUGGLED)
  end)

  describe("(lines)", function()
    refuses("a bare LF behind the request line", "GET /text HTTP/1.1\nHost: x\r\n\r\n")
    refuses("a bare LF behind a field", "GET /text HTTP/1.1\r\nHost: x\n\r\n", 400, SOCKET)
    refuses("bare LFs throughout", "GET /text HTTP/1.1\nHost: x\n\n")
    refuses("a bare LF that ends the head", "GET /text HTTP/1.1\r\nHost: x\r\n\n")
    refuses("a bare CR behind a field", "GET /text HTTP/1.1\r\nHost: x\rX: y\r\n\r\n")
    refuses("a bare CR that ends the head", "GET /text HTTP/1.1\r\nHost: x\r\n\rX: y\r\n\r\n")
    refuses("CR CR LF", "GET /text HTTP/1.1\r\nHost: x\r\r\n\r\n")
    refuses("a folded field", "GET /text HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400, SOCKET)
    refuses("a field folded with a tab", "GET /text HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n")
    refuses("a folded Host", "GET /text HTTP/1.1\r\nHost:\r\n x\r\n\r\n")
    refuses("a space before the first field", "GET /text HTTP/1.1\r\n Host: x\r\n\r\n")
    refuses("a line without a colon", "GET /text HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n")
    refuses("a field without a name", "GET /text HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n")
    refuses("a space before the colon", "GET /text HTTP/1.1\r\nHost : x\r\n\r\n")
    refuses("a space in a field's name", "GET /text HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n")
    for _, byte in ipairs({ 0, 1, 8, 11, 12, 27, 31, 127 }) do
      refuses(("the byte %d in a value"):format(byte),
        "GET /text HTTP/1.1\r\nHost: x\r\nX: a" .. string.char(byte) .. "b\r\n\r\n")
      refuses(("the byte %d in a name"):format(byte),
        "GET /text HTTP/1.1\r\nHost: x\r\nX" .. string.char(byte) .. "Y: b\r\n\r\n")
      refuses(("the byte %d in the target"):format(byte),
        "GET /te" .. string.char(byte) .. "xt HTTP/1.1\r\nHost: x\r\n\r\n")
    end
    for _, char in ipairs({ "(", ")", "<", ">", "@", ",", ";", "\\", "\"", "/", "[", "]", "?", "=",
      "{", "}", "\195" }) do
      refuses(("%q in a name"):format(char),
        "GET /text HTTP/1.1\r\nHost: x\r\nX" .. char .. "Y: b\r\n\r\n")
    end
  end)

  describe("(request line)", function()
    refuses("two spaces before the target", "GET  /text HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("two spaces behind the target", "GET /text  HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("a tab before the target", "GET\t/text HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("a space behind the version", "GET /text HTTP/1.1 \r\nHost: x\r\n\r\n")
    refuses("a space in the target", "GET /te xt HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("no version", "GET /text\r\nHost: x\r\n\r\n")
    refuses("a fragment", "GET /text#part HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("a target without a slash", "GET text HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("an asterisk for GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("another protocol", "GET /text XTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("lower case in the version", "GET /text http/1.1\r\nHost: x\r\n\r\n")
    refuses("a version of one digit", "GET /text HTTP/1\r\nHost: x\r\n\r\n")
    refuses("a target of 8-bit characters", "GET /t\195\164xt HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("an escape of one digit", "GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("an escape that is none", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("an escaped NUL", "GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n", 400, SOCKET)
    refuses("dot segments above the root", "GET /../text HTTP/1.1\r\nHost: x\r\n\r\n", 400, SOCKET)
    refuses("escaped dot segments above the root",
      "GET /%2e%2e/text HTTP/1.1\r\nHost: x\r\n\r\n")
    refuses("a method that is unknown", "BREW /text HTTP/1.1\r\nHost: x\r\n\r\n", 501)
    refuses("a method in lower case", "get /text HTTP/1.1\r\nHost: x\r\n\r\n", 501)
    refuses("HTTP/2.0", "GET /text HTTP/2.0\r\nHost: x\r\n\r\n", 505)
    refuses("HTTP/1.2", "GET /text HTTP/1.2\r\nHost: x\r\n\r\n", 505)
    refuses("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
    refuses("the first bytes of TLS", "\22\3\1\2\0\1\0\1\252\3\3", 400, SOCKET)
  end)

  describe("(Host)", function()
    refuses("no Host", "GET /text HTTP/1.1\r\nX: y\r\n\r\n", 400, SOCKET)
    refuses("two Host fields", "GET /text HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, SOCKET)
    refuses("two equal Host fields", "GET /text HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")
    refuses("no Host beside an absolute target", "GET http://x/text HTTP/1.1\r\n\r\n")
    for _, host in ipairs({ "", "a b", "a/b", "a@b", "x:port", "x:1:2", "x:99999", "[::1",
      "a\tb", "%zz" }) do
      refuses(("Host of %q"):format(host), "GET /text HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n")
    end
  end)

  describe("(chunks)", function()
    local function chunks(bytes)
      return fields("Transfer-Encoding: chunked\r\n", bytes)
    end

    refuses("a size that is no number", chunks("g\r\nhello\r\n0\r\n\r\n"), 400, SOCKET)
    refuses("no size", chunks("\r\nhello\r\n0\r\n\r\n"))
    refuses("a size with a sign", chunks("+5\r\nhello\r\n0\r\n\r\n"))
    refuses("a negative size", chunks("-5\r\nhello\r\n0\r\n\r\n"))
    refuses("a size with 0x", chunks("0x5\r\nhello\r\n0\r\n\r\n"))
    refuses("a space before the size", chunks(" 5\r\nhello\r\n0\r\n\r\n"))
    refuses("a space behind the size", chunks("5 \r\nhello\r\n0\r\n\r\n"))
    refuses("a size past 64 bits", chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"))
    refuses("a size of 17 digits", chunks("00000000000000005\r\nhello\r\n0\r\n\r\n"))
    refuses("a bare LF behind the size", chunks("5\nhello\r\n0\r\n\r\n"), 400, SOCKET)
    refuses("a bare LF behind the data", chunks("5\r\nhello\n0\r\n\r\n"))
    refuses("a bare CR behind the size", chunks("5\rhello\r\n0\r\n\r\n"))
    refuses("more data than the size", chunks("5\r\nhello!\r\n0\r\n\r\n"), 400, SOCKET)
    refuses("less data than the size", chunks("5\r\nhell\r\n0\r\n\r\n"))
    refuses("a bare LF in an extension", chunks("5;a\nb\r\nhello\r\n0\r\n\r\n"))
    refuses("NUL in an extension", chunks("5;a=\0\r\nhello\r\n0\r\n\r\n"))
    refuses("endless extensions", chunks("5;" .. ("a"):rep(300) .. "\r\nhello\r\n0\r\n\r\n"))
    refuses("a trailer without a colon", chunks("0\r\nnonsense\r\n\r\n"))
    refuses("a folded trailer", chunks("0\r\nX: a\r\n b\r\n\r\n"))
    refuses("a bare LF behind a trailer", chunks("0\r\nX: a\n\r\n"))
    refuses("a bare LF that ends the trailers", chunks("0\r\nX: a\r\n\n"))
    refuses("NUL in a trailer", chunks("0\r\nX: a\0b\r\n\r\n"))
    refuses("a space before a trailer's colon", chunks("0\r\nX : a\r\n\r\n"))
  end)
end)
