"""Make a scraper's responses smaller after one that did not arrive, and larger again after some that did.

A scraper on a slow connection, or one with a `body_size_limit`, that cannot take a full response would
get the same response at each scrape, and never an event. So the response after a failed one is half as
large; after `DELIVERIES_BEFORE_GROWTH` deliveries the size doubles.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from attrs import define, evolve

from oneshotd.core.events import Sample
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.sampling.suspects import LARGEST

#: Lower bounds of a response: samples, below which the fault is searched for in the samples themselves
#: (`core/sampling/suspects.py`), and bytes, twice the largest event.
LEAST_SAMPLES, LEAST_BYTES = LARGEST, 2**20

#: Deliveries before the size doubles. If the doubled size is too large again, one scrape in so many
#: fails while there is a backlog.
DELIVERIES_BEFORE_GROWTH = 8


@define
class _Step:
    samples: int
    arrived: int = 0


class ResponseSizeController:
    """Keeps the size limits of each scraper, from how its last responses ended; in memory only."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._steps: dict[str, _Step] = {}

    def caps(self, scraper: str) -> Caps:
        """Return the size limits for this scraper's next response."""
        step = self._steps.get(scraper)
        if step is None:
            return self._caps
        share = self._caps.bytes * step.samples // self._caps.samples
        return evolve(self._caps, samples=step.samples, bytes=min(self._caps.bytes, max(LEAST_BYTES, share)))

    def failed(self, scraper: str, samples: Sequence[Sample]) -> None:
        """Halve the next response after one with these samples that did not arrive."""
        if len(samples) > LEAST_SAMPLES:
            self._steps[scraper] = _Step(max(LEAST_SAMPLES, len(samples) // 2))
        elif sum(len(sample.series) for sample in samples) > LEAST_BYTES:  # few samples, some of them large
            self._steps[scraper] = _Step(LEAST_SAMPLES)

    def arrived(self, scraper: str) -> None:
        """Count a delivery; double the size after `DELIVERIES_BEFORE_GROWTH`."""
        step = self._steps.get(scraper)
        if step is None:
            return
        step.arrived += 1
        if step.arrived >= DELIVERIES_BEFORE_GROWTH:
            step.samples, step.arrived = 2 * step.samples, 0
        if step.samples >= self._caps.samples:
            del self._steps[scraper]

    def keep(self, scrapers: Container[str]) -> None:
        """Forget all scrapers but these."""
        self._steps = {name: step for name, step in self._steps.items() if name in scrapers}
