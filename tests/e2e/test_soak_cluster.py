"""The crash campaign over a cluster in its short form; `make soak-cluster` runs the long one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from soak.cluster import main

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]


def test_every_event_arrives_once_whatever_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to look for lost or doubled events after a failover."""
    table = tmp_path / "table.md"
    arguments = ["--seconds", "30", "--faults", "8", "--promotions", "1", "--pauses", "1", "--seed", "19"]
    status = main([*arguments, "--markdown", str(table)])
    printed = capsys.readouterr()
    assert status == 0, printed.out + printed.err
    assert "| result | violations | 0 |" in table.read_text().splitlines()


def test_a_campaign_without_enough_faults_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A campaign that passes has done what it was to do: it cannot pass by doing nothing."""
    arguments = ["--seconds", "0.5", "--faults", "1000", "--promotions", "5", "--pauses", "8"]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    [folder] = re.findall(r"are in (\S+)$", said, re.MULTILINE)
    shutil.rmtree(folder)
    assert "of 1000 faults were done in the time" in said
    assert "of 5 promotions were done in the time" in said
    assert "of 8 stops beyond a lease were done in the time" in said
