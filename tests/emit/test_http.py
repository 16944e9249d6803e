"""The small HTTP client against answers of every shape that a daemon or a proxy may give."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.emit_server import HANG_UP, STORED, Server, answer, endless

from oneshotd.emit.answers import EmitRefused, EmitUnavailable
from oneshotd.emit.http import MAX_ANSWER_BYTES, Answer, Connection
from oneshotd.emit.settings import target


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    connection = Connection(target(url))
    try:
        yield connection
    finally:
        connection.close()


def post(url: str, timeout: float = 10.0) -> Answer:
    with connected(url) as connection:
        return connection.post("/event", b"a=1", {"X-Y": "z"}, timeout)


def test_the_request_is_whole() -> None:
    """The daemon would not understand it."""
    with Server() as server:
        assert post(server.url + "/behind/") == Answer(200, {"content-length": "3"}, b"ok\n")
    (asked,) = server.asked
    assert asked.first == "POST /behind/event HTTP/1.1"
    assert asked.headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-length": "3",
        "x-y": "z",
    }
    assert asked.body == b"a=1"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n1\r\n\n\r\n0\r\nT: x\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [STORED],
        [STORED[:9], STORED[9:20], STORED[20:]],
        [CHUNKED],
        [CHUNKED[:50], CHUNKED[50:]],
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + STORED],
        [b"HTTP/1.1 200\nContent-Length: 3\n\nok\n"],
        [b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:3\r\nConnection: Close\r\n\r\nok\n"],
    ],
)
def test_every_shape_of_an_answer_is_read(parts: list[bytes]) -> None:
    """A stored event would be reported as lost."""
    with Server(parts) as server, connected(server.url) as connection:
        for _ in range(2):
            got = connection.post("/event", b"a=1", {}, 10.0)
            assert (got.status, got.body) == (200, b"ok\n")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_answer_may_end_with_the_connection(version: bytes) -> None:
    """An old proxy's answer would never end."""
    with Server([b"HTTP/" + version + b" 200 OK\r\n\r\no", b"k\n"], closes=True) as server:
        assert post(server.url).body == b"ok\n"


def test_an_answer_without_a_body_does_not_wait_for_one() -> None:
    """204 of a proxy would end in a timeout."""
    with Server(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        assert post(server.url) == Answer(204, {}, b"")


def test_a_connection_is_kept_and_opened_again() -> None:
    """Each batch of a stream would open a connection, or one break when the daemon closes an idle one."""
    with Server(STORED, STORED, answer(200, b"ok\n", Connection="close"), STORED) as server:
        with connected(server.url) as connection:
            for _ in range(4):
                connection.post("/event", b"a=1", {}, 10.0)
        assert [asked.connection for asked in server.asked] == [1, 1, 1, 2]
    with Server(closes=True) as server, connected(server.url) as connection:
        for _ in range(2):
            connection.post("/event", b"a=1", {}, 10.0)
            _until_closed(connection)
        assert [asked.connection for asked in server.asked] == [1, 2]


def _until_closed(connection: Connection) -> None:
    """Until the server's FIN is here."""
    kept = connection._socket
    assert kept is not None
    kept.settimeout(10.0)
    assert kept.recv(1, socket.MSG_PEEK) == b""


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (HANG_UP, "closed before the end of the answer"),
        (STORED[:-1], "closed before the end of the answer"),
        (CHUNKED[:-4], "closed before the end of the answer"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 what\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "the answer is longer than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "the answer is not HTTP"),
        (b"x" * (MAX_ANSWER_BYTES + 1), "the answer is longer than 1048576 bytes"),
    ],
    ids=range(10),
)
def test_half_an_answer_is_none(reply: bytes, why: str) -> None:
    """An event that may not be stored would pass for stored, or end the program with a traceback."""
    with Server(reply, closes=True) as server, pytest.raises(EmitUnavailable, match=why):
        post(server.url)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNK_BY_CHUNK = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "again"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        (OK, b"X-Y: z\r\n"),
        (OK + b"X-Y: ", b"z"),
        (OK + b"Connection: close\r\n\r\n", b"z"),
        (CHUNK_BY_CHUNK, b"1\r\nz\r\n"),
        (CHUNK_BY_CHUNK, b"10000\r\n" + b"z" * 65536 + b"\r\n"),
        (CHUNK_BY_CHUNK + b"1;x=", b"z"),
        (CHUNK_BY_CHUNK + b"2\r\nok\r\n0\r\n", b"X-Y: z\r\n"),
        (OK + b"Content-Length: 2000000\r\n\r\n", b"z"),
    ],
    ids=range(9),
)
def test_an_answer_without_end_is_bounded(beginning: bytes, again: bytes) -> None:
    """139 MB were read from a server that never stops; a cron job must not take a machine's memory."""
    too_long = pytest.raises(EmitUnavailable, match="the answer is longer than 1048576 bytes")
    with endless(beginning, again) as (url, sent), too_long:
        post(url)
    assert sent[0] < 2 * MAX_ANSWER_BYTES + 16 * 1024 * 1024  # with what the sockets hold


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer(401, b"no\n", Connection="close"), 401),
        (answer(413, b"too long\n"), 413),
        (answer(200, b"ok\n"), None),
        (b"", None),
    ],
    ids=range(4),
)
def test_a_refusal_before_the_end_of_the_request_is_read(reply: bytes, expected: int | None) -> None:
    """A wrong token of a large batch would look like a network that cuts connections, and be tried again."""
    with hasty(reply) as url, connected(url) as connection:
        if expected is None:
            with pytest.raises(EmitUnavailable, match=r"Broken pipe|reset|closed before the end"):
                connection.post("/events", b"x" * 10_000_000, {}, 10.0)
        else:
            assert connection.post("/events", b"x" * 10_000_000, {}, 10.0).status == expected
        # Else the next request would be read as the rest of this one.
        assert connection._socket is None


