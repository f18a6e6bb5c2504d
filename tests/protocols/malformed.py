"""Requests that must be refused: malformed, ambiguous, or smuggled.

Each request is written as its bytes on the wire. The request that follows is ``NEXT``, and is never served.
``also_taken_by`` names the libraries that let it pass where we do not (``LIBRARIES``), so the table also
says how much stricter we are; ``test_strictness.py`` holds it to be true.

``ODD_BUT_WELL_FORMED`` has the unusual requests that are valid and must be accepted.
"""

from __future__ import annotations

from attrs import frozen

LIBRARIES = frozenset({"h11", "httptools"})
_NOBODY: frozenset[str] = frozenset()
_H11 = frozenset({"h11"})
_HTTPTOOLS = frozenset({"httptools"})
_BOTH = LIBRARIES

NEXT = b"POST /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


@frozen
class Malformed:
    """One refused request; the table is read by its ``name``."""

    name: str
    wire: bytes
    also_taken_by: frozenset[str] = _NOBODY
    # RFC 6585 has one of its own for a head that is too large.
    status: int = 400


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """A request with a valid request line and Host."""
    return asked(b"POST /open/1 HTTP/1.1", b"Host: a", *fields, body=body)


def asked(*lines: bytes, body: bytes = b"") -> bytes:
    """A request of these lines."""
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """A valid request with this chunked body."""
    return post(b"Transfer-Encoding: chunked", body=body)


_END = b"0\r\n\r\n"
_TE = b"Transfer-Encoding: "
_CL = b"Content-Length: "

# A reader that knows heads by their ends must not take these bytes for one.
_FIRST = (Malformed("no version, and a control character", b"GET /x\r\n\r\n\0"),)

# RFC 9112, 6.3: where a body ends is said once and in one way, or two readers see two requests.
_LENGTHS = (
    Malformed("length before chunked", post(_CL + b"5", _TE + b"chunked", body=_END), _H11),
    Malformed("length after chunked", post(_TE + b"chunked", _CL + b"5", body=_END), _H11),
    Malformed("length 0 and chunked", post(_CL + b"0", _TE + b"chunked", body=_END), _H11),
    Malformed("two equal lengths", post(_CL + b"1", _CL + b"1", body=b"a"), _H11),
    Malformed("two different lengths", post(_CL + b"1", _CL + b"2", body=b"ab")),
    Malformed("two lengths, one in capitals", post(_CL + b"1", b"CONTENT-LENGTH: 2", body=b"ab")),
    Malformed("a list of equal lengths", post(_CL + b"1, 1", body=b"a"), _H11),
    Malformed("a list of different lengths", post(_CL + b"1, 2", body=b"ab")),
    Malformed("length with a plus", post(_CL + b"+1", body=b"a")),
    Malformed("length with a minus", post(_CL + b"-1", body=b"a")),
    Malformed("length -0", post(_CL + b"-0")),
    Malformed("hexadecimal length", post(_CL + b"0x1", body=b"a")),
    Malformed("length of hexadecimal digits", post(_CL + b"a", body=b"0123456789")),
    Malformed("length with a letter behind", post(_CL + b"1a", body=b"a")),
    Malformed("length with a space inside", post(_CL + b"1 1", body=b"a" * 11)),
    Malformed("length with a point", post(_CL + b"1.0", body=b"a")),
    Malformed("length with an exponent", post(_CL + b"1e1", body=b"a" * 10)),
    Malformed("length with an underscore", post(_CL + b"1_0", body=b"a" * 10)),
    Malformed("length in quotes", post(_CL + b'"1"', body=b"a")),
    Malformed("length with a comma behind", post(_CL + b"1,", body=b"a")),
    Malformed("length with a semicolon", post(_CL + b"1;a", body=b"a")),
    Malformed("empty length", post(_CL)),
    Malformed("length in Arabic digits", post(_CL + "\u0661".encode(), body=b"a")),
    Malformed("length in superscript", post(_CL + b"\xb9", body=b"a")),
    Malformed("length with a vertical tab before", post(_CL + b"\x0b1", body=b"a")),
    Malformed("length with a form feed behind", post(_CL + b"1\x0c", body=b"a")),
    Malformed("length with a null behind", post(_CL + b"1\0", body=b"a")),
    Malformed("length of 16 digits", post(_CL + b"9" * 16), _BOTH),
    Malformed("length of 2^64 + 1", post(_CL + b"18446744073709551617", body=b"a"), _H11),
    Malformed("length of 1,000 digits", post(_CL + b"9" * 1000)),
    Malformed(
        "length of 21 digits, all but one zeros",
        post(_CL + b"0" * 20 + b"1", body=b"a"),
        _HTTPTOOLS,
    ),
)

