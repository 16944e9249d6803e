"""`make demo`: three links that work, and nothing left behind after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import BROWSER, REPOSITORY, environment
from support.debian_packages import fetch_with_libraries
from support.processes import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, in a session of its own: its processes are found by it."""
    fetch_with_libraries("prometheus")  # or skipped, where there is no apt
    env = {
        **environment(),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        "TMPDIR": str(tmp_path),
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "tools.demo", "--port=0", "--prometheus-port=0", "--seed=1"],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield running
    for pid in processes_of(running.pid):
        os.kill(pid, signal.SIGKILL)
    running.wait(20)
    assert running.stdout is not None
    running.stdout.close()


def processes_of(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == session and state != "Z":
            found.append(int(folder.name))
    return found


def links(demo: subprocess.Popen[str]) -> dict[str, str]:
    """What the demo prints until it has started: name -> address."""
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    return dict(re.findall(r"^(\w[\w ]*?)\s+(http://\S+)$", "".join(lines), re.MULTILINE))


def fetched(url: str) -> str:
    with BROWSER.open(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_its_links_work_and_ctrl_c_ends_all_of_it(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """A newcomer's first command would fail, show nothing, or leave processes and files behind."""
    found = links(demo)
    assert list(found) == ["status page", "Prometheus", "metrics"]
    assert "oneshotd" in fetched(found["status page"])
    assert "oneshotd_events_accepted_total" in fetched(found["metrics"])
    graph = urllib.parse.urlsplit(found["Prometheus"])
    fetched(found["Prometheus"])
    query = urllib.parse.parse_qs(graph.query)["g0.expr"][0]
    api = f"http://{graph.netloc}/api/v1/query?{urllib.parse.urlencode({'query': query})}"

    def counted() -> set[str]:
        rows = json.loads(fetched(api))["data"]["result"]
        return {row["metric"]["type"] for row in rows if float(row["value"][1]) >= 1}

    until(lambda: {"order", "login", "deploy"} <= counted(), 30, lambda: str(counted()))
    assert len(processes_of(demo.pid)) >= 3
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0
    until(lambda: not processes_of(demo.pid), 10, lambda: str(processes_of(demo.pid)))
    assert list(tmp_path.iterdir()) == []


def test_a_script_of_the_graph_page_can_be_read(demo: subprocess.Popen[str]) -> None:
    """The page would be there and draw nothing, since a package of its scripts is missing."""
    url = links(demo)["Prometheus"]
    scripts = re.findall(r'<script src="(/[^"]+)"', fetched(url))
    assert scripts or "/classic/" not in url
    for script in scripts:
        assert fetched(urllib.parse.urljoin(url, script)), script
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(30) == 0
    assert processes_of(demo.pid) == []


def test_it_needs_no_test_tools() -> None:
    """`make demo` would fail where the tests' tools are not installed, which it does not install."""
    program = "import sys; sys.modules['pytest'] = None; import tools.demo"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
