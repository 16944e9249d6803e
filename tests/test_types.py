"""A program that uses `oneshotd.emit` is type-checked against its annotations."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
from oneshotd.emit import EmitError, emit

try:
    emit(type="deploy", version="1.2")
    emit({"type": "backup"}, value=37.5, retry=60)
except EmitError:
    raise
"""

pytestmark = pytest.mark.e2e


def mypy(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy beside the installed package: its files and `py.typed`."""
    shutil.copytree(Path(__file__).resolve().parent.parent / "oneshotd", folder / "site" / "oneshotd")
    program = folder / "program.py"
    program.write_text(text, encoding="utf-8")
    return subprocess.run(
        [*(sys.executable, "-m", "mypy", "--strict", "--config-file="), "--cache-dir", folder, program],
        cwd=folder,
        env={"PYTHONPATH": "", "MYPYPATH": "site"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_user_program_is_checked_strictly(tmp_path: Path) -> None:
    """A user's own `mypy --strict` would fail, or see no types and find no mistake."""
    done = mypy(PROGRAM, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_argument_is_found(tmp_path: Path) -> None:
    """The check above would pass without any types."""
    done = mypy(PROGRAM.replace("retry=60", 'retry="a minute"'), tmp_path)
    assert 'Argument "retry" to "emit" has incompatible type "str"' in done.stdout
