"""The unit tests again, with the oldest versions that setup.py allows: those of Debian 13."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.debian_packages import REPOSITORY, cache_folder

pytestmark = pytest.mark.e2e

# Of Debian 13. Twisted 24.11 cannot do TLS with a pyOpenSSL that is much younger.
OLDEST = (
    "twisted==24.11.0",
    "klein==24.8.0",
    "attrs==25.3.0",
    "prometheus_client==0.21.1",
    "pyopenssl==25.0.0",
    "cryptography==43.0.0",
    "bcrypt==4.2.0",
    "pyyaml==6.0.2",
    "service_identity==24.2.0",
)

OPTIONS = ("--hypothesis-profile=quick", "-p", "no:cacheprovider")

#: Each in a process of its own, as `make check` does it: some tests of the web count the descriptors of
#: their process. The last one waits for deadlines most of the time, beside the others. Of these
#: dependencies the core uses attrs alone, as all the rest does.
GROUPS = (
    tuple(f"--ignore=tests/{name}" for name in ("core", "web", "e2e", "store/postgresql")),
    ("--ignore=tests/web/transport", "tests/web"),
    ("tests/web/transport",),
)

#: Of these processes, how many run at a time.
AT_ONCE = 2

#: Seconds for each step; an environment needs some 60 MB of packages, if pip has none of them.
TIMEOUT = 600


def test_unit_tests_pass_with_the_oldest_dependencies(tmp_path: Path) -> None:
    """Who installs oneshotd beside Debian 13's own Python packages gets one that works."""
    project = tmp_path / "project"
    shutil.copytree(REPOSITORY, project, ignore=shutil.ignore_patterns(".*", "var", "build", "*.egg-info"))
    python = environment(project)
    run([*python_pip(python), "--no-deps", "--force-reinstall", str(project)], tmp_path)
    # From the copy, so that nothing of this run is written into the working tree.
    command = [str(python), "-m", "pytest", "-q", "-m", "not e2e", *OPTIONS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outputs = list(pool.map(lambda group: run([*command, *group], project), GROUPS))
    for said in outputs:
        passed = re.search(r"(\d+) passed", said)
        assert passed, said
        assert int(passed[1]) > 0, said


def environment(project: Path) -> Path:
    """Python of an environment with the oldest dependencies, kept in the cache folder until they,
    the interpreter or setup.py change."""
    base = debian_13_python()
    version = run([base, "--version"], project)
    wanted = "\n".join([version, *OLDEST, (project / "setup.py").read_text()])
    home = cache_folder() / f"oldest-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        run([base, "-m", "venv", str(home)], project)
        run([*python_pip(python), f"{project}[test]", *OLDEST], project)
        (home / "complete").touch()
    installed = run([str(python), "-m", "pip", "list", "--format=freeze"], project).lower().replace("-", "_")
    assert set(OLDEST) <= set(installed.split()), installed
    return python


def debian_13_python() -> str:
    """Python 3.13 where there is one that works, else the interpreter of these tests."""
    try:
        done = subprocess.run(
            ["python3.13", "-c", "import ensurepip, venv, sqlite3"], capture_output=True, timeout=60
        )
    except OSError:
        return sys.executable
    return "python3.13" if done.returncode == 0 else sys.executable


def python_pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def run(command: list[str], folder: Path) -> str:
    """What it prints.

    :raises AssertionError: its status is not 0; with all that it printed.
    """
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}"
    return done.stdout
