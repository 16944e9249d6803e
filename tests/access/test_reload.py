"""A configuration file is read again when it changes, not too early, and never taken if it is bad."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_store import logged
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from oneshotd.access.reload import LOOK_SECONDS, RETRY_SECONDS, ReloadedFile, read, signature
from oneshotd.errors import ConfigError


class Pair:
    """A configuration whose first line names another file; both have to end with the same word."""

    def __init__(self, folder: Path) -> None:
        self.main, self.other = folder / "main", folder / "other"
        self.clock = Clock()
        self.taken: list[str] = []
        self.readings = 0
        self.refuses: str | None = None
        self.thread: list[tuple[Deferred[Any], Callable[[], Any]]] | None = None
        self.write("one")
        self.file = ReloadedFile(
            what="the file",
            path=self.main,
            load=self.load,
            take=self.take,
            clock=self.clock,
            in_thread=self.in_thread,
            now=lambda: 1000.0 + self.clock.seconds(),
        )

    def write(self, word: str, other: str | None = None) -> None:
        for path, text in ((self.main, word), (self.other, word if other is None else other)):
            path.write_text(f"{self.other}\n{text}")

    def load(self) -> tuple[str, Iterable[Path]]:
        self.readings += 1
        try:
            name, _, word = self.main.read_text().partition("\n")
            other = Path(name).read_text().rpartition("\n")[2]
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from None
        if word != other:
            raise ConfigError(f"{self.main}: {word} and {other} are no pair")
        return word, (self.main, Path(name))

    def take(self, value: str) -> str:
        if self.refuses is not None:
            raise ConfigError(self.refuses)
        changes = "" if [value] == self.taken[-1:] else f"the word is {value}"
        self.taken.append(value)
        return changes

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        if self.thread is None:
            return maybeDeferred(call, *arguments)
        waiting: Deferred[Any] = Deferred()
        self.thread.append((waiting, lambda: call(*arguments)))
        return waiting

    def end_thread(self) -> None:
        """Let the readings that are under way end."""
        assert self.thread is not None
        waiting, self.thread = self.thread, []
        for deferred, call in waiting:
            deferred.callback(call())

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(LOOK_SECONDS)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    made.taken.append(made.file.first())
    made.file.start()
    yield made
    made.file.stop()
    assert made.clock.getDelayedCalls() == []


def lines(events: list[LogEvent], level: str) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"].name == level]


def test_a_bad_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    """The daemon would start without its locks."""
    made = Pair(tmp_path)
    made.write("one", "two")
    with pytest.raises(ConfigError, match="one and two are no pair"):
        made.file.first()


def test_files_that_stay_the_same_are_not_read_again(pair: Pair) -> None:
    """The daemon would parse its files every second."""
    pair.look(100)
    assert pair.taken == ["one"] and pair.readings == 2, "twice at the start: the first pass finds the files"


@pytest.mark.parametrize("which", ["main", "other"])
def test_each_change_is_read_when_the_files_rest(pair: Pair, which: str) -> None:
    """A new password, or a new certificate, would need a restart."""
    with logged() as events:
        pair.write("two")
        pair.look()
        assert pair.taken == ["one"]
        pair.look()
        assert pair.taken == ["one", "two"]
        getattr(pair, which).touch()
        os.utime(getattr(pair, which), ns=(1, 1))
        pair.look(2)
    assert lines(events, "info") == [
        "the file was read again: the word is two",
        "the file was read again: nothing has changed",
    ]
    assert lines(events, "error") == []
    assert pair.file.taken_at == 1000.0 + pair.clock.seconds()


def test_a_file_that_is_being_written_is_not_read(pair: Pair) -> None:
    """Half of a file would be read: users would be missing, or an error would be logged for each change."""
    for size in range(10):
        pair.write("two"[:1] + "x" * size)
        pair.look()
    assert pair.taken == ["one"]
    pair.look(2)
    assert pair.taken == ["one", "xxxxxxxxx".join(["t", ""])]


def test_a_bad_file_leaves_the_old_one_in_force_until_it_is_good(pair: Pair) -> None:
    """A typing error would open the daemon, or stop it."""
    with logged() as events:
        pair.write("two", "three")
        pair.look(2)
        assert pair.taken == ["one"]
        assert pair.file.problem is not None and "two and three" in pair.file.problem
        assert pair.file.taken_at == 1000.0
        pair.write("two", "two")
        pair.look(2)
    assert pair.taken == ["one", "two"] and pair.file.problem is None
    (line,) = lines(events, "error")
    assert line.startswith("the file was read again and is not used, the one before stays in force: ")


def test_a_value_that_cannot_be_put_in_force_is_refused_like_a_bad_file(pair: Pair) -> None:
    """A change that needs a restart would be half in force."""
    pair.refuses = "needs a restart"
    with logged() as events:
        pair.write("two")
        pair.look(2)
        pair.look(int(3 * RETRY_SECONDS))
    assert pair.file.problem == "needs a restart"
    assert len(lines(events, "error")) == 1, "the log would have a line for each retry"
    pair.refuses = None
    pair.look(int(RETRY_SECONDS))
    assert pair.taken == ["one", "two"] and pair.file.problem is None


def test_a_pair_that_is_replaced_one_after_the_other_breaks_nothing(pair: Pair) -> None:
    """Each renewal of a certificate would be an alert."""
    with logged() as events:
        pair.other.write_text("two")
        pair.look()
        pair.write("two")
        pair.look(2)
    assert pair.taken == ["one", "two"]
    assert lines(events, "error") == []


def test_files_are_replaced_by_rename_and_by_links(pair: Pair, tmp_path: Path) -> None:
    """A new Kubernetes secret, or a file written by an editor, would not be noticed."""
    for number in ("a", "b", "c"):
        version = tmp_path / number
        version.mkdir()
        (version / "main").write_text(f"{tmp_path / 'data' / 'other'}\n{number}")
        (version / "other").write_text(number)
    (tmp_path / "data").symlink_to("a")
    pair.main.unlink()
    pair.main.symlink_to(Path("data") / "main")
    pair.look(2)
    assert pair.taken == ["one", "a"]
    for number in ("b", "c"):
        (tmp_path / "next").symlink_to(number)
        (tmp_path / "next").rename(tmp_path / "data")
        pair.look(2)
    assert pair.taken == ["one", "a", "b", "c"]
    (tmp_path / "new").write_text(f"{tmp_path / 'data' / 'other'}\nc")
    (tmp_path / "new").rename(pair.main)
    pair.look(2)
    assert pair.taken == ["one", "a", "b", "c", "c"]


def test_a_file_that_is_gone_leaves_the_old_one_in_force(pair: Pair) -> None:
    """An unmounted folder would open the daemon."""
    with logged() as events:
        pair.main.unlink()
        pair.look(2)
        assert pair.file.problem is not None and "No such file" in pair.file.problem
        pair.look(int(2 * RETRY_SECONDS))
        pair.write("one")
        pair.look(2)
    assert pair.file.problem is None
    assert len(lines(events, "error")) == 1


def test_a_file_that_the_new_one_names_and_that_comes_later_is_read(pair: Pair, tmp_path: Path) -> None:
    """A configuration that was written before its certificate would need another change."""
    pair.main.write_text(f"{tmp_path / 'later'}\ntwo")
    pair.look(2)
    assert pair.taken == ["one"]
    (tmp_path / "later").write_text("two")
    pair.look(int(RETRY_SECONDS) + 1)
    assert pair.taken == ["one", "two"]
    assert set(pair.file.files) == {pair.main, tmp_path / "later"}


def test_a_change_during_the_reading_is_read_afterwards(pair: Pair) -> None:
    """The daemon would keep a certificate with the key of another, and not notice."""
    pair.thread = []
    pair.write("two")
    pair.look(2)
    (waiting,) = pair.thread
    value = waiting[1]()
    pair.write("three")
    pair.thread = []
    waiting[0].callback(value)
    assert pair.taken == ["one", "two"]
    pair.look(2)
    pair.end_thread()
    assert pair.taken == ["one", "two", "three"]


def test_a_reading_that_is_asked_for_is_at_once_and_never_lost(pair: Pair) -> None:
    """SIGHUP would be without effect while the file is read."""
    pair.thread = []
    pair.file.ask()
    pair.file.ask()
    pair.file.ask()
    assert len(pair.thread) == 1
    pair.end_thread()
    assert len(pair.thread) == 1, "what was asked for meanwhile"
    pair.end_thread()
    assert pair.thread == []
    assert pair.taken == ["one", "one", "one"]


def test_a_reading_that_is_asked_for_says_each_time_why_it_failed(pair: Pair) -> None:
    """An operator who sends SIGHUP would read no answer in the log."""
    pair.write("two", "three")
    with logged() as events:
        for _ in range(3):
            pair.file.ask()
    assert len(lines(events, "error")) == 3


def test_a_reading_that_ends_after_the_stop_has_no_effect(pair: Pair) -> None:
    """Objects would be used that are closed."""
    pair.thread = []
    pair.write("two")
    pair.file.ask()
    pair.file.stop()
    pair.end_thread()
    assert pair.taken == ["one"]
    pair.file.ask()
    assert pair.thread == []


def test_a_fault_of_the_program_does_not_end_the_looking(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one bug no certificate would be renewed."""

    def fail(value: str) -> str:
        raise ZeroDivisionError(value)

    with logged() as events, monkeypatch.context() as patch:
        patch.setattr(pair.file, "_take", fail)
        pair.write("two")
        pair.look(2)
        pair.look(int(3 * RETRY_SECONDS))
    assert lines(events, "critical") == ["reading the file again"]
    assert pair.file.problem is not None
    pair.look(int(RETRY_SECONDS))
    assert pair.taken == ["one", "two"] and pair.file.problem is None


def test_a_reading_whose_files_move_says_so(tmp_path: Path) -> None:
    """Half of the files would be of the new version, half of the old one."""
    file = tmp_path / "file"
    file.write_text("one")

    def load() -> tuple[str, list[Path]]:
        text = file.read_text()
        file.write_text(text + "x")
        return text, [file]

    assert read(load, [file]).moving
    assert not read(lambda: ("one", [file]), [file]).moving


def test_the_signature_changes_with_the_permissions(tmp_path: Path) -> None:
    """A key that was made readable would not be read."""
    file = tmp_path / "file"
    assert signature(file) is None
    file.write_text("one")
    before = signature(file)
    file.chmod(0o600)
    assert signature(file) != before
    assert signature(Path("a\0b")) is None
