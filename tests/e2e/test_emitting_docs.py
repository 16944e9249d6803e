"""Every example of docs/emitting.md is run as it stands there, and gives the sample that it promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from support.daemon import Daemon, environment
from support.emitting_page import PAGE, PAIR, REMOTE, Example, blocks, examples, unit_commands, unit_files
from support.emitting_tools import OURS, PROGRAMS, provide
from support.namespace import own_loopback
from support.processes import until

pytestmark = pytest.mark.e2e

#: The page with the file of checks that the examples use.
DIALECTS = PAGE.parent / "dialects.md"

#: Seconds for one example; netcat waits one for an answer that UDP does not have.
PATIENCE = 30.0

#: The UNIX datagram socket of the page.
UNIX_SOCKET = "/run/oneshotd/events.sock"

#: What systemd tells the commands of a unit whose process ended with status 3 (systemd.exec(5)).
FAILED = {
    "SERVICE_RESULT": "exit-code",
    "EXIT_STATUS": "3",
    "MONITOR_SERVICE_RESULT": "exit-code",
    "MONITOR_EXIT_STATUS": "3",
}

#: Language -> how its text is run; the text comes as the last argument or on standard input.
INTERPRETERS = {
    "sh": ("sh", "-ec"),
    "bash": ("bash", "-ec"),
    "python": (sys.executable, "-c"),
    "perl": ("perl", "-e"),
    "php": ("php",),
}

EXAMPLES = list(examples())


@frozen(kw_only=True)
class Setup:
    """A daemon on port 8090 of a network of its own; elsewhere if that is not permitted.

    :param programs: the folder with everything that the examples call.
    """

    daemon: Daemon
    prefix: tuple[str, ...]
    programs: Path

    def on_port(self, text: str) -> str:
        """The text for the daemon as it is."""
        text = text.replace(UNIX_SOCKET, str(self.daemon.process.folder / Path(UNIX_SOCKET).name))
        return (
            text if self.prefix else re.sub(r"localhost(\W+)8090", rf"127.0.0.1\g<1>{self.daemon.port}", text)
        )

    def run(self, command: list[str], stdin: str = "", **env: str) -> str:
        """What it prints; it must succeed."""
        variables = {
            **environment(),
            "PATH": os.pathsep.join([str(self.programs), os.environ["PATH"]]),
            **env,
        }
        if not self.prefix:
            variables["ONESHOTD_URL"] = self.daemon.url
        done = subprocess.run(
            (*self.prefix, *command),
            input=stdin,
            env=variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def scrape(self) -> list[str]:
        """The samples of events that this scraper has not had."""
        text = self.run(["curl", "-fsS", "--noproxy", "*", f"{self.daemon.url}/metrics?scraper=page"])
        return [line for line in text.splitlines() if line.startswith("events_to_metrics")]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder, programs = tmp_path_factory.mktemp("daemon"), tmp_path_factory.mktemp("programs")
    provide("curl", programs)
    with own_loopback() as inside, _daemon(folder, inside) as daemon:
        yield Setup(daemon=daemon, prefix=inside or (), programs=programs)
        assert daemon.errors() == []


@contextmanager
def _daemon(folder: Path, inside: tuple[str, ...] | None) -> Iterator[Daemon]:
    (checks,) = re.findall(
        r"^```toml\n(\[\[check\]\]\n.*?)^```$", DIALECTS.read_text(), re.MULTILINE | re.DOTALL
    )
    (folder / "pings.toml").write_text(checks)
    more = [f"--udp=unix:{Path(UNIX_SOCKET).name}", f"--pings={folder / 'pings.toml'}"]
    if inside:
        made = Daemon(folder, options=("--udp=8090",), port=8090, prefix=inside, more=more)
    else:
        made = Daemon(folder, more=more)
    with made as daemon:
        yield daemon


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_example_gives_the_samples_that_it_promises(setup: Setup, example: Example) -> None:
    """Somebody copies a line, and nothing arrives, or something else."""
    for name in [*PROGRAMS, *OURS]:
        if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", f"{example.language} {example.text}"):
            provide(name, setup.programs)
    setup.scrape()
    for command, stdin, env in commands(setup, example):
        setup.run(command, setup.on_port(stdin), **env)
    found: list[str] = []
    until(
        lambda: len(found.extend(setup.scrape()) or found) >= len(example.samples),  # type: ignore[func-returns-value]
        PATIENCE,
        lambda: f"{example.samples}, got {found}",
    )
    promised = [re.escape(sample).replace("…", r"[0-9.]+") for sample in example.samples]
    assert len(found) == len(promised), found
    for sample, pattern in zip(sorted(found), sorted(promised), strict=True):
        assert re.fullmatch(pattern, sample)


def commands(setup: Setup, example: Example) -> Iterator[tuple[list[str], str, dict[str, str]]]:
    """What is run for an example, one after the other: command, standard input, variables."""
    text = setup.on_port(example.text)
    if example.language == "systemd":
        for program, *words in unit_commands(example, FAILED):
            provide(Path(program).name, setup.programs)
            yield [str(setup.programs / Path(program).name), *map(setup.on_port, words)], "", FAILED
    elif example.language == "crontab":
        for line in text.splitlines():
            command = re.fullmatch(r"(?:[\d*/,-]+\s+){5}(.+)", line)
            assert command, line
            assert not re.search(r"(?<!\\)%", command[1]), "cron makes a new line of it"
            yield ["sh", "-c", command[1].replace(r"\%", "%")], "", {}
    elif example.language == "php":
        yield ["php"], text, {}
    else:
        yield [*INTERPRETERS[example.language], text], "", {}


def test_nothing_on_the_page_is_left_out() -> None:
    """An example that nobody runs goes wrong some day."""
    unknown = [
        line for line, language, _ in blocks() if language not in {*INTERPRETERS, "systemd", "crontab", ""}
    ]
    assert unknown == []
    # Those with these hosts are for tests/emit/test_credentials_page.py and test_several_addresses_page.py.
    elsewhere = (REMOTE, PAIR[0])
    unrun = [
        text for _, language, text in blocks() if not language and not any(host in text for host in elsewhere)
    ]
    assert len(unrun) == 2
    assert "runitor" in unrun[0]  # no archive has it; tests/web/routes/test_pings.py sends what it sends
    assert "systemctl daemon-reload" in unrun[1]  # as root, on a machine with systemd
    assert len(EXAMPLES) > 30
    for name in PROGRAMS:
        assert any(name in f"{example.language} {example.text}" for example in EXAMPLES), name


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """A unit that systemd refuses reports nothing, and nobody looks there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed, and needs more of systemd than its package")
    programs, units = tmp_path / "bin", tmp_path / "units"
    programs.mkdir()
    files = unit_files()
    names = {path.partition(".service")[0] + ".service" for path in files}
    for name in names - {*files}:
        files[name] = "[Service]\nExecStart=/bin/true\n"
    for path, text in files.items():
        for program in set(re.findall(r"/usr/bin/([\w-]+)", text)):
            provide(program, programs)
        (units / path).parent.mkdir(parents=True, exist_ok=True)
        (units / path).write_text(text.replace("/usr/bin/", f"{programs}/"), encoding="utf-8")
    assert len(files) > 5
    instances = sorted(name.replace("@.", "@nightly-backup.service.") for name in names)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(units / name) for name in instances)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(units) in line]) == (0, [])


def test_the_page_is_where_it_should_be() -> None:
    """Links to it would lead nowhere; and its own must lead somewhere."""
    text = PAGE.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / link).exists(), link
    headings = {
        re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-")
        for line in text.splitlines()
        if line[:3] == "## "
    }
    assert {*re.findall(r"\]\(#([^)]+)\)", text)} == headings