@contextmanager
def hasty(reply: bytes) -> Iterator[str]:
    """A server that answers one request when it has its head, and hangs up; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        taken, _ = listener.accept()
        with taken:
            taken.recv(1000)
            taken.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(10.0)
        listener.close()


def test_what_follows_an_answer_is_no_other_answer() -> None:
    """The next event would be reported as stored by what came with this one."""
    with Server([STORED + STORED], answer(503, b"no")) as server, connected(server.url) as connection:
        assert connection.post("/event", b"a=1", {}, 10.0).status == 200
        assert connection.post("/event", b"a=2", {}, 10.0).status == 503


def test_nobody_there_is_told_at_once() -> None:
    """A stopped daemon would look like any trouble."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(EmitUnavailable, match="Connection refused"):
        post(f"http://127.0.0.1:{port}")
    with pytest.raises(EmitUnavailable, match=r"(?i)name|address"):
        post("http://nowhere.invalid:1")


def test_the_timeout_covers_everything() -> None:
    """A daemon that accepts and says nothing, or a byte now and then, would hold a cron job for ever."""
    began = time.monotonic()
    with Server([b"H"] * 1000) as server, pytest.raises(EmitUnavailable, match=r"no answer within 0\.3 s"):
        post(server.url, timeout=0.3)
    deaf = socket.create_server(("127.0.0.1", 0))
    with deaf, pytest.raises(EmitUnavailable, match=r"no answer within 0\.2 s"):
        post(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.2)
    assert time.monotonic() - began < 10.0


def test_an_address_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is ::1 first, where many a daemon does not listen."""
    resolve = socket.getaddrinfo
    with Server() as server, socket.create_server(("127.0.0.1", 0)) as gone:
        other = gone.getsockname()[1]
        gone.close()

        def both(host: str, port: int, **more: int) -> object:
            assert host == "both.example"
            return [*resolve("127.0.0.1", other, **more), *resolve("127.0.0.1", server.port, **more)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        assert post("http://both.example").body == b"ok\n"


def test_https_asks_who_the_other_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password would be told to anybody; or nobody behind TLS could be reached."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key",
        "-out",
        "cert",
        "-subj",
        "/CN=x",
    ]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with Server(tls=context) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(EmitRefused, match="self-signed certificate"):
            post(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert post(url).body == b"ok\n"
    assert len(server.asked) == 1