# RFC 9112, 6.1: the one coding we know is "chunked", and HTTP/1.0 has none.
_CODINGS = (
    Malformed("gzip, then chunked", post(_TE + b"gzip, chunked", body=_END), _HTTPTOOLS),
    Malformed("chunked, then gzip", post(_TE + b"chunked, gzip", body=_END)),
    Malformed("chunked twice in one field", post(_TE + b"chunked, chunked", body=_END)),
    Malformed("chunked in two fields", post(_TE + b"chunked", _TE + b"chunked", body=_END)),
    Malformed("chunked and identity", post(_TE + b"chunked", _TE + b"identity", body=_END)),
    Malformed("identity", post(_TE + b"identity")),
    Malformed("gzip", post(_TE + b"gzip")),
    Malformed("xchunked", post(_TE + b"xchunked", body=_END)),
    Malformed("chunkedx", post(_TE + b"chunkedx", body=_END)),
    Malformed("chunked, and chunked behind a space", post(_TE + b"chunked chunked", body=_END)),
    Malformed("chunked with a parameter", post(_TE + b"chunked;q=1", body=_END)),
    Malformed("chunked with a comma behind", post(_TE + b"chunked,", body=_END)),
    Malformed("chunked with a comma before", post(_TE + b", chunked", body=_END), _HTTPTOOLS),
    Malformed("chunked in quotes", post(_TE + b'"chunked"', body=_END)),
    Malformed("an empty coding", post(_TE)),
    Malformed("a coding with a vertical tab before", post(_TE + b"\x0bchunked", body=_END)),
    Malformed("a coding with a vertical tab behind", post(_TE + b"chunked\x0b", body=_END)),
    Malformed("a coding with a form feed before", post(_TE + b"\x0cchunked", body=_END)),
    Malformed("a coding with a null behind", post(_TE + b"chunked\0", body=_END)),
    Malformed("a coding with a no-break space", post(_TE + b"\xa0chunked", body=_END)),
    Malformed("a coding with a bare CR before", post(b"Transfer-Encoding:\rchunked", body=_END)),
    Malformed("a coding with a bare LF before", post(b"Transfer-Encoding:\nchunked", body=_END)),
    Malformed(
        "a coding on a folded line", post(b"Transfer-Encoding:\r\n chunked", body=_END), _H11
    ),
    Malformed(
        "a coding with a space before its colon", post(b"Transfer-Encoding : chunked", body=_END)
    ),
    Malformed(
        "a coding with a tab before its colon", post(b"Transfer-Encoding\t: chunked", body=_END)
    ),
    Malformed(
        "a coding behind a bare LF", post(b"X: a\nTransfer-Encoding: chunked", body=_END), _H11
    ),
    Malformed("a coding behind a bare CR", post(b"X: a\rTransfer-Encoding: chunked", body=_END)),
    Malformed(
        "chunked on HTTP/1.0", asked(b"POST /open/1 HTTP/1.0", _TE + b"chunked", body=_END), _H11
    ),
    Malformed(
        "chunked on HTTP/1.0 that stays",
        asked(
            *(b"POST /open/1 HTTP/1.0", b"Host: a", b"Connection: keep-alive", _TE + b"chunked"),
            body=_END,
        ),
        _BOTH,
    ),
)

