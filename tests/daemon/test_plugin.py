"""The built wheel: what is in it, and that twistd finds the plugin from everywhere."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from oneshotd import __version__

ROOT = Path(__file__).resolve().parents[2]

#: What a build needs; a copy, so that nothing of an earlier build gets in and nothing is left.
PARTS = ["setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "oneshotd", "twisted"]

PIP = [sys.executable, "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check"]

pytestmark = pytest.mark.e2e


def run(*words: str, cwd: Path, **environment: str) -> str:
    """Standard output of the command, which must succeed."""
    env = {"PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    left_behind = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=left_behind)
        elif (ROOT / part).exists():
            shutil.copy(ROOT / part, source / part)
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={out}", ".", cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, to be put on the path beside the tests' environment."""
    target = tmp_path_factory.mktemp("installed")
    run(*PIP, "install", "--no-deps", "--no-index", f"--target={target}", str(wheel), cwd=target)
    return target


def test_the_wheel_has_all_of_us_and_nothing_of_twisted(wheel: Path) -> None:
    """A module, the schema or the page's style would be missing, or a file of Twisted be overwritten."""
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "oneshotd").rglob("*") if path.is_file())
    ours = [path for path in files if "__pycache__" not in path.parts]
    plugin = ROOT / "twisted" / "plugins" / "oneshot_plugin.py"
    assert packed == {str(path.relative_to(ROOT)) for path in [*ours, plugin]}
    assert wheel.name == f"oneshotd-{__version__}-py3-none-any.whl"


TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def test_twistd_lists_the_command_from_any_folder(installed: Path) -> None:
    """`twistd oneshot` would be unknown outside the project's folder."""
    text = run(*TWISTD, "--help", cwd=Path("/"), PYTHONPATH=str(installed))
    assert "Turn events into one-shot metrics" in text


def test_help_comes_from_the_wheel(installed: Path) -> None:
    """The installed package would lack what the options need."""
    text = run(*TWISTD, "oneshot", "--help", cwd=Path("/"), PYTHONPATH=str(installed))
    assert "--newcomers=" in text
    assert "[default: 5m]" in text


@pytest.mark.parametrize("words", [["--hold=long"], ["--config=/nowhere.toml"], ["--nothing"]])
def test_a_wrong_option_is_one_line_and_status_1(installed: Path, words: list[str]) -> None:
    """A service file with a typing error would fail without a readable reason."""
    done = subprocess.run(
        [*TWISTD, "-n", "--pidfile=", "oneshot", *words],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("twistd oneshot: ")
    assert done.stderr.count("\n") == 1


def test_a_busy_port_ends_the_process_with_the_reason(installed: Path, tmp_path: Path) -> None:
    """It would stay up, listening on nothing, or leave a traceback and a PID file."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [*TWISTD, "-n", "oneshot", f"--http={port}", "--udp=127.0.0.1:0", "--log-level=critical"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.endswith(f"cannot start: HTTP: tcp port {port} is in use")
    assert not (tmp_path / "twistd.pid").exists()
