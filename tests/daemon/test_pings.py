"""The file of --pings after each change: in force, or refused as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_store import logged
from support.locks_driver import Inline
from support.service_in_memory import lines

from oneshotd.access.reload import LOOK_SECONDS
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config import Config
from oneshotd.daemon.pings import PingParts
from oneshotd.errors import ConfigError
from oneshotd.metrics.registry import Telemetry

UUID = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"


def check(name: str, uuid: str = UUID) -> str:
    return f'[[check]]\nname = "{name}"\nuuid = "{uuid}"\n'


class Pings:
    """The file, and what the daemon makes of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pings.toml"
        self.reactor, self.telemetry = Inline(), Telemetry()
        self.parts = PingParts(self.reactor, Config(pings=str(self.path)), self.telemetry, lambda: 1e9)

    def change(self, text: str) -> None:
        """Write the file, and let the daemon find the change."""
        self.path.write_text(text)
        self.reactor.advance(LOOK_SECONDS)
        self.reactor.advance(LOOK_SECONDS)

    @property
    def successful(self) -> float:
        return next(
            sample.value
            for family in self.telemetry.reloads.collect()
            for sample in family.samples
            if sample.name == "oneshotd_pings_last_reload_successful"
        )


@pytest.fixture
def pings(tmp_path: Path) -> Iterator[Pings]:
    made = Pings(tmp_path)
    yield made
    made.parts.stop()
    assert made.reactor.getDelayedCalls() == []


def test_checks_come_and_go_with_the_file(pings: Pings) -> None:
    """A URL that was withdrawn would still be a credential."""
    pings.path.write_text(check("backup"))
    pings.parts.read(Rules())
    pings.parts.start()
    with logged() as events:
        pings.change(check("report"))
        assert pings.parts.checks.names == ["report"]
        pings.change(check("report", UUID.replace("5", "6")))
        assert pings.parts.checks.find((UUID,)) is None
        pings.change("".join(check(f"c{n:02}", UUID[:-2] + f"{n:02}") for n in range(12)))
        pings.parts.reload()
    told = [line.partition("again: ")[2] for line in lines(events, "info")]
    assert told == [
        "report added; backup removed",
        "URLs, labels or times of checks",
        "c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 2 more added; report removed",
        "nothing has changed",
    ]
    assert not [line for line in lines(events, "info") if UUID[:8] in line]
    assert (pings.successful, pings.parts.warnings()) == (1, [])


def test_a_bad_file_leaves_the_checks_in_force(pings: Pings) -> None:
    """A typing error would end the reports of all jobs."""
    pings.path.write_text(check("backup"))
    pings.parts.read(Rules())
    pings.parts.start()
    with logged() as events:
        pings.change(check("backup") + "[[check]")
    assert pings.parts.checks.names == ["backup"]
    (line,) = lines(events, "error")
    assert "is not used, the one before stays in force" in line
    assert pings.parts.warnings() == [
        "the file of --pings has changed and is not used; the log has the reason"
    ]
    assert pings.successful == 0


def test_the_daemon_does_not_start_with_a_bad_file(pings: Pings) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        pings.parts.read(Rules())
    pings.path.write_text(check("backup") + "labels = { a = '1' }\n")
    with pytest.raises(ConfigError, match="check 1: there are more than 4 labels"):
        pings.parts.read(Rules(max_labels=4))


def test_without_the_option_there_are_no_checks() -> None:
    parts = PingParts(Inline(), Config(), Telemetry())
    parts.read(Rules())
    parts.start()
    parts.reload()
    parts.stop()
    assert (len(parts.checks), parts.warnings()) == (0, [])