# RFC 9112, 2.2 and 5.2: a line ends in CR LF, and in nothing else; none goes on in the next one.
_LINES = (
    Malformed("bare LF at all lines", post(b"X: a").replace(b"\r\n", b"\n"), _H11),
    Malformed("bare LF after the request line", b"POST / HTTP/1.1\nHost: a\r\n\r\n", _H11),
    Malformed("bare LF after a field", b"POST / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", _H11),
    Malformed("bare LF after the last field", b"POST / HTTP/1.1\r\nHost: a\n\r\n", _H11),
    Malformed("bare LF for the empty line", b"POST / HTTP/1.1\r\nHost: a\r\n\n", _H11),
    Malformed("bare LF in a value", post(b"X: a\nb")),
    Malformed("bare LF in a name", post(b"X\na: b")),
    Malformed("bare LF before the request", b"\n" + post(), _HTTPTOOLS),
    Malformed("bare CR after the request line", b"POST / HTTP/1.1\rHost: a\r\n\r\n"),
    Malformed("bare CR after a field", post(b"X: a\rY: b")),
    Malformed("bare CR for the empty line", b"POST / HTTP/1.1\r\nHost: a\r\n\ra\r\n\r\n"),
    Malformed("bare CR in a value", post(b"X: a\rb")),
    Malformed("bare CR at the end of a value", post(b"X: a\r")),
    Malformed("bare CR in a name", post(b"X\ra: b")),
    Malformed("bare CR before the request", b"\r" + post(), _HTTPTOOLS),
    Malformed("LF CR for CR LF", b"POST / HTTP/1.1\n\rHost: a\n\r\n\r"),
    Malformed("a line folded with a space", post(b"X: a", b" b"), _H11),
    Malformed("a line folded with a tab", post(b"X: a", b"\tb"), _H11),
    Malformed("the first field folded", asked(b"POST / HTTP/1.1", b" X: a", b"Host: a")),
    Malformed("a folded line of white space", post(b"X: a", b" "), _H11),
    Malformed("two empty lines before the request", b"\r\n\r\n" + post(), _HTTPTOOLS),
    Malformed("an empty line and a bare LF before the request", b"\r\n\n" + post(), _HTTPTOOLS),
)

# RFC 9112, 3.2, and RFC 9110, 7.2: one Host, and it is a host.
_HOSTS = (
    Malformed("no Host on 1.1", asked(b"POST / HTTP/1.1", b"X: a"), _HTTPTOOLS),
    Malformed("no field at all on 1.1", asked(b"POST / HTTP/1.1"), _HTTPTOOLS),
    Malformed(
        "no Host beside an absolute target", asked(b"POST http://a/open/1 HTTP/1.1"), _HTTPTOOLS
    ),
    Malformed("two equal Hosts", post(b"Host: a"), _HTTPTOOLS),
    Malformed("two different Hosts", post(b"Host: b"), _HTTPTOOLS),
    Malformed("two Hosts, one in capitals", post(b"HOST: b"), _HTTPTOOLS),
    Malformed("two Hosts on 1.0", asked(b"POST / HTTP/1.0", b"Host: a", b"Host: b")),
    Malformed(
        "two Hosts, the first one empty",
        asked(b"POST / HTTP/1.1", b"Host:", b"Host: a"),
        _HTTPTOOLS,
    ),
    *(
        Malformed(f"Host {host!r}", asked(b"POST / HTTP/1.1", b"Host: " + host), _BOTH)
        for host in (
            *(b"a, b", b"a b", b"a\tb", b"u@a", b"u:p@a", b"a/b", b"http://a", b"a?b", b"a#b"),
            *(b"a\\b", b'"a"', b"<a>", b"a:b", b"a:-1", b"a:+1", b"a:123456", b"a:1:2"),
            *(b"::1", b"[::1", b"[::1]a", b"[a:b:::g]", b"\xe4.example"),
        )
    ),
)

