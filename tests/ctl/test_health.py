"""`oneshotctl health` against servers that answer what a test has set."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.audit_servers import FakeServer, serving
from support.certificates import Authority

from oneshotd.ctl.command import run

#: Runs the command; returns status, standard output and standard error.
Health = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Health:
    def health(*words: str) -> tuple[int, str, str]:
        status = run(["health", *words], {})
        out, err = capsys.readouterr()
        return status, out, err

    return health


@pytest.fixture
def stack() -> Any:
    with ExitStack() as found:
        yield found


def daemon(
    stack: ExitStack, status: int, body: bytes, tls: ssl.SSLContext | None = None
) -> tuple[FakeServer, str]:
    """Return a server with this answer, and how a line names it."""

    def answer(path: str, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        return status, body

    server = stack.enter_context(serving(answer, tls))
    return server, f"oneshotd at {server.url}"


def test_a_daemon_that_is_ready(ran: Health, stack: ExitStack) -> None:
    """A container would be replaced though nothing is wrong."""
    server, name = daemon(stack, 200, b"ok\n")
    assert ran("--url", server.url) == (0, f"{name}: ready\n", "")
    assert [path for path, _, _ in server.asked] == ["/readyz"]


def test_warnings_are_shown_and_are_no_failure(ran: Health, stack: ExitStack) -> None:
    """A container would be restarted for a certificate that has ended, which no restart mends."""
    server, name = daemon(stack, 200, b"ok\nwarning: the certificate has ended\n")
    assert ran("--url", server.url) == (0, f"{name}: ready\nwarning: the certificate has ended\n", "")


def test_a_daemon_that_is_not_ready_says_why(ran: Health, stack: ExitStack) -> None:
    """The list of unhealthy containers would show no reason."""
    server, name = daemon(stack, 503, b"store: database or disk is full\n")
    said = f"oneshotctl health: {name}: not ready (503): store: database or disk is full\n"
    assert ran("--url", server.url) == (1, "", said)


def test_whether_the_process_answers_at_all(ran: Health, stack: ExitStack) -> None:
    """A daemon that waits for its disk would be restarted."""
    server, name = daemon(stack, 200, b"ok\n")
    assert ran("--live", "--url", f"{server.url}/") == (0, f"{name}: alive\n", "")
    assert [path for path, _, _ in server.asked] == ["/healthz"]


def test_a_path_before_the_api(ran: Health, stack: ExitStack) -> None:
    server, _ = daemon(stack, 200, b"ok\n")
    assert ran("--url", f"{server.url}/oneshotd")[0] == 0
    assert [path for path, _, _ in server.asked] == ["/oneshotd/readyz"]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<html>welcome</html>", "this is not oneshotd, its answer: '<html>welcome</html>'"),
        (200, b"", "this is not oneshotd, its answer: ''"),
        (404, b"not found\n", "refused (404): 'not found'"),
        (301, b"", "refused (301): without a reason; redirects are not followed"),
        (401, b"a password\n", "refused (401): 'a password'; sent without a credential"),
        (503, b"<html>\n<p>no   server</p>", "not ready (503): <html> <p>no server</p>"),
    ],
)
def test_another_server_is_a_failure(
    ran: Health, stack: ExitStack, status: int, body: bytes, why: str
) -> None:
    """A wrong URL would pass as a healthy daemon."""
    server, name = daemon(stack, status, body)
    ended, out, err = ran("--url", server.url)
    assert (ended, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"oneshotctl health: {name}: {why}"), err


def test_nobody_listens(ran: Health) -> None:
    """The status of an error would be one that a container runtime gives another meaning."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        said = f"oneshotctl health: oneshotd at {url}: Connection refused\n"
        assert ran("--url", url) == (1, "", said)


