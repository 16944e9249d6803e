"""A receiver that keeps to the rules of a Prometheus as it is configured by default.

The newest sample of a series again is no change; an older one, or another value at the same time, is refused
with its whole request; so is anything an hour older than the newest sample of all, or ten minutes ahead.
"""

from __future__ import annotations

from collections.abc import Callable

from support.remote_write_reader import STALE, Series, read

HOUR, AHEAD = 3_600_000, 600_000

#: Series text -> (bits of the value, Unix ms), ascending by time.
Samples = dict[str, list[tuple[int, int]]]


class SimulatedPrometheus:
    """The receiver.

    :ivar bad: metric names whose samples it refuses.
    :ivar status: of the answer to a request with one of them.
    :ivar requests: how many requests it has read.
    :ivar refused: how many of them it has refused.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.bad: set[str] = set()
        self.status = 400
        self.requests = 0
        self.refused = 0
        self.samples: Samples = {}
        self._now = now
        self._newest = 0

    def receive(self, body: bytes) -> int:
        """Store a request, or refuse it whole; return the status of the answer."""
        status = self._receive(body)
        self.requests += 1
        self.refused += status != 204
        return status

    def _receive(self, body: bytes) -> int:
        new: list[tuple[str, tuple[int, int]]] = []
        series = read(body)
        names = [name_of(each) for each in series]
        assert len(set(names)) == len(names), "a request has one sample of a series"
        assert len({bits == STALE for each in series for bits, _ in each.samples}) <= 1, "markers go alone"
        for name, each in zip(names, series, strict=True):
            [(bits, at)] = each.samples
            assert at <= self._now(), "a sample has a time to come"
            if dict(each.labels)["__name__"] in self.bad:
                return self.status
            if at < self._newest - HOUR or at > self._now() + AHEAD:
                return 400
            newest = self.samples.get(name, [(0, 0)])[-1]
            if at < newest[1] or (at == newest[1] and bits != newest[0]):
                return 400
            if at > newest[1]:
                new.append((name, (bits, at)))
        for name, sample in new:
            self.samples.setdefault(name, []).append(sample)
            self._newest = max(self._newest, sample[1])
        return 204

    def times(self, metric: str) -> list[int]:
        """Return the times (Unix ms) of the events of a metric without labels of its own."""
        return [at for bits, at in self.samples.get(metric, []) if bits != STALE]

    def marked(self, metric: str) -> list[int]:
        """Return the times of its stale markers."""
        return [at for bits, at in self.samples.get(metric, []) if bits == STALE]


def name_of(series: Series) -> str:
    """Return a series as text, without the labels that the daemon adds."""
    labels = dict(series.labels)
    assert labels.pop("job") == "oneshotd" and labels.pop("instance") == "edge-1:8090"
    name = labels.pop("__name__")
    return name + "".join(f",{key}={value}" for key, value in labels.items())
