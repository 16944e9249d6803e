"""The command with a token: exit status 77, a secret in no text, and a file that is replaced."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from support.certificates import Authority
from support.emit_process import EMIT, PATIENCE, emit, environment, started
from support.emit_server import STORED, Server, answer
from support.processes import until

from oneshotd.emit import settings as emit_settings
from oneshotd.emit.cli.command import run

SECRET = "s3cret-token"


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit_settings, "FILE", str(tmp_path / "emit.toml"))


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(f"{SECRET}\n")
    return file


def sent(server: Server) -> list[str | None]:
    return [asked.headers.get("authorization") for asked in server.asked]


def test_the_token_comes_from_option_environment_or_file(
    token: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One of the three ways would send no token."""
    with Server() as server:
        assert run(["a=1", "--http", server.url, "--token-file", str(token)], {}) == 0
        assert run(["a=1"], {"ONESHOTD_URL": server.url, "ONESHOTD_TOKEN_FILE": str(token)}) == 0
        (tmp_path / "emit.toml").write_text(f'url = "{server.url}"\ntoken-file = "token"\n')
        assert run(["a=1"], {}) == 0
    assert sent(server) == [f"Bearer {SECRET}"] * 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("words", [["a=1"], ["-"]])
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.e2e
def test_a_refused_token_is_status_77(token: Path, words: list[str], status: int) -> None:
    """A script could not tell a wrong token from a wrong event."""
    with Server(answer(status, f"no {SECRET}\n".encode())) as server:
        done = emit(*words, "--retry", "1h", "--token-file", str(token), url=server.url, stdin=b"a=1\n")
    assert done.returncode == 77
    assert len(server.asked) == 1
    (line,) = done.stderr.decode().splitlines()
    told = f"{server.url}: refused ({status}): no [hidden]; sent with the token of {token} (token-file)"
    assert line.removesuffix("; stopped before line 1, with 0 sent") == f"oneshot-emit: {told}"


@pytest.mark.e2e
def test_around_a_command_the_status_is_the_commands(token: Path) -> None:
    """A good backup would count as failed because a token is old."""
    with Server(answer(401, b"no\n")) as server:
        done = emit("--exec", "a=1", "--token-file", str(token), "--", "sh", "-c", "exit 3", url=server.url)
    assert done.returncode == 3
    assert done.stderr.startswith(f"oneshot-emit: not reported: {server.url}: refused (401): no; ".encode())
    done = emit("--exec", "a=1", "--token-file", "/nowhere/token", "--", "sh", "-c", "exit 3", url=server.url)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"oneshot-emit: not reported: token-file: ")
    done = emit("--exec", "a=1", "--udp", "localhost:1", "--token-file", "x", "--", "sh", "-c", "exit 3")
    assert done.returncode == 125


@pytest.mark.parametrize("words", [["a=1"], ["-"]])
@pytest.mark.e2e
def test_a_file_that_cannot_be_used_is_status_2(token: Path, words: list[str]) -> None:
    """A script would try again later, or take the event for a wrong one."""
    with Server() as server:
        url = server.url.replace("http:", "https:")
        gone = "the file that it names: No such file or directory"
        for option, why in (
            (("--token-file", "/nowhere/token"), f"token-file: {gone}"),
            (("--ca-file", str(token)), f"ca-file: {token}: there is no certificate in PEM form in it"),
            (("--cert", str(token)), f"cert: {token}: there is no certificate in PEM form in it"),
        ):
            done = emit(*words, *option, url=url, stdin=b"a=1\n")
            assert done.returncode == 2
            assert done.stderr.decode() == f"oneshot-emit: {why}\n"
    assert server.asked == []


@pytest.mark.e2e
def test_a_certificate_that_is_asked_for_is_status_77(tmp_path: Path) -> None:
    """A script could not tell a missing certificate from a daemon that is away."""
    import ssl

    authority = Authority(tmp_path / "authority")
    pair, client = authority.issue("site"), authority.issue("client")
    client.key.chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with Server(tls=context) as server:
        url = server.url.replace("http:", "https:")
        done = emit("a=1", "--ca-file", str(authority.cert), "--retry", "1h", url=url)
        assert (done.returncode, done.stderr.count(b"\n")) == (77, 1)
        assert b"the server asks for a certificate, see the options cert and key" in done.stderr
        words = ["--ca-file", str(authority.cert), "--cert", str(client.cert), "--key", str(client.key)]
        done = emit("-", *words, url=url, stdin=b"a=1\n")
        assert (done.returncode, done.stderr) == (0, b"")
    assert server.bodies() == [b"a=1\n"]


@pytest.mark.e2e
def test_a_long_input_takes_the_token_that_is_valid_now(token: Path) -> None:
    """A process that follows a log would have to be restarted when its token is replaced."""
    words = ("--token-file", str(token), "-")
    with Server() as server, started(*words, url=server.url) as child:
        assert child.stdin is not None
        for n, text in enumerate(("t0ken-one", "t0ken-two")):
            new = token.with_name("new")
            new.touch(0o600)
            new.write_text(text)
            new.replace(token)
            child.stdin.write(b"n=%d\n" % n)
            child.stdin.flush()
            until(lambda n=n: len(server.asked) > n, PATIENCE, "the line is sent")  # type: ignore[misc]
        for place in ("cmdline", "environ"):
            told = Path(f"/proc/{child.pid}/{place}").read_bytes()
            assert b"t0ken" not in told
        child.communicate(timeout=PATIENCE)
    assert sent(server) == ["Bearer t0ken-one", "Bearer t0ken-two"]


@pytest.mark.e2e
def test_a_token_that_all_can_read_is_a_warning(token: Path) -> None:
    """It would stay so."""
    token.chmod(0o644)
    with Server() as server:
        done = emit("a=1", "--token-file", str(token), url=server.url)
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"oneshot-emit: warning: token-file: every user of this machine can read {token}")


@pytest.mark.e2e
def test_a_token_on_an_open_network_is_told_to_people_only(token: Path) -> None:
    """Nobody would notice; or cron send a mail for each event of a network without strangers."""
    words = (*EMIT, "a=1", "--timeout", "1ms", "--token-file", str(token))
    env = environment("http://nowhere.invalid")
    assert b"warning" not in subprocess.run(words, env=env, capture_output=True, timeout=PATIENCE).stderr
    mine, its = pty.openpty()
    try:
        subprocess.run(words, env=env, stderr=its, timeout=PATIENCE)
        shown = os.read(mine, 4096)
    finally:
        os.close(mine)
        os.close(its)
    assert b"warning: http://nowhere.invalid:80 is not encrypted: everybody on the way can read" in shown


@pytest.mark.e2e
def test_a_busy_daemon_is_sent_the_token_again(token: Path) -> None:
    """Each attempt but the first would be refused."""
    with Server(answer(429, b"slowly\n", Retry_After="0"), STORED) as server:
        assert emit("a=1", "--retry", "30s", "--token-file", str(token), url=server.url).returncode == 0
    assert sent(server) == [f"Bearer {SECRET}"] * 2
