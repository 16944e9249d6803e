"""The crash campaign in its short form; `make soak` runs the long one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from soak.__main__ import main

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("more", [[], ["--tls"]], ids=["tcp", "tls"])
def test_every_event_arrives_once_whatever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """Nobody has to look for lost or doubled events after a crash."""
    table = tmp_path / "table.md"
    status = main(["--seconds", "36", "--rounds", "18", "--seed", "17", "--markdown", str(table), *more])
    printed = capsys.readouterr()
    assert status == 0, printed.out + printed.err
    assert "| result | violations | 0 |" in table.read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["--rounds", "0"], "nothing was injected", id="no kill"),
        pytest.param(["--rounds", "1", "--senders", ""], "nothing was sent that arrived: UDP", id="no event"),
        pytest.param(
            ["--rounds", "1", "--senders", "udp"],
            "nothing was sent that arrived: POST /event with a key",
            id="no event of one door",
        ),
    ],
)
def test_a_campaign_without_a_trial_fails(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A campaign that passes has killed and has sent: it cannot pass by doing nothing."""
    assert main(["--seconds", "2", "--no-receiver", *arguments]) == 1
    assert text in capsys.readouterr().err