# RFC 9112, 3: method, target and version, each apart from the next by one space.
_REQUEST_LINES = (
    Malformed("HTTP/0.9", b"GET /\r\n"),
    Malformed("HTTP/0.9 with fields", asked(b"GET /", b"Host: a")),
    Malformed("the version 0.9 by name", asked(b"GET / HTTP/0.9", b"Host: a"), _H11),
    Malformed("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(
        Malformed(f"version {version!r}", asked(b"POST / " + version, b"Host: a"), _H11)
        for version in (b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/3.0")
    ),
    *(
        Malformed(f"version {version!r}", asked(b"POST / " + version, b"Host: a"))
        for version in (
            *(
                b"HTTP/1.10",
                b"HTTP/1.1.1",
                b"HTTP/1",
                b"HTTP/1.",
                b"HTTP/.1",
                b"HTTP/01.1",
                b"HTTP/1.01",
                b"HTTP/+1.1",
            ),
            *(b"http/1.1", b"Http/1.1", b"HTTP 1.1", b"HTTP/1,1", b"HTTPS/1.1", b"HTTP/1.1a"),
            *(b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/ 1.1", b"HTTP /1.1", b"ICE/1.0", b"RTSP/1.0"),
            b"HTTP/1.\xb9",
        )
    ),
    Malformed("no space before the version", asked(b"POST /HTTP/1.1", b"Host: a")),
    Malformed("no space before the target", asked(b"POST/ HTTP/1.1", b"Host: a")),
    Malformed("no target", asked(b"POST HTTP/1.1", b"Host: a")),
    Malformed("an empty target", asked(b"POST  HTTP/1.1", b"Host: a")),
    Malformed("no method", asked(b"/ HTTP/1.1", b"Host: a")),
    Malformed("an empty method", asked(b" / HTTP/1.1", b"Host: a")),
    Malformed("a space before the method", asked(b" POST / HTTP/1.1", b"Host: a")),
    Malformed("two spaces before the target", asked(b"POST  / HTTP/1.1", b"Host: a"), _HTTPTOOLS),
    Malformed("two spaces before the version", asked(b"POST /  HTTP/1.1", b"Host: a"), _HTTPTOOLS),
    Malformed("a tab before the target", asked(b"POST\t/ HTTP/1.1", b"Host: a")),
    Malformed("a tab before the version", asked(b"POST /\tHTTP/1.1", b"Host: a")),
    Malformed("tabs for spaces", asked(b"POST\t/\tHTTP/1.1", b"Host: a")),
    Malformed("a vertical tab before the target", asked(b"POST\x0b/ HTTP/1.1", b"Host: a")),
    Malformed("a form feed before the version", asked(b"POST /\x0cHTTP/1.1", b"Host: a")),
    Malformed("a space in the target", asked(b"POST /a b HTTP/1.1", b"Host: a")),
    Malformed("a version in the target", asked(b"POST / HTTP/1.1 HTTP/1.1", b"Host: a")),
    Malformed("a tab in the target", asked(b"POST /a\tb HTTP/1.1", b"Host: a")),
    Malformed("a null in the target", asked(b"POST /\0 HTTP/1.1", b"Host: a")),
    Malformed("a control character in the target", asked(b"POST /\x01 HTTP/1.1", b"Host: a")),
    Malformed("a DEL in the target", asked(b"POST /\x7f HTTP/1.1", b"Host: a")),
    Malformed("a bare CR in the target", asked(b"POST /\ra HTTP/1.1", b"Host: a")),
    Malformed("8 bits in the target", asked("POST /\xe4 HTTP/1.1".encode(), b"Host: a")),
    Malformed("8 bits in the method", asked(b"P\xd6ST / HTTP/1.1", b"Host: a")),
    Malformed("a parenthesis in the method", asked(b"PO(ST / HTTP/1.1", b"Host: a")),
    Malformed("a colon in the method", asked(b"POST: / HTTP/1.1", b"Host: a")),
    Malformed("a null in the method", asked(b"PO\0ST / HTTP/1.1", b"Host: a")),
    Malformed("a null before the method", asked(b"\0POST / HTTP/1.1", b"Host: a")),
    Malformed("an answer", asked(b"HTTP/1.1 200 OK", b"Content-Length: 0")),
    Malformed(
        "a TLS ClientHello",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(32) + b"\r\n\r\n",
    ),
    Malformed("an RTMP handshake", b"\x03" + bytes(1536) + b"\r\n\r\n"),
)

# RFC 9112, 5, and RFC 9110, 5.5 and 5.6.2: a name is a token, its colon follows at once.
_FIELDS = (
    Malformed("a space before the colon", post(b"X : a")),
    Malformed("a tab before the colon", post(b"X\t: a")),
    Malformed("a length with a space before its colon", post(b"Content-Length : 1", body=b"a")),
    Malformed("a Host with a space before its colon", asked(b"POST / HTTP/1.1", b"Host : a")),
    Malformed("a field without a colon", post(b"X")),
    Malformed("a field without a name", post(b": a")),
    Malformed("a colon alone", post(b":")),
    *(
        Malformed(f"the name {name!r}", post(name + b": a"))
        for name in (
            *(b"a b", b"a\tb", b"a(b", b"a)b", b"a,b", b"a/b", b"a;b", b"a<b", b"a=b", b"a>b"),
            *(b"a?b", b"a@b", b"a[b", b"a]b", b"a\\b", b"a{b", b"a}b", b'a"b', b"a\0b"),
            *(b"a\x01b", b"a\x0bb", b"a\x7fb", b"a\xe4b", b"\xffab", b"\xef\xbb\xbfX"),
        )
    ),
    *(
        Malformed(f"the control character {octet:#04x} in a value", post(b"X: a%cb" % octet), _H11)
        for octet in (*range(1, 9), *range(0x0E, 0x20), 0x7F)
    ),
    *(
        Malformed(f"the control character {octet:#04x} in a value", post(b"X: a%cb" % octet))
        for octet in (0x00, 0x0B, 0x0C)
    ),
    Malformed("a null at the end of a value", post(b"X: a\0")),
    Malformed("a null as a value", post(b"X: \0")),
)

# More than the default limits of DESIGN.md allow.
_OVERLONG = (
    Malformed("101 fields", post(*[b"X: a"] * 100), _BOTH, 431),
    Malformed("a value over 32 KiB", post(b"X: " + b"a" * 32 * 1024), _BOTH, 431),
    Malformed("a name over 32 KiB", post(b"X" * 32 * 1024 + b": a"), _BOTH, 431),
    Malformed(
        "a target over 32 KiB",
        asked(b"POST /" + b"a" * 32 * 1024 + b" HTTP/1.1", b"Host: a"),
        _BOTH,
        431,
    ),
    Malformed(
        "a method over 32 KiB", asked(b"P" * 32 * 1024 + b" / HTTP/1.1", b"Host: a"), _H11, 431
    ),
    Malformed(
        "a head without an end",
        b"POST / HTTP/1.1\r\nHost: a\r\n" + b"X: aaa\r\n" * 8 * 1024,
        # Its size is checked before its lines.
        status=431,
    ),
    Malformed("a line without an end", b"POST /" + b"a" * 64 * 1024),
)

# RFC 9112, 7.1: digits, CR LF, as many bytes, CR LF. The head is in order, so it is the body that fails.
_CHUNKS = (
    *(
        Malformed(f"chunk size {size!r}", chunked(size + b"\r\na\r\n" + _END))
        for size in (
            *(b"", b"0x1", b"0X1", b"-1", b"+1", b" 1", b"\t1", b"1 1", b"1_0", b"g"),
            *(b"1h", b"1.0", b"1,1", b'"1"', b"x", b"#1", b"\x0b1", b"1\0", b"1\x0b", b"\xb9"),
        )
    ),
    Malformed("a chunk size with a space behind", chunked(b"1 \r\na\r\n" + _END), _H11),
    Malformed("a chunk size with a tab behind", chunked(b"1\t\r\na\r\n" + _END), _H11),
    Malformed("a chunk size of nine digits", chunked(b"000000001\r\na\r\n" + _END), _BOTH),
    Malformed("a chunk size of 2^32 + 1", chunked(b"100000001\r\na\r\n" + _END), _BOTH),
    Malformed("a chunk size of 2^64 + 1", chunked(b"10000000000000001\r\na\r\n" + _END), _H11),
    Malformed("a chunk size of 2^64 - 1", chunked(b"ffffffffffffffff\r\na\r\n" + _END), _BOTH),
    Malformed("a chunk size of 300 digits", chunked(b"0" * 299 + b"1\r\na\r\n" + _END), _HTTPTOOLS),
    Malformed("an empty line before a chunk", chunked(b"\r\n1\r\na\r\n" + _END)),
    Malformed("bare LF after the chunk size", chunked(b"1\na\r\n" + _END)),
    Malformed("bare CR after the chunk size", chunked(b"1\ra\r\n" + _END)),
    Malformed("nothing after the chunk size but data", chunked(b"1a\r\n" + _END)),
    Malformed("bare LF after the chunk's data", chunked(b"1\r\na\n" + _END)),
    Malformed("bare CR after the chunk's data", chunked(b"1\r\na\r" + _END)),
    Malformed("nothing after the chunk's data", chunked(b"1\r\na" + _END)),
    Malformed("a chunk longer than its size", chunked(b"1\r\nab\r\n" + _END)),
    Malformed("two bytes that are no CR LF after the data", chunked(b"1\r\naXX1\r\na\r\n" + _END)),
    Malformed("bare LF everywhere in the chunks", chunked(b"1\na\n0\n\n")),
    Malformed("bare LF after the last chunk", chunked(b"1\r\na\r\n0\n\r\n")),
    Malformed("bare LF at the end of the chunks", chunked(b"1\r\na\r\n0\r\n\n\r\n\r\n")),
    *(
        Malformed(f"the chunk extension {ext!r}", chunked(b"1" + ext + b"\r\na\r\n" + _END), _H11)
        for ext in (b";\0", b";a\x01", b";a\x7f", b";a\rb", b";a\x0bb")
    ),
    *(
        Malformed(f"the chunk extension {ext!r}", chunked(b"1" + ext + b"\r\na\r\n" + _END))
        for ext in (b";a\nb", b"g;b", b",a")
    ),
    Malformed(
        "a chunk extension over 256 bytes", chunked(b"1;" + b"a" * 300 + b"\r\na\r\n" + _END), _BOTH
    ),
    Malformed("a trailer without a colon", chunked(b"0\r\nX\r\n\r\n")),
    Malformed("a trailer without a name", chunked(b"0\r\n: a\r\n\r\n")),
    Malformed("a trailer with a space before its colon", chunked(b"0\r\nX : a\r\n\r\n")),
    Malformed("a folded trailer", chunked(b"0\r\nX: a\r\n b\r\n\r\n"), _H11),
    Malformed("a trailer with a bare LF", chunked(b"0\r\nX: a\nY: b\r\n\r\n"), _H11),
    Malformed("a trailer with a null", chunked(b"0\r\nX: a\0\r\n\r\n")),
    Malformed("a trailer with 8 bits in its name", chunked(b"0\r\n\xe4: a\r\n\r\n")),
    Malformed(
        "a trailer over 32 KiB", chunked(b"0\r\nX: " + b"a" * 33 * 1024 + b"\r\n\r\n"), _BOTH, 431
    ),
)

MALFORMED = (
    *_FIRST,
    *_LENGTHS,
    *_CODINGS,
    *_LINES,
    *_HOSTS,
    *_REQUEST_LINES,
    *_FIELDS,
    *_OVERLONG,
    *_CHUNKS,
)


@frozen
class WellFormed:
    """A request that must be accepted, and its body."""

    name: str
    wire: bytes
    body: bytes = b""


ODD_BUT_WELL_FORMED = (
    WellFormed("spaces around a length", post(b"Content-Length:  1 ", body=b"a"), b"a"),
    WellFormed("tabs around a length", post(b"Content-Length:\t1\t", body=b"a"), b"a"),
    WellFormed("no space before a length", post(b"Content-Length:1", body=b"a"), b"a"),
    WellFormed("a length with zeros before it", post(_CL + b"0001", body=b"a"), b"a"),
    WellFormed("a length of 0", post(_CL + b"0")),
    WellFormed("no length", post()),
    WellFormed(
        "chunked in capitals", post(b"TRANSFER-ENCODING: CHUNKED", body=b"1\r\na\r\n" + _END), b"a"
    ),
    WellFormed(
        "tabs around chunked",
        post(b"Transfer-Encoding:\tchunked\t", body=b"1\r\na\r\n" + _END),
        b"a",
    ),
    WellFormed("no chunks", chunked(_END)),
    WellFormed("two chunks", chunked(b"1\r\na\r\n2\r\nbc\r\n" + _END), b"abc"),
    WellFormed(
        "a chunk that looks like the last one", chunked(b"5\r\n" + _END + b"\r\n" + _END), _END
    ),
    WellFormed("eight digits of a chunk's size", chunked(b"00000001\r\na\r\n" + _END), b"a"),
    WellFormed("capital digits", chunked(b"A\r\n0123456789\r\n" + _END), b"0123456789"),
    WellFormed("small digits", chunked(b"a\r\n0123456789\r\n" + _END), b"0123456789"),
    WellFormed("a last chunk of several zeros", chunked(b"1\r\na\r\n000\r\n\r\n"), b"a"),
    WellFormed("chunk extensions", chunked(b'1;a=b;c="d e"\r\na\r\n0;last\r\n\r\n'), b"a"),
    WellFormed("white space before a chunk extension", chunked(b"1 \t;a\r\na\r\n" + _END), b"a"),
    WellFormed("8 bits in a chunk extension", chunked(b"1;a=\xe4\r\na\r\n" + _END), b"a"),
    WellFormed("trailers", chunked(b"1\r\na\r\n0\r\nX: a\r\nContent-Length: 9\r\n\r\n"), b"a"),
    WellFormed("an empty line before the request", b"\r\n" + post(_CL + b"1", body=b"a"), b"a"),
    WellFormed("an absolute target", asked(b"POST http://b:80/open/1 HTTP/1.1", b"Host: a")),
    WellFormed("an empty Host", asked(b"POST /open/1 HTTP/1.1", b"Host:")),
    WellFormed("a Host with a port", asked(b"POST /open/1 HTTP/1.1", b"Host: a.example:65535")),
    WellFormed("a Host with a colon and no port", asked(b"POST /open/1 HTTP/1.1", b"Host: a:")),
    WellFormed("an IPv6 Host", asked(b"POST /open/1 HTTP/1.1", b"Host: [2001:db8::1]:80")),
    WellFormed("no Host on 1.0", asked(b"POST /open/1 HTTP/1.0")),
    WellFormed("a Host on 1.0", asked(b"POST /open/1 HTTP/1.0", b"Host: a")),
    WellFormed("8 bits in a value", post(b"X: \xe4\xff")),
    WellFormed("a tab in a value", post(b"X: a\tb")),
    WellFormed("an empty value", post(b"X:")),
    WellFormed("a colon in a value", post(b"X: a:b")),
    WellFormed("a name of odd characters", post(b"!#$%&'*+-.^_`|~09aZ: a")),
    WellFormed("a field twice", post(b"X: a", b"X: a")),
    WellFormed("no known method", asked(b"M-SEARCH * HTTP/1.1", b"Host: a")),
    WellFormed(
        "any printable character in a target", asked(b"POST /{}|\\^`\"<>'%zz HTTP/1.1", b"Host: a")
    ),
)
