"""`oneshot-emit` starts quickly, wherever it stands in a script; and it is installed as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from support.emit_process import EMIT, NOBODY, PATIENCE, REPOSITORY, environment
from support.emit_server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

#: Seconds of the processor's time, Python's own start included; a curl takes some 0.01.
LONGEST_START = 0.1

#: Packages that take longer to import than Python to start, and those of the daemon.
HEAVY = {"attr", "attrs", "twisted", "zope", "klein", "prometheus_client", "asyncio", "http", "email", "ssl"}
#: What only some calls need.
SOMETIMES = {"json", "tomllib", "uuid", "threading", "subprocess", "tempfile", "random", "logging", "inspect"}


def test_one_event_imports_nothing_heavy() -> None:
    """A script that emits in a loop would become slow."""
    code = "import sys; from oneshotd.emit import main; main(); print(*sys.modules)"
    with Server() as server:
        done = subprocess.run(
            (sys.executable, "-P", "-c", code, "type=x"),
            env=environment(server.url),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert len(server.asked) == 1
    bare = subprocess.run(
        (sys.executable, "-P", "-c", "import sys; print(*sys.modules)"), capture_output=True, text=True
    )
    imported = {name.partition(".")[0] for name in {*done.stdout.split()} - {*bare.stdout.split()}}
    assert imported
    assert imported & (HEAVY | SOMETIMES) == set()
    assert {name for name in imported if name not in sys.stdlib_module_names} <= {"oneshotd"}
    assert {name for name in done.stdout.split() if name.startswith("oneshotd.core")} == {
        "oneshotd.core",
        "oneshotd.core.parsing",
        "oneshotd.core.parsing.names",
        "oneshotd.core.parsing.numbers",
    }


def test_it_starts_in_well_under_100_ms() -> None:
    """A prompt, a Makefile or a loop would become noticeably slower."""
    with Server() as server:
        # The time of the processor, the best of some: the machine may be busy with other things.
        times = [_processor_time(server.url) for _ in range(7)]
    assert min(times) < LONGEST_START


def _processor_time(url: str) -> float:
    child = os.posix_spawn(EMIT[0], [*EMIT, "type=x"], environment(url))
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return used.ru_utime + used.ru_stime


def test_a_command_does_not_wait_for_what_only_the_report_needs() -> None:
    """Every cron job would start later."""
    code = (
        "import sys, os, oneshotd.emit; spawn = os.posix_spawnp\n"
        "def spy(*a, **k): print(*sys.modules, flush=True); return spawn(*a, **k)\n"
        "os.posix_spawnp = spy; sys.exit(oneshotd.emit.main())"
    )
    done = subprocess.run(
        (sys.executable, "-P", "-c", code, "--exec", "--", "true"),
        env=environment(NOBODY),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "oneshotd" in imported
    assert imported & (HEAVY | SOMETIMES) == set()


def test_the_package_brings_the_commands(tmp_path: Path) -> None:
    """After the installation there would be no `oneshot-emit`, or no `oneshotctl`."""
    subprocess.run(
        (sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)),
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    (entries,) = tmp_path.glob("*.egg-info/entry_points.txt")
    lines = entries.read_text().splitlines()
    assert lines[0] == "[console_scripts]"
    places = dict(line.split(" = ") for line in lines[1:] if line)
    assert places.keys() == {"oneshot-emit", "oneshotctl"}
    for place in places.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))
