"""The examples of docs/emitting.md with TLS and credentials, against a server with both."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from support.certificates import Authority
from support.emit_server import Server
from support.emitting_page import REMOTE, blocks

from oneshotd.emit import emit
from oneshotd.emit import settings as emit_settings
from oneshotd.emit.cli.command import run

EXAMPLES = [text for _, language, text in blocks() if REMOTE in text and not language]


def command(text: str, folder: Path) -> None:
    """Run an example for a shell."""
    assert run(shlex.split(text)[1:], {}) == 0


def toml(text: str, folder: Path) -> None:
    """Take an example for the machine's file, and send an event as the machine does."""
    (folder / "emit.toml").write_text(text)
    assert run(["type=deploy"], {}) == 0


def python(text: str, folder: Path) -> None:
    """Run an example for a program."""
    exec(text, {"emit": emit})


def test_all_three_are_there() -> None:
    """An example that nobody runs goes wrong some day."""
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize(
    ("text", "way"),
    list(zip(EXAMPLES, (command, toml, python), strict=False)),
    ids=["command", "toml", "python"],
)
def test_the_example_sends_the_token_over_tls(
    text: str,
    way: Callable[[str, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Somebody copies it, and the daemon refuses the event."""
    authority = Authority(tmp_path)
    pair = authority.issue("site")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("s3cret-token\n")
    monkeypatch.setattr(emit_settings, "FILE", str(tmp_path / "emit.toml"))
    with Server(tls=context) as server:
        here = text.replace(REMOTE, f"127.0.0.1:{server.port}").replace("/etc/oneshotd", str(tmp_path))
        way(here, tmp_path)
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer s3cret-token"
    assert asked.body == b"type=deploy"
    assert capfd.readouterr() == ("", "")
