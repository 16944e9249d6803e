"""The doors: what the status page and the metrics say of each."""

from __future__ import annotations

import pytest

from oneshotd.metrics.doors import MAX_TEXT, SOURCES, Doors, DoorUse, LastRefusal


def doors(*hooks: str) -> Doors:
    made = Doors(lambda: 1.5)
    made.hooks = lambda: hooks
    return made


def refusals(found: Doors) -> dict[str, str]:
    return {use.source: use.refusal.text for use in found.report() if use.refusal is not None}


def test_each_door_is_listed_before_it_has_been_used() -> None:
    """A rate of a counter that appears with its first event misses that event."""
    found = doors("ci", "deploys")
    assert found.accepted() == dict.fromkeys((*SOURCES, "hook/ci", "hook/deploys"), 0)
    assert found.report()[0] == DoorUse(source="http", accepted=0)


def test_a_hook_that_is_removed_keeps_its_count() -> None:
    """The counter would vanish, or a commit that ends after the removal would fail."""
    found = doors("ci")
    found.accept("hook/ci", 2)
    found.hooks = tuple
    found.accept("hook/ci", 1)
    found.accept("hook/never-listed", 1)
    assert found.accepted()["hook/ci"] == 3 and found.accepted()["hook/never-listed"] == 1


@pytest.mark.parametrize("source", ["", "tcp", "hooks/ci"])
def test_what_is_no_door_is_a_fault_of_the_program(source: str) -> None:
    with pytest.raises(KeyError):
        doors("ci").accept(source, 1)


def test_the_last_refusal_of_each_door_is_kept() -> None:
    found = doors("ci")
    for path in (b"/event", b"/events", b"/hook/ci"):
        found.refuse_path(path, "first")
        found.refuse_path(path, f"at {path.decode()}")
    found.refuse("udp", "x" * 1000)
    assert refusals(found) == {
        "http": "at /event",
        "http_bulk": "at /events",
        "hook/ci": "at /hook/ci",
        "udp": "x" * MAX_TEXT,
    }
    assert found.report()[0].refusal == LastRefusal(text="at /event", at=1500)


@pytest.mark.parametrize(
    "path", [b"/", b"/metrics", b"/event/", b"/hook/", b"/hook/none", b"/hook/\xff", b""]
)
def test_strangers_make_no_doors(path: bytes) -> None:
    """Each invented name would stay in memory, and on the page."""
    found = doors("ci")
    found.refuse_path(path, "no")
    assert refusals(found) == {} and len(found.report()) == len(SOURCES) + 1
