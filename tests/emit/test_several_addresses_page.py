"""The examples of docs/emitting.md with two daemons: the second one gets the event of the first."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.emit_server import Server, answer
from support.emitting_page import PAIR, blocks

from oneshotd.emit import emit
from oneshotd.emit import settings as emit_settings
from oneshotd.emit.cli.command import run

COMMAND, TOML, PYTHON = (text for _, language, text in blocks() if PAIR[0] in text and not language)


@pytest.mark.parametrize("text", [COMMAND, TOML, PYTHON], ids=["command", "toml", "python"])
def test_the_example_reaches_the_second_daemon(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Somebody copies it, and the event is lost with the first daemon."""
    monkeypatch.setattr(emit_settings, "FILE", str(tmp_path / "emit.toml"))
    with Server(answer(503, b"busy\n")) as one, Server() as other:
        here = text.replace(PAIR[0], f"127.0.0.1:{one.port}").replace(PAIR[1], f"127.0.0.1:{other.port}")
        if text == PYTHON:
            exec(here, {"emit": emit})
        elif text == TOML:
            (tmp_path / "emit.toml").write_text(here)
            assert run(["type=deploy"], {}) == 0
        else:
            assert run(shlex.split(here)[1:], {}) == 0
    assert one.bodies() == other.bodies() == [b"type=deploy"]
    assert capfd.readouterr() == ("", "")
