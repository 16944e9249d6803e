"""How much goes to a scraper at a time: less than usual, if it did not take the last response.

A scraper on a slow line, or one with a `body_size_limit`, that cannot take a full response would
get the same one with each scrape, and never an event. So what follows a response that did not
arrive is half as large, and grows again once some have.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from attrs import define, evolve

from oneshotd.core.events import Sample
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.sampling.suspects import LARGEST

#: Samples that are asked of every scraper: where it fails with those, too, the fault is searched for
#: in them; and bytes, twice the largest event.
LEAST_SAMPLES, LEAST_BYTES = LARGEST, 2**20

#: Deliveries after which the next response may be twice as large: where that is too much again,
#: one scrape in so many fails while there is a backlog.
DELIVERIES_BEFORE_GROWTH = 8


@define
class _Step:
    samples: int
    arrived: int = 0


class ResponseSizeController:
    """The caps of each scraper, from how its last responses ended; in memory only."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._steps: dict[str, _Step] = {}

    def caps(self, scraper: str) -> Caps:
        """Those of its next response."""
        step = self._steps.get(scraper)
        if step is None:
            return self._caps
        share = self._caps.bytes * step.samples // self._caps.samples
        return evolve(self._caps, samples=step.samples, bytes=min(self._caps.bytes, max(LEAST_BYTES, share)))

    def failed(self, scraper: str, samples: Sequence[Sample]) -> None:
        """A response with these samples came back."""
        if len(samples) > LEAST_SAMPLES:
            self._steps[scraper] = _Step(max(LEAST_SAMPLES, len(samples) // 2))
        elif sum(len(sample.series) for sample in samples) > LEAST_BYTES:  # a few large ones
            self._steps[scraper] = _Step(LEAST_SAMPLES)

    def arrived(self, scraper: str) -> None:
        """A response was delivered."""
        step = self._steps.get(scraper)
        if step is None:
            return
        step.arrived += 1
        if step.arrived >= DELIVERIES_BEFORE_GROWTH:
            step.samples, step.arrived = 2 * step.samples, 0
        if step.samples >= self._caps.samples:
            del self._steps[scraper]

    def keep(self, scrapers: Container[str]) -> None:
        """Forget all others."""
        self._steps = {name: step for name, step in self._steps.items() if name in scrapers}
