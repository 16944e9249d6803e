"""How many connections there can be where file descriptors are few."""

from __future__ import annotations

import resource

import pytest
from support.fake_store import logged
from twisted.logger import formatEvent

from oneshotd.daemon.sockets import SPARE_DESCRIPTORS, affordable

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "expected", "raised"),
    [
        ((1024, 524_288), 1000, (1000 + SPARE_DESCRIPTORS, 524_288)),  # systemd's default
        ((1024, INFINITE), 1000, (1000 + SPARE_DESCRIPTORS, INFINITE)),
        ((65_536, 65_536), 1000, None),
        ((INFINITE, INFINITE), 1000, None),
        ((1024, 1024), 512, (1024, 1024)),
        ((256, 600), 300, (600, 600)),
        ((100, 100), 50, (100, 100)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_there_are_as_many_connections_as_descriptors_allow(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    expected: int,
    raised: tuple[int, int] | None,
) -> None:
    """A daemon that runs out of them can accept nobody, nor open its store again."""
    new: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, to: new.append(to))
    with logged() as events:
        assert affordable(1000) == expected
    assert new == ([] if raised is None else [raised])
    lines = [formatEvent(event) for event in events]
    assert len(lines) == (expected < 1000)
    assert all(f"at most {expected} connections instead of 1000" in line for line in lines)


def test_who_asks_for_few_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """No warning about a limit that does not matter."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with logged() as events:
        assert affordable(20) == 20
    assert events == []
