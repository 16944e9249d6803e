"""The units and manual pages, as systemd and man take them."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import REPOSITORY

from oneshotd.ctl.command import subparsers
from oneshotd.daemon.config import OPTIONS

pytestmark = pytest.mark.e2e

UNITS = REPOSITORY / "etc" / "systemd"
INSTALL = REPOSITORY / "docs" / "install.md"

#: The worst that systemd may say of how much the service could do.
EXPOSURE = 1.5

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


def run(*words: str, **environment: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**os.environ, **environment, "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def of_the_page() -> str:
    """The unit for a venv."""
    (unit,) = re.findall(r"(?ms)^```systemd\n(\[Unit\].*?)^```$", INSTALL.read_text(encoding="utf-8"))
    return str(unit)


@needs_systemd
@pytest.mark.parametrize("unit", ["the package's", "the page's"])
def test_the_service_can_do_little_else(tmp_path: Path, unit: str) -> None:
    """Whoever finds a hole in the daemon would have the machine."""
    text = of_the_page() if unit == "the page's" else (UNITS / "oneshotd.service").read_text(encoding="utf-8")
    (tmp_path / "oneshotd.service").write_text(text, encoding="utf-8")
    words = ("systemd-analyze", "security", "--offline=yes", "--no-pager")
    said = run(*words, str(tmp_path / "oneshotd.service"), SYSTEMD_COLORS="0", SYSTEMD_EMOJI="0")
    (rating,) = re.findall(r"Overall exposure level for oneshotd.service: ([\d.]+)", said)
    assert float(rating) <= EXPOSURE, said


@needs_systemd
def test_systemd_knows_every_line_of_the_units(tmp_path: Path) -> None:
    """A misspelt line is ignored: what it should forbid would be allowed."""
    for source in (UNITS / "oneshotd.service", UNITS / "oneshotd.socket", UNITS / "oneshot-emit@.service"):
        text = source.read_text(encoding="utf-8")
        # The programs are not installed here.
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text)
        (tmp_path / source.name.replace("@", "@x")).write_text(text, encoding="utf-8")
    drop_ins = tmp_path / "oneshotd.service.d"
    shutil.copytree(UNITS / "oneshotd.service.d", drop_ins)
    units = [str(path) for path in tmp_path.iterdir() if path.is_file()]
    assert run("systemd-analyze", "verify", "--man=no", *units) == ""


def test_the_manual_has_every_option(tmp_path: Path) -> None:
    """`man oneshotd` would leave out what --help shows, or describe what is no more."""
    run(sys.executable, str(REPOSITORY / "debian/manpages.py"), str(tmp_path), SOURCE_DATE_EPOCH="86400")
    daemon = (tmp_path / "oneshotd.8").read_text(encoding="utf-8").replace("\\", "")
    file = (tmp_path / "oneshotd.toml.5").read_text(encoding="utf-8").replace("\\", "")
    for name in OPTIONS:
        assert f"\n.BI --{name}" in daemon
        assert f"\n.B {name} = " in file
    command = (tmp_path / "oneshotctl.1").read_text(encoding="utf-8").replace("\\", "")
    for name, parser in subparsers().items():
        assert f"\n.SS oneshotctl {name}\n" in command
        for action in parser._actions:
            if action.option_strings and argparse.SUPPRESS not in (action.help, action.default):
                assert f"\n.B {' '.join(action.option_strings)}" in command
    for page in tmp_path.iterdir():
        text = page.read_text(encoding="utf-8")
        assert text.startswith(".TH ") and " 1970-01-02 " in text.splitlines()[0]
        if shutil.which("groff"):
            said = run("groff", "-man", "-Tutf8", "-ww", "-z", str(page))
            assert said == ""
