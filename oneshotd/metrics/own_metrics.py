"""The daemon's own metrics as part of a response: as many families as there is room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.samples import Sample

from oneshotd.core.negotiation import Format
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits

#: The end of a response in OpenMetrics (openmetrics.io, "ABNF").
EOF = b"# EOF\n"


@frozen
class _Family:
    """One family as it is written, and its samples."""

    text: bytes
    samples: Sequence[Sample]


class OwnMetrics:
    """The families of a registry in one format.

    :param families: what may be left out first comes last.
    """

    def __init__(self, registry: CollectorRegistry, format: Format) -> None:
        self.end = EOF if format is Format.OPENMETRICS else b""
        self._families = list(_written(registry.collect(), format))

    def within(self, limits: ScrapeLimits) -> tuple[bytes, int]:
        """The text of the first families that fit together, and how many samples they have.

        A family with a series that is beyond a label limit is left out. After the first one that
        finds no room there are no others: what follows is worth less, by the order of families.
        """
        room = limits.less(0, len(self.end))
        parts: list[bytes] = []
        taken = 0
        for family in self._families:
            if _label_fault(family, limits):
                continue
            if _beyond(len(family.samples), room.samples) or _beyond(len(family.text), room.body):
                break
            if limits is not NO_LIMITS:
                room = room.less(len(family.samples), len(family.text))
            parts.append(family.text)
            taken += len(family.samples)
        return b"".join([*parts, self.end]), taken

    def beyond(self, limits: ScrapeLimits) -> tuple[str, ...]:
        """The limits that keep some of the families out of a response without events."""
        if limits is NO_LIMITS:
            return ()
        faults = [_label_fault(family, limits) for family in self._families]
        fitting = [family for family, fault in zip(self._families, faults, strict=True) if fault is None]
        found = {fault for fault in faults if fault is not None}
        if _beyond(sum(len(family.samples) for family in fitting), limits.samples):
            found.add("sample_limit")
        if _beyond(len(self.end) + sum(len(family.text) for family in fitting), limits.body):
            found.add(limits.body_name)
        return tuple(sorted(found))


def _written(families: Iterable[Metric], format: Format) -> Iterator[_Family]:
    write = openmetrics_latest if format is Format.OPENMETRICS else generate_latest
    for family in families:
        if family.samples:
            yield _Family(write(_One(family)).removesuffix(EOF), family.samples)


def _label_fault(family: _Family, limits: ScrapeLimits) -> str | None:
    if limits is NO_LIMITS:
        return None
    faults = (limits.label_fault(sample.name, sample.labels) for sample in family.samples)
    return next((fault for fault in faults if fault is not None), None)


def _beyond(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit


class _One:
    """As much of a registry as `generate_latest` needs, with one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
