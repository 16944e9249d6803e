"""The receivers of a daemon after each change of their file: those of the file run, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from support.fake_store import logged
from support.locks_driver import Inline
from support.service_in_memory import lines
from twisted.internet.defer import Deferred, succeed

from oneshotd.access.reload import LOOK_SECONDS
from oneshotd.daemon.config import Config
from oneshotd.daemon.receivers import STOP_SECONDS, WARN_SECONDS, ReceiverParts
from oneshotd.delivery.remote_write import receiver as receiver_module
from oneshotd.delivery.remote_write import sender as sender_module
from oneshotd.delivery.remote_write.destination import Destination
from oneshotd.delivery.remote_write.figures import Figures, State
from oneshotd.delivery.remote_write.settings import ReceiverSettings
from oneshotd.errors import ConfigError
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import IStore


def receiver(name: str, **keys: str) -> str:
    texts = {"name": name, "url": f"http://127.0.0.1:9/{name}", "instance": "i", **keys}
    return "[[receiver]]\n" + "".join(f'{key} = "{text}"\n' for key, text in texts.items())


class FakeReceiver:
    """Runs until its request ends."""

    def __init__(self, settings: ReceiverSettings, *_: object, shared: bool) -> None:
        self.settings = settings
        self.figures = Figures()
        self.done: Deferred[None] = Deferred()
        self.events: list[str] = []

    def start(self) -> None:
        self.events.append("start")

    def wake(self) -> None:
        self.events.append("wake")

    def stop(self) -> Deferred[None]:
        self.events.append("stop")
        return self.done

    def abort(self) -> None:
        self.events.append("abort")
        self.done.callback(None)


class FakeSender:
    """Is closed or not."""

    host = "this host"

    def __init__(self, reactor: object, destination: Destination) -> None:
        self.closed = False

    def close(self) -> Deferred[Any]:
        self.closed = True
        return succeed(None)


class Parts:
    """The file, and the receivers that the daemon makes of it."""

    def __init__(self, folder: Path, made: list[FakeReceiver]) -> None:
        self.path = folder / "receivers.toml"
        self.reactor, self.telemetry = Inline(), Telemetry()
        self.parts = ReceiverParts(
            self.reactor, Config(receivers=str(self.path)), self.telemetry, lambda: 1e9
        )
        store = cast(IStore, object())
        self.ingest = Ingest(store, self.telemetry, self.reactor)
        self.made = made

    def start(self, text: str) -> None:
        self.path.write_text(text)
        self.parts.read()
        self.parts.start(cast(IStore, object()), self.ingest)

    def change(self, text: str) -> None:
        """Write the file, and let the daemon find the change."""
        self.path.write_text(text)
        self.reactor.advance(LOOK_SECONDS)
        self.reactor.advance(LOOK_SECONDS)

    def events(self) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        for each in self.made:
            found.setdefault(each.settings.name, []).append(each.events)
        return found

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"oneshotd_{name}", labels)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    made: list[FakeReceiver] = []

    def make(*arguments: Any, **options: Any) -> FakeReceiver:
        made.append(FakeReceiver(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(receiver_module, "Receiver", make)
    monkeypatch.setattr(sender_module, "Sender", FakeSender)
    found = Parts(tmp_path, made)
    yield found
    stopped = found.parts.stop()
    found.reactor.advance(STOP_SECONDS)
    assert stopped.called
    assert found.reactor.getDelayedCalls() == []
    assert all(each.done.called for each in made)


def test_receivers_come_and_go_with_the_file(parts: Parts) -> None:
    """A receiver would get events twice, or go on to get those that are no longer for it."""
    with logged() as events:
        parts.start(receiver("a") + receiver("b"))
        assert parts.events() == {"a": [["start"]], "b": [["start"]]}
        parts.change(receiver("a") + receiver("b", job="x") + receiver("c"))
        assert parts.events() == {"a": [["start"]], "b": [["start", "stop"]], "c": [["start"]]}
        parts.made[1].done.callback(None)
        assert parts.events()["b"] == [["start", "stop"], ["start"]]
        parts.change(receiver("a"))
        parts.parts.reload()
    told = [line.partition("again: ")[2] for line in lines(events, "info")]
    assert told == ["c added; b changed", "b, c removed", "nothing has changed"]
    assert parts.events()["a"] == [["start"]]
    assert parts.value("receivers_last_reload_successful") == 1


def test_a_changed_receiver_waits_for_its_last_request(parts: Parts) -> None:
    """Two state machines would send to one receiver."""
    parts.start(receiver("a"))
    parts.change(receiver("a", job="x"))
    parts.change(receiver("a", job="y"))
    assert parts.events() == {"a": [["start", "stop"]]}
    parts.reactor.advance(STOP_SECONDS)
    assert parts.events() == {"a": [["start", "stop", "abort"], ["start"]]}
    assert parts.made[-1].settings.job == "y"


def test_a_bad_file_leaves_the_receivers_in_force(parts: Parts) -> None:
    """A typing error would end the delivery of all events."""
    parts.start(receiver("a"))
    with logged() as events:
        parts.change(receiver("a") + "[[receiver]")
    assert parts.events() == {"a": [["start"]]}
    (line,) = lines(events, "error")
    assert "the one before stays in force" in line
    assert parts.value("receivers_last_reload_successful") == 0
    assert parts.parts.warnings() == [
        "the file of --receivers has changed and is not used; the log has the reason"
    ]


def test_a_bad_file_prevents_the_start(parts: Parts) -> None:
    parts.path.write_text("x = 1")
    with pytest.raises(ConfigError, match="there is no key 'x'"):
        parts.parts.read()


def test_events_on_disk_wake_the_receivers(parts: Parts) -> None:
    """An event would wait for the next look at the store."""
    parts.start(receiver("a"))
    assert parts.ingest.on_stored is not None
    parts.ingest.on_stored()
    assert parts.events() == {"a": [["start", "wake"]]}


def test_warnings_of_readyz(parts: Parts) -> None:
    """Nobody would know that a receiver gets nothing; or its answer would be shown to everybody."""
    parts.start(receiver("a"))
    figures = parts.made[0].figures
    assert parts.parts.warnings() == []
    figures.trouble, figures.failing_since = "HTTP 500 secret", parts.reactor.seconds()
    assert parts.parts.warnings() == []
    parts.reactor.advance(WARN_SECONDS + 1)
    assert parts.parts.warnings() == ["receiver a has taken no events for 61 s"]
    assert parts.value("receiver_failing_seconds", scraper="a") == WARN_SECONDS + 1
    assert parts.value("receiver_accepts", scraper="a") == 0
    figures.state = State.MISCONFIGURED
    assert parts.parts.warnings() == [
        "receiver a takes no events until its configuration or ours is changed; the log has its answer"
    ]
    assert parts.value("receiver_misconfigured", scraper="a") == 1
    figures.trouble, figures.failing_since, figures.state = "", None, State.STANDING_BY
    assert parts.parts.warnings() == []
    assert parts.value("receiver_accepts", scraper="a") == 1
    assert parts.value("receiver_standing_by", scraper="a") == 1
    assert parts.value("receiver_requests_total", scraper="a", result="no_answer") == 0
    assert parts.value("receiver_stale_markers_total", scraper="a", result="accepted") == 0
    assert parts.value("receiver_replayed_samples_total", scraper="a") == 0


def test_nothing_is_imported_without_receivers() -> None:
    """Every start of every daemon would take longer."""
    code = "import sys, oneshotd.daemon.service; print([n for n in sys.modules if 'remote_write' in n])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert found.stdout == b"[]\n"


def test_without_the_option_nothing_runs() -> None:
    parts = ReceiverParts(Inline(), Config(), Telemetry())
    ingest = Ingest(cast(IStore, object()), Telemetry(), Inline())
    parts.read()
    parts.start(cast(IStore, object()), ingest)
    parts.reload()
    assert ingest.on_stored is None
    assert parts.warnings() == []
    assert parts.stop().called