def test_a_daemon_that_hangs(ran: Health) -> None:
    """A health check would hang as well, and never fail."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = f"oneshotctl health: oneshotd at {url}: no answer within 0.3 s\n"
        assert ran("--url", url, "--timeout", "300ms") == (1, "", said)


def test_a_token_is_sent(ran: Health, stack: ExitStack, tmp_path: Path) -> None:
    """A proxy before the daemon may want one."""
    token = tmp_path / "token"
    token.write_text("oneshot_abc\n")
    token.chmod(0o600)
    server, _ = daemon(stack, 200, b"ok\n")
    assert ran("--url", server.url, "--token-file", str(token))[0::2] == (0, "")
    assert [header for _, _, header in server.asked] == ["Bearer oneshot_abc"]


def tls(folder: Path, authority: Authority, *, sans: tuple[str, ...]) -> ssl.SSLContext:
    """Return the context of a server that wants a certificate of its clients."""
    pair = authority.issue("server", sans=sans)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_an_authority_and_a_certificate_of_its_own(
    ran: Health, stack: ExitStack, tmp_path: Path
) -> None:
    """The daemon of a configuration with client certificates could not be checked."""
    authority = Authority(tmp_path)
    client = authority.issue("client")
    client.key.chmod(0o600)
    own = ["--cert", str(client.cert), "--key", str(client.key)]
    server, name = daemon(stack, 200, b"ok\n", tls(tmp_path, authority, sans=("127.0.0.1",)))
    words = ["--url", server.url, "--ca-file", str(authority.cert)]
    assert ran(*words, *own) == (0, f"{name}: ready\n", "")
    status, out, err = ran("--url", server.url, *own)
    assert (status, out, "the server's certificate is not accepted" in err) == (1, "", True)
    assert ran(*words)[0] == 1  # without the client's certificate


def test_any_certificate_will_do_if_that_is_said(ran: Health, stack: ExitStack, tmp_path: Path) -> None:
    """From inside the container the name is localhost, which no certificate has."""
    authority = Authority(tmp_path)
    client = authority.issue("client")
    client.key.chmod(0o600)
    own = ["--cert", str(client.cert), "--key", str(client.key)]
    server, name = daemon(stack, 200, b"ok\n", tls(tmp_path, authority, sans=("oneshotd.example.net",)))
    status, _, err = ran("--url", server.url, *own, "--ca-file", str(authority.cert))
    assert (status, "certificate" in err) == (1, True), err
    assert ran("--url", server.url, *own, "--any-certificate") == (0, f"{name}: ready\n", "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--url", "udp://h"), "expected http:// or https://, got udp://h:8090"),
        (("--url", "http://h", "--ca-file", "f"), "--ca-file, --cert: expected https://, got http://h:80"),
        (("--url", "https://h", "--key", "f"), "--key: expected --cert, too"),
        (("--url", "https://h", "--ca-file", "/nil"), "ca-file: /nil"),
        (("--any-certificate",), "--any-certificate: expected https://, got http://localhost:8090"),
        (
            ("--url", "https://h", "--any-certificate", "--token-file", "f"),
            "--any-certificate: expected no --token-file, which any server would get",
        ),
        (("--url", "https://u:p@h", "--any-certificate"), "--any-certificate: expected no password"),
        (
            ("--url", "https://h", "--any-certificate", "--ca-file", "f"),
            "--any-certificate: expected no --ca-file",
        ),
        (("--timeout", "soon"), "argument --timeout: expected a duration"),
    ],
)
def test_a_wrong_command_line_is_no_failure_of_the_daemon(
    ran: Health, words: tuple[str, ...], why: str
) -> None:
    """A typing error would look like a daemon that is ill."""
    status, out, err = ran(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert why in err


def test_json_of_a_proxy(ran: Health, stack: ExitStack) -> None:
    server, name = daemon(stack, 503, json.dumps({"error": "no server is up"}).encode())
    said = f"oneshotctl health: {name}: not ready (503): no server is up\n"
    assert ran("--url", server.url) == (1, "", said)
