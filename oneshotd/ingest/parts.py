"""Divides a large group into parts that are stored one after the other. Pure.

A commit of 10,000 events with keys takes a store some 150 ms, for which a scrape waits. Parts give up that a
group is stored as a whole or not at all, so only groups are divided in which each event has a key: a client
that is refused in between sends all of it again, and what was stored is a duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from oneshotd.core.events import Group
from oneshotd.store.interface import Stored

#: Events of a part.
PART = 500


def parts_of(group: Group, most: int = PART) -> Sequence[Group]:
    """Return the parts of a group, in order; itself alone if it is small or may not be divided.

    :param most: events of a part.
    """
    events = group.events
    if len(events) <= most or group.key is not None or not group.keys_decide:
        return [group]
    if any(event.key is None for event in events):
        return [group]
    return [
        evolve(
            group,
            events=events[start : start + most],
            states=[
                evolve(each, event=each.event - start)
                for each in group.states
                if start <= each.event < start + most
            ],
        )
        for start in range(0, len(events), most)
    ]


def sum_of(answers: Sequence[Stored]) -> Stored:
    """Return the answer for a group from those for its parts."""
    firsts = [each.first for each in answers if each.first]
    return Stored(
        stored=sum(each.stored for each in answers),
        duplicates=sum(each.duplicates for each in answers),
        first=min(firsts, default=0),
        again=all(each.again for each in answers),
    )
