"""``python -m oneshotd.daemon``, which is process 1 of a container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from oneshotd import __version__

REPOSITORY = Path(__file__).resolve().parents[2]

#: twistd that gets SIGTERM before its reactor runs, and would go on.
STOPPED_EARLY = """\
import os, signal, sys, time
from oneshotd.daemon.__main__ import main

def run():
    assert sys.argv == ["twistd", "--nodaemon", "--pidfile=", "oneshot", "--hold", "2h"], sys.argv
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
    os._exit(3)

main(["--hold", "2h"], run)
"""

#: Root may enter every folder, so the system's answer is made up.
NO_ENTRY = """\
import os
from oneshotd.daemon.__main__ import main

def refuse(folder):
    assert folder == "."
    raise PermissionError(13, "not here")

os.chdir = refuse
main([], lambda: os._exit(3))
"""


def process(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_it_is_twistd_with_the_plugin() -> None:
    """The container would start something else than the service does."""
    assert process("-m", "oneshotd.daemon", "--version") == (0, f"oneshotd {__version__}\n", "")


def test_a_wrong_option_is_one_line() -> None:
    """The log of a container that does not start would hide the reason in a traceback."""
    status, out, err = process("-m", "oneshotd.daemon", "--loud")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("twistd oneshot: option --loud not recognized")


def test_a_folder_that_may_not_be_entered_is_one_line() -> None:
    """A volume with a wrong owner would be a traceback in the log of a container."""
    status, out, err = process("-c", NO_ENTRY)
    assert (status, out, err) == (1, "", f"twistd oneshot: the working directory {REPOSITORY}: not here\n")


def test_it_can_be_stopped_before_the_reactor_runs() -> None:
    """A container that is stopped while it starts would be killed after its time to stop."""
    assert process("-c", STOPPED_EARLY) == (0, "", "")
