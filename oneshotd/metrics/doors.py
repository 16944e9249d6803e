"""The doors by which events arrive: how many each has brought, and what it has refused last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen

#: The doors of every daemon, as values of the label ``source``; and, for each hook, its name behind `HOOK`.
SOURCES = ("http", "http_bulk", "udp", "dogstatsd", "annotations", "ping")
HOOK = "hook/"

_PATHS: Mapping[bytes, str] = {
    b"/event": "http",
    b"/events": "http_bulk",
    b"/events/": "annotations",
    b"/api/annotations": "annotations",
    b"/api/annotations/graphite": "annotations",
}

#: What follows these is a secret.
_PINGS = (b"/ping/", b"/p/")

#: Characters of a refusal that are kept.
MAX_TEXT = 500


@frozen(kw_only=True)
class LastRefusal:
    """The newest refusal at a door.

    :param at: Unix ms.
    """

    text: str
    at: int


@frozen(kw_only=True)
class DoorUse:
    """What a door has done since the start.

    :param source: its name in the metrics.
    :param accepted: events that are on disk.
    """

    source: str
    accepted: int
    refusal: LastRefusal | None = None


class Doors:
    """Counts accepted events by door, and keeps the last refusal of each.

    :param wall: returns Unix seconds.
    :ivar hooks: returns the names of the hooks that exist. What a hook has counted stays when it is removed.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.hooks: Callable[[], Iterable[str]] = tuple
        self._wall = wall
        self._accepted = dict.fromkeys(SOURCES, 0)
        self._last: dict[str, LastRefusal] = {}

    def accept(self, source: str, n: int) -> None:
        """Count `n` events that are on disk.

        :param source: one of `SOURCES`, or that of a hook; a hook may have been removed meanwhile.
        """
        if source not in self._accepted and source.startswith(HOOK):
            self._accepted[source] = 0
        self._accepted[source] += n

    def refuse(self, source: str, text: str) -> None:
        """Keep the text of a refusal at a door."""
        self._last[source] = LastRefusal(text=text[:MAX_TEXT], at=int(self._wall() * 1000))

    def refuse_path(self, path: bytes, text: str) -> None:
        """Keep the text of a refusal at the door with this path; other paths are no doors.

        :param path: without its query.
        """
        source = _PATHS.get(path)
        if source is None and path.startswith(b"/hook/"):
            name = path.removeprefix(b"/hook/").decode("latin-1")
            source = f"{HOOK}{name}" if name in self.hooks() else None
        elif path.startswith(_PINGS):
            source = "ping"
        if source is not None:
            self.refuse(source, text)

    def accepted(self) -> Mapping[str, int]:
        """Return the numbers of accepted events by door; each hook has one."""
        for name in self.hooks():
            self._accepted.setdefault(f"{HOOK}{name}", 0)
        return self._accepted

    def report(self) -> Sequence[DoorUse]:
        """Return all doors, hooks after the others."""
        return [
            DoorUse(source=source, accepted=accepted, refusal=self._last.get(source))
            for source, accepted in self.accepted().items()
        ]
