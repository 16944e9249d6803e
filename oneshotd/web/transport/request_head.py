"""The head of an HTTP request: parses its first line, and names the fault of a header line.

twisted.web answers a malformed head with an empty 400. Here each fault has a status (RFC 9110,
RFC 9112, RFC 6585) and one line of text. No sockets, no clock.
"""

from __future__ import annotations

import re

from oneshotd.errors import Refused

#: Bytes of one line, and of the request line and all headers together. Twisted has the same, Apache
#: and nginx 8 KB a line.
MAX_HEAD = 16384

#: Headers of one request; Twisted's number.
MAX_HEADERS = 500

#: Bytes of a client's text that an answer or a log line quotes.
_SHOWN = 80

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

#: First bytes of a TLS client: a handshake record (RFC 8446 section 5.1).
TLS_RECORD = b"\x16\x03"

IS_TLS = Refused("expected HTTP, got TLS, which this port does not support", reason="syntax")
LINE_TOO_LONG = Refused(
    f"request line: expected at most {MAX_HEAD} bytes; send the event in the body", reason="limit", status=414
)
HEAD_TOO_LONG = Refused(
    f"headers: expected at most {MAX_HEAD} bytes with the request line", reason="limit", status=431
)
ENDED_EARLY = Refused("request: incomplete, the client closed the connection", reason="syntax")
BROKEN_CHUNK = Refused("body: expected chunks as in RFC 9112 section 7.1", reason="syntax")


def parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return method, target and version of a request line without its line end.

    Bytes beyond ASCII in the target are percent-encoded: clients that rely on Go's server, which accepts
    them, send an event's labels as raw UTF-8.

    :raises Refused: it is not a request line of HTTP/1.1 or HTTP/1.0.
    """
    method, _, rest = line.partition(b" ")
    target, blank, version = rest.rpartition(b" ")
    if line.startswith(b"PROXY ") or line == b"\0":
        text = "expected HTTP, got the PROXY protocol; listen with --http haproxy:tcp:PORT for it"
        raise Refused(text, reason="syntax")
    if not blank or not _TOKEN.fullmatch(method) or not version.startswith(b"HTTP/"):
        text = f"request line: expected METHOD TARGET HTTP/1.1, got {_shown(line)}"
        raise Refused(text, reason="syntax")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        text = f"request line: expected HTTP/1.1 or HTTP/1.0, got {_shown(version)}"
        raise Refused(text, reason="syntax", status=505)
    if b" " in target:
        raise Refused("request line: expected no blank in the target; write %20 or +", reason="syntax")
    if _CONTROL.search(target):
        text = "request line: expected no control characters in the target; write %0A for a line end"
        raise Refused(text, reason="syntax")
    if not target:
        raise Refused("request line: expected a target, got none", reason="syntax")
    return method, _BEYOND_ASCII.sub(_escaped, target), version


def header_fault(line: bytes) -> Refused:
    """Return why twisted.web refuses this header line, its continuation lines joined."""
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    text, status = f"headers: expected at most {MAX_HEADERS}", 431
    if not colon:
        text, status = f"header: expected NAME: VALUE, got {_shown(line)}", 400
    elif not _TOKEN.fullmatch(name):
        text, status = f"header: expected a name of letters, digits and -, got {_shown(name)}", 400
    elif value.translate(None, b"\0\r\n") != value:
        text, status = f"{name.decode()}: expected no NUL and no line end within", 400
    elif name.lower() == b"content-length":
        status = 400
        if value.isdigit() and len(value) < 20:
            text = "Content-Length and Transfer-Encoding: expected one of them, once"
        else:
            text = f"Content-Length: expected a number of bytes, got {_shown(value)}"
    elif name.lower() == b"transfer-encoding":
        if value.lower() == b"chunked":
            text, status = "Content-Length and Transfer-Encoding: expected one of them, once", 400
        else:
            text, status = f"Transfer-Encoding: expected chunked, got {_shown(value)}", 501
    return Refused(text, reason="limit" if status == 431 else "syntax", status=status)


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def _shown(data: bytes) -> str:
    return ascii(data[:_SHOWN].decode("latin-1"))
