"""docs/api.md is run from its beginning to its end, and every answer is the one that it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, environment
from support.emitting_tools import provide
from support.namespace import own_loopback
from support.processes import until

from oneshotd.web.timestamps import moment

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Seconds for one command.
PATIENCE = 30.0

#: Fields whose values are other ones each time, and what they have to be.
VOLATILE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("at", "last_seen_at", "oldest_pending_at", "lag_since_at", "timeEnd"),
        lambda ms: type(ms) is int and ms > 10**12,
    ),
    **dict.fromkeys(
        ("time", "last_seen", "oldest_pending", "lag_since"), lambda text: moment(str(text)) > 10**12
    ),
    "file": lambda text: re.search(r"/oneshotd-\d{8}T\d{6}\.\d{3}Z\.sqlite$", text) is not None,
    "bytes": lambda size: type(size) is int and size > 10_000,
    "longest_lag_seconds": lambda seconds: type(seconds) is float and 0 <= seconds < 100,
    "seconds": lambda seconds: type(seconds) is float and 0 < seconds < 10,
}


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every block of the page."""
    return _FENCED.findall(PAGE.read_text(encoding="utf-8"))


def same(shown: Any, got: Any) -> bool:
    """Whether an answer is what the page shows, but for what is another one each time."""
    if isinstance(shown, dict):
        return (
            isinstance(got, dict)
            and list(shown) == list(got)
            and all(
                VOLATILE[key](got[key]) if key in VOLATILE else same(value, got[key])
                for key, value in shown.items()
            )
        )
    if isinstance(shown, list):
        return isinstance(got, list) and len(shown) == len(got) and all(map(same, shown, got))
    return type(shown) is type(got) and bool(shown == got)


class Setup:
    """A daemon as the page has it, with its paths moved into folders of the test's own.

    :ivar file: the copy that was made.
    """

    def __init__(self, folder: Path, place: Path, prefix: tuple[str, ...]) -> None:
        self._place, self._folder, self._prefix = place, folder, prefix
        self.file = ""
        (place / "copies").mkdir()
        self._programs = place / "programs"
        self._programs.mkdir()
        provide("curl", self._programs)
        (given,) = [text for language, text in blocks() if language == "toml"]
        assert set(tomllib.loads(given)) == {"backup-dir", "backup-socket"}
        config = place / "oneshotd.toml"
        self.daemon = Daemon(folder, options=(), port=8090 if prefix else None, prefix=prefix)
        port = self.daemon.port
        config.write_text(
            f'http = ["tcp:{port}:interface=127.0.0.1"]\nudp = []\n'
            f'store = "sqlite:{folder / "oneshotd.sqlite"}"\n{self.moved(given)}'
        )
        command = (*self.daemon.process.command, f"--config={config}")
        self.daemon.process.command = command

    def moved(self, text: str) -> str:
        """The text for this daemon."""
        for name, path in (
            ("/var/backups/oneshotd", self._place / "copies"),
            ("/run/oneshotd", self._place),
            ("/var/lib/oneshotd", self._folder),
        ):
            text = text.replace(name, str(path))
        if self.file:
            text = re.sub(r"\S+/oneshotd-\d+T[\d.]+Z\.sqlite", self.file, text)
        return text.replace("localhost:8090", f"127.0.0.1:{self.daemon.port}")

    def run(self, *command: str) -> str:
        """What it prints; it must succeed."""
        variables = {**environment(), "no_proxy": "*"}
        variables["PATH"] = os.pathsep.join([str(self._programs), os.environ["PATH"]])
        done = subprocess.run(
            (*self._prefix, *command), env=variables, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def get(self, path: str) -> str:
        return self.shell(f'curl "http://localhost:8090{path}"')

    def shell(self, text: str) -> str:
        return self.run("sh", "-ec", self.moved(text))


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with tempfile.TemporaryDirectory(prefix="oneshotd-") as place, own_loopback() as inside:
        setup = Setup(tmp_path, Path(place), inside or ())
        with setup.daemon:
            yield setup
        assert setup.daemon.errors() == []


def test_every_example_gives_what_it_shows(setup: Setup) -> None:
    """Somebody builds on a field that is called otherwise."""
    run = shown = 0
    page = [*blocks(), ("", "")]
    for (language, text), (following, answer) in pairwise(page):
        if language == "python":
            lines = setup.run(sys.executable, "-c", setup.moved(text)).splitlines()
            assert len(lines) == 3 and "slow_queries {'limit': '10', 'type': 'query'} None" in lines[0], lines
        elif language == "sh" and following == "json":
            got: list[Any] = []

            def is_so(text: str = text, answer: str = answer, got: list[Any] = got) -> bool:
                # A delivery may be taken back until curl's end has come through.
                got[:] = [json.loads(setup.shell(text))]
                return same(json.loads(answer), got[0])

            until(is_so, 10, partial(str, [answer, got]))
            if isinstance(got[0], dict):
                setup.file = got[0].get("file", "")
            shown += 1
        elif language == "sh" and "rm -f" in text:
            before = setup.get("/api/v1/events")
            setup.get("/metrics?scraper=prometheus-a")
            setup.daemon.stop()
            setup.shell(text)
            setup.daemon.start()
            assert setup.get("/api/v1/events") == before
            assert 'service="blog"' in setup.get("/metrics?scraper=prometheus-a")
        elif language == "sh":
            setup.shell(text)
        run += language in ("sh", "python")
    assert (run, shown) == (10, 6)
    assert {language for language, _ in blocks()} == {"sh", "json", "python", "toml"}


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / link).exists(), link


@pytest.mark.parametrize(
    ("shown", "got", "is_so"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        ({"at": 5}, {"at": 1795385700250}, True),
        ({"at": 5}, {"at": None}, False),
        ([{"a": None}], [], False),
    ],
)
def test_a_difference_is_seen(shown: Any, got: Any, is_so: bool) -> None:
    """The page could say anything."""
    assert same(shown, got) is is_so
