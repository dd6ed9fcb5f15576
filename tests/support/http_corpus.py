"""Tricks with requests: what is sent, what the front door answers, and what the application may have seen of it.

Every case ends: where the connection would stay, its last request is `LAST`, which asks for the end.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = b"Host: site.test\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
WEBSOCKET = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Seen(NamedTuple):
    """A request as the application gets it."""

    method: str
    target: str
    content: bytes = b""


class Case(NamedTuple):
    """One trick."""

    name: str
    sent: bytes
    answers: tuple[int, ...]
    """Status of each answer, in order. None at all: the connection just ends."""
    seen: tuple[Seen, ...] = ()
    """What the application sees in full. A request that breaks off is not among it."""
    breaks_off: bool = False
    """The client ends its side behind what it sends."""


_LAST = Seen("GET", "/last")


def _refused(name: str, sent: bytes, *statuses: int) -> Case:
    """Answered by 400, or as said, and the end; nothing of it reaches the application."""
    return Case(name, sent, statuses or (400,))


def _head(line: bytes, *fields: bytes, host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def _post(*fields: bytes) -> bytes:
    return _head(b"POST /a HTTP/1.1", *fields)


def _get(*fields: bytes) -> bytes:
    return _head(b"GET /a HTTP/1.1", *fields)


_CHUNKED = b"Transfer-Encoding: chunked"
_ENDS = b"0\r\n\r\n"

_LENGTHS = [
    _refused("CL.TE", _post(b"Content-Length: 6", _CHUNKED) + _ENDS + b"G" + SMUGGLED),
    _refused("CL.TE, the length short", _post(b"Content-Length: 4", _CHUNKED) + b"5c\r\n" + SMUGGLED + _ENDS),
    _refused("TE.CL", _post(_CHUNKED, b"Content-Length: 4") + b"5c\r\n" + SMUGGLED + _ENDS),
    _refused("TE.CL, both agree", _post(_CHUNKED, b"Content-Length: 5") + _ENDS),
    _refused("TE.0", _head(b"OPTIONS /a HTTP/1.1", b"Content-Length: 0", _CHUNKED) + b"5c\r\n" + SMUGGLED + _ENDS),
    *(
        _refused(f"TE.TE {field!r}", _post(field) + b"0\r\n\r\n" + SMUGGLED)
        for field in (
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding\t: chunked",
            b" Transfer-Encoding: chunked",
            b"X: x\r\n\tTransfer-Encoding: chunked",
            b"X: x\rTransfer-Encoding: chunked",
            b"X: x\nTransfer-Encoding: chunked",
            b"X: x\x00\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
            b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked,",
            b"Transfer-Encoding: ,chunked",
            b"Transfer-Encoding: 'chunked'",
            b'Transfer-Encoding: "chunked"',
            b"Transfer-Encoding: chunked;x=y",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding: chunked\x0c",
            b"Transfer-Encoding: chunked\xa0",
            b"Transfer-Encoding:\r\n chunked",
            b"Transfer-Encoding:",
            b"Transfer-Encoding: identity",
            b"Transfer\xadEncoding: chunked",
            b"Transfer-Encoding\x00: chunked",
        )
    ),
    *(
        _refused(f"length {value!r}", _post(b"Content-Length: " + value) + b"hello" + SMUGGLED)
        for value in (
            b"",
            b"+5",
            b"-5",
            b"-0",
            b"5, 5",
            b"5,5",
            b"5 5",
            b"5;",
            b"5.0",
            b"0x5",
            b"5_0",
            b"1e1",
            b"\x0b5",
            b"5\x00",
            b"five",
            b"\xd9\xa5",
            b"18446744073709551616",
            b"18446744073709551621",
            b"9" * 400,
        )
    ),
    _refused("two lengths", _post(b"Content-Length: 5", b"Content-Length: 0") + b"hello" + SMUGGLED),
    _refused("two lengths that agree", _post(b"Content-Length: 5", b"content-length: 5") + b"hello"),
    _refused("a length with a space before the colon", _post(b"Content-Length : 5") + b"hello"),
    _refused("a folded length", _post(b"Content-Length:\r\n 5") + b"hello"),
    Case(
        "a length with zeros before it",
        _post(b"Content-Length: 005") + b"hello" + LAST,
        (200, 200),
        (Seen("POST", "/a", b"hello"), _LAST),
    ),
    Case(
        "a length with whitespace around it",
        _post(b"Content-Length: \t 5 \t") + b"hello" + LAST,
        (200, 200),
        (Seen("POST", "/a", b"hello"), _LAST),
    ),
    Case(
        "chunked in capitals",
        _post(b"TRANSFER-ENCODING: CHUNKED") + b"5\r\nhello\r\n" + _ENDS + LAST,
        (200, 200),
        (Seen("POST", "/a", b"hello"), _LAST),
    ),
    Case(
        "names that only look like lengths",
        _post(b"Content_Length: 5", b"Transfer_Encoding: chunked", b"X-Content-Length: 5") + LAST,
        (200, 200),
        (Seen("POST", "/a"), _LAST),
    ),
    Case(
        "a length on GET",
        _get(b"Content-Length: 5") + b"hello" + LAST,
        (200, 200),
        (Seen("GET", "/a", b"hello"), _LAST),
    ),
    Case(
        "a request within the content of another",
        _post(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED + LAST,
        (200, 200),
        (Seen("POST", "/a", SMUGGLED), _LAST),
    ),
]

_CHUNKS = [
    *(
        Case(f"chunk {chunk!r}", _post(_CHUNKED) + chunk + SMUGGLED, (400,))
        for chunk in (
            b"-5\r\nhello\r\n" + _ENDS,
            b"+5\r\nhello\r\n" + _ENDS,
            b"0x5\r\nhello\r\n" + _ENDS,
            b" 5\r\nhello\r\n" + _ENDS,
            b"5 \r\nhello\r\n" + _ENDS,
            b"5\nhello\r\n" + _ENDS,
            b"5\rhello\r\n" + _ENDS,
            b"5\r\nhello\n" + _ENDS,
            b"5\r\nhelloXX" + _ENDS,
            b"5\r\nhello, world\r\n" + _ENDS,
            b"5;\nhello\r\n" + _ENDS,
            b"5;a=b\rc\r\nhello\r\n" + _ENDS,
            b"5;a\x00\r\nhello\r\n" + _ENDS,
            b"5\x00\r\nhello\r\n" + _ENDS,
            b"\r\n",
            b"g\r\n",
            b"100000000\r\nhello",
            b"FFFFFFFFFFFFFFFF\r\nhello",
            b"10000000000000005\r\nhello\r\n" + _ENDS,
            b"0" * 64 + b"5\r\nhello\r\n" + _ENDS,
            b"5;" + b"x" * 20_000 + b"\r\nhello\r\n" + _ENDS,
            b"0\n\n",
            b"0\r\n\n",
            b"0\r\nX: x\n\r\n",
            b"0\r\n X: x\r\n\r\n",
            b"0\r\nX: x\x00\r\n\r\n",
            b"0\r\nno colon\r\n\r\n",
        )
    ),
    Case(
        "chunks with extensions and trailers",
        _post(_CHUNKED) + b'2;a="b";c\r\nhe\r\n03\r\nllo\r\n0\r\nContent-Length: 50\r\nX: x\r\n\r\n' + LAST,
        (200, 200),
        (Seen("POST", "/a", b"hello"), _LAST),
    ),
    Case(
        "chunks that hold chunks",
        _post(_CHUNKED) + b"5\r\n0\r\n\r\n\r\n" + _ENDS + LAST,
        (200, 200),
        (Seen("POST", "/a", b"0\r\n\r\n"), _LAST),
    ),
]

_LINES = [
    _refused("bare LF everywhere", b"GET /a HTTP/1.1\nHost: site.test\n\n"),
    _refused("bare LF behind the request line", b"GET /a HTTP/1.1\n" + HOST + b"\r\n"),
    _refused("bare LF at the end", b"GET /a HTTP/1.1\r\nHost: site.test\r\n\n"),
    _refused("bare CR in a value", _get(b"X: a\rGET /smuggled HTTP/1.1")),
    _refused("bare CR before the line's end", _get(b"X: a\r")),
    _refused("a folded line", _get(b"X: a\r\n b")),
    _refused("a folded line by tab", _get(b"X: a\r\n\tb")),
    _refused("a folded first line", b"GET /a HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n"),
    _refused("a space before the colon", _get(b"X : a")),
    _refused("NUL in a value", _get(b"X: a\x00b")),
    _refused("NUL in a name", _get(b"X\x00: a")),
    _refused("a control character in a value", _get(b"X: a\x08b")),
    _refused("DEL in a value", _get(b"X: a\x7fb")),
    _refused("an empty name", _get(b": a")),
    _refused("a name that is no token", _get(b"X(a): a")),
    _refused("a name that is no ASCII", _get("X\u00e9: a".encode())),
    _refused("a line without a colon", _get(b"X")),
    _refused("two empty lines first", b"\r\n\r\n" + LAST),
    _refused("an LF first", b"\n" + LAST),
    _refused("whitespace first", b" " + LAST),
    Case("an empty line first", b"\r\n" + LAST, (200,), (_LAST,)),
    Case("a value that is no ASCII", _get("X: \u00e9".encode()) + LAST, (200, 200), (Seen("GET", "/a"), _LAST)),
    _refused("a head that is too large", _get(b"X: " + b"x" * 17_000), 431),
    _refused("a head that does not end", b"GET /a HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 200_000, 431),
    _refused("too many fields", _get(*(b"X-%d: x" % number for number in range(200))), 431),
    _refused("a target that does not end", b"GET /" + b"x" * 200_000, 431),
    Case("a head that breaks off", b"GET /a HTTP/1.1\r\nHost: si", (), breaks_off=True),
]

_TARGETS = [
    _refused("no host", _head(b"GET /a HTTP/1.1", host=b"") + LAST, 400, 200)._replace(seen=(_LAST,)),
    *(
        _refused(f"host {host!r}", _head(b"GET /a HTTP/1.1", host=host) + LAST, 400, 200)._replace(seen=(_LAST,))
        for host in (
            b"Host:\r\n",
            HOST + HOST,
            HOST + b"Host: other.test\r\n",
            b"Host: site.test, other.test\r\n",
            b"Host: user@site.test\r\n",
            b"Host: site.test/\r\n",
            b"Host: site.test:\r\n",
            b"Host: http://site.test\r\n",
            b"Host: site.test other.test\r\n",
            b"Host: site.test\xff\r\n",
        )
    ),
    _refused("a whole URI of another host", _head(b"GET http://other.test/a HTTP/1.1") + LAST, 400, 200)._replace(
        seen=(_LAST,)
    ),
    _refused("a whole URI with a user", _head(b"GET http://user@site.test/a HTTP/1.1") + LAST, 400, 200)._replace(
        seen=(_LAST,)
    ),
    _refused("a whole URI of another scheme", _head(b"GET ftp://site.test/a HTTP/1.1") + LAST, 400, 200)._replace(
        seen=(_LAST,)
    ),
    Case(
        "a whole URI of the same host",
        _head(b"GET http://SITE.test/a?b HTTP/1.1") + LAST,
        (200, 200),
        (Seen("GET", "/a?b"), _LAST),
    ),
    _refused("an authority", _head(b"GET site.test:80 HTTP/1.1") + LAST, 400, 200)._replace(seen=(_LAST,)),
    _refused("an asterisk", _head(b"GET * HTTP/1.1") + LAST, 400, 200)._replace(seen=(_LAST,)),
    Case("an asterisk of OPTIONS", _head(b"OPTIONS * HTTP/1.1") + LAST, (200, 200), (Seen("OPTIONS", "*"), _LAST)),
    _refused("a path without a slash", _head(b"GET a/b HTTP/1.1")),
    _refused("a fragment", _head(b"GET /a#/smuggled HTTP/1.1")),
    _refused("a tab in the target", _head(b"GET /a\tb HTTP/1.1")),
    _refused("a space in the target", _head(b"GET /a b HTTP/1.1")),
    _refused("NUL in the target", _head(b"GET /a\x00b HTTP/1.1")),
    _refused("no ASCII in the target", _head("GET /\u00e9 HTTP/1.1".encode())),
    _refused("two spaces", _head(b"GET  /a HTTP/1.1")),
    _refused("a space behind the version", _head(b"GET /a HTTP/1.1 ")),
]

_METHODS_AND_VERSIONS = [
    *(
        _refused(f"method {method.decode()}", _head(method + b" /a HTTP/1.1") + LAST, 501, 200)._replace(seen=(_LAST,))
        for method in (b"get", b"TRACE", b"PROPFIND", b"GETX", b"G-T")
    ),
    _refused("a tunnel", _head(b"CONNECT site.test:80 HTTP/1.1") + LAST, 501, 200)._replace(seen=(_LAST,)),
    _refused("a method that is no token", _head(b"G(T /a HTTP/1.1")),
    _refused("HTTP/0.9", b"GET /a\r\n\r\n"),
    _refused("HTTP/1.2", _head(b"GET /a HTTP/1.2")),
    _refused("HTTP/2.0", _head(b"GET /a HTTP/2.0")),
    _refused("http/1.1", _head(b"GET /a http/1.1")),
    _refused("HTTP/1.10", _head(b"GET /a HTTP/1.10")),
    _refused("ICAP", _head(b"GET /a ICAP/1.0")),
    _refused("HTTP/1.0 with chunks", _head(b"POST /a HTTP/1.0", _CHUNKED) + _ENDS + SMUGGLED),
    Case("HTTP/1.0 ends behind its answer", _head(b"GET /a HTTP/1.0") + SMUGGLED, (200,), (Seen("GET", "/a"),)),
    Case("close ends behind its answer", LAST + SMUGGLED, (200,), (_LAST,)),
    Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", ()),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, (400,)),
]

_EXPECTATIONS = [
    Case(
        "Expect",
        _post(b"Content-Length: 5", b"Expect: 100-continue") + b"hello" + LAST,
        (200, 200),
        (Seen("POST", "/a", b"hello"), _LAST),
    ),
    Case(
        "an expectation that nobody has",
        _post(b"Content-Length: 5", b"Expect: y 100-continue") + b"hello" + LAST,
        (200, 200),
        (Seen("POST", "/a", b"hello"), _LAST),
    ),
    Case(
        "Expect without content",
        _get(b"Expect: 100-continue") + LAST,
        (200, 200),
        (Seen("GET", "/a"), _LAST),
    ),
]

_UPGRADES = [
    Case(
        "an upgrade that is refused, and a request behind it",
        _head(b"GET /ws HTTP/1.1", b"Upgrade: websocket") + SMUGGLED,
        (400,),
    ),
    Case(
        "an upgrade with content",
        _head(b"POST /ws HTTP/1.1", WEBSOCKET.rstrip(), b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED + LAST,
        (400, 200),
        (_LAST,),
    ),
    Case(
        "an upgrade by GET with content",
        _head(b"GET /ws HTTP/1.1", WEBSOCKET.rstrip(), b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED + LAST,
        (400, 200),
        (_LAST,),
    ),
    Case(
        "an upgrade with chunks",
        _head(b"GET /ws HTTP/1.1", WEBSOCKET.rstrip(), _CHUNKED) + _ENDS + LAST,
        (400, 200),
        (_LAST,),
    ),
    Case(
        "an upgrade to another protocol, and a request behind it",
        _get(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
        + SMUGGLED,
        (200,),
        (Seen("GET", "/a"),),
    ),
    Case(
        "an upgrade of HTTP/1.0",
        _head(b"GET /ws HTTP/1.0", WEBSOCKET.rstrip()) + SMUGGLED,
        (426,),
    ),
    Case("an upgrade that is none", _head(b"GET /ws HTTP/1.1") + LAST, (426, 200), (_LAST,)),
    Case(
        "an upgrade, and a request behind it",
        # Closed with 1008 for its missing token; what follows is no WebSocket frame, and no request either.
        _head(b"GET /ws HTTP/1.1", WEBSOCKET.rstrip()) + SMUGGLED,
        (101,),
    ),
]

_PIPELINES = [
    Case(
        "requests one behind the other",
        _get() + _post(b"Content-Length: 2") + b"hi" + _post(_CHUNKED) + b"2\r\nho\r\n" + _ENDS + LAST,
        (200, 200, 200, 200),
        (Seen("GET", "/a"), Seen("POST", "/a", b"hi"), Seen("POST", "/a", b"ho"), _LAST),
    ),
    Case(
        "a malformed one behind a good one",
        _get() + b"GET /smuggled HTTP/1.1\n" + HOST + b"\r\n",
        (200, 400),
        (Seen("GET", "/a"),),
    ),
    Case(
        "content that is longer than it says",
        _post(b"Content-Length: 2") + b"hi, \r\n\r\n" + SMUGGLED,
        (200, 400),
        (Seen("POST", "/a", b"hi"),),
    ),
    Case("content that breaks off", _post(b"Content-Length: 10") + b"hello", (400,), breaks_off=True),
    Case("chunks that break off", _post(_CHUNKED) + b"5\r\nhello\r\n0\r\n", (400,), breaks_off=True),
    Case(
        "HEAD and what has no content",
        _head(b"HEAD /a HTTP/1.1") + LAST,
        (200, 200),
        (Seen("HEAD", "/a"), _LAST),
    ),
]

CORPUS = [
    *_LENGTHS,
    *_CHUNKS,
    *_LINES,
    *_TARGETS,
    *_METHODS_AND_VERSIONS,
    *_EXPECTATIONS,
    *_UPGRADES,
    *_PIPELINES,
]
