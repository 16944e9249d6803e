"""How the events of the campaign are named, so that each is known again when it is read.

An event is a *counted* one (no value; several of one series become one sample) or a *valued* one
(a sample of its own). Its *identity* is ``sender/n`` or ``sender/n=value``; its *amount* is how
often it was sent, or what the sample counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from attrs import frozen

COUNTED, VALUED = "soak", "soak_value"

#: What a line without a metric name becomes, where a daemon takes a foreign one.
FOREIGN = "events_to_metrics{"

#: Begins the name of senders whose lines one scraper refuses.
ODD = "odd"

_ODD_LABEL = f'sender="{ODD}-'.encode()
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')

_SAMPLE = re.compile(rf'({COUNTED}|{VALUED})\{{n="([0-9]+)",(?:pad="x+",)?sender="([^"]+)"\}} (\S+)')
_OWN = re.compile(r"(process_start_time_seconds|oneshotd_udp_kernel_drops_total) (\S+)")


class Unreadable(Exception):
    """A response that breaks the format, or shows what was never sent."""


@frozen(kw_only=True)
class Mark:
    """One event.

    :param n: numbers the series of a sender.
    :param value: ascending within a series, as the samples have to come in this order.
    :param pad: length of a label that makes the response larger, bytes.
    """

    sender: str
    n: int
    value: int | None = None
    pad: int = 0

    @property
    def identity(self) -> str:
        """What it is in the books."""
        series = f"{self.sender}/{self.n}"
        return series if self.value is None else f"{series}={self.value}"

    def fields(self) -> dict[str, str]:
        """The event as the doors take it."""
        fields = {"__name__": COUNTED, "sender": self.sender, "n": str(self.n)}
        if self.value is not None:
            fields |= {"__name__": VALUED, "value": str(self.value)}
        if self.pad:
            fields["pad"] = "x" * self.pad
        return fields

    def line(self) -> str:
        """The event in the query-string form."""
        return urlencode(self.fields())


@frozen(kw_only=True)
class Reading:
    """What one response shows.

    :param process: which daemon process it came from: its start time, as it says itself.
    :param amounts: identity -> how many.
    :param kernel_drops: datagrams dropped so far by the kernel, as that process says.
    :param at: monotonic seconds at which it was read.
    :param samples: lines that are no comments.
    """

    process: str
    amounts: Mapping[str, int]
    kernel_drops: int = 0
    at: float = 0.0
    samples: int = 0

    @property
    def events(self) -> int:
        """How many events it stands for."""
        return sum(self.amounts.values())


def is_odd(identity: str) -> bool:
    """Whether a scraper may refuse this event."""
    return identity.startswith(f"{ODD}-")


def has_odd_line(data: bytes) -> bool:
    """Whether one of the whole lines is of an event that a scraper may refuse."""
    return data.find(_ODD_LABEL, 0, data.rfind(b"\n") + 1) >= 0


def labels(series: str) -> Mapping[str, str]:
    """The labels of one of the daemon's own series."""
    return dict(_LABEL.findall(series))


def glimpse(data: bytes) -> dict[str, int]:
    """Identity -> how many, of the whole lines in what came of a response."""
    found = {}
    for line in data.decode(errors="replace").splitlines(keepends=True):
        sample = _SAMPLE.fullmatch(line.rstrip("\n")) if line.endswith("\n") else None
        if sample is not None:
            name, n, sender, value = sample.groups()
            series = f"{sender}/{n}"
            found[series if name == COUNTED else f"{series}={value}"] = int(value) if name == COUNTED else 1
    return found


def read(body: bytes, at: float, *, names_process: bool = True) -> Reading:
    """Read a response as strictly as a scraper that trusts nobody.

    :param names_process: whether it must say which process it is from; in a cluster it need not.
    :raises Unreadable: with what is wrong.
    """
    amounts: dict[str, int] = {}
    own: dict[str, str] = {}
    if not body.endswith(b"\n"):
        raise Unreadable(f"the last line is cut: {body[-80:]!r}")
    lines = body.decode().splitlines()
    for line in lines:
        if line.startswith(COUNTED):
            sample = _SAMPLE.fullmatch(line)
            if sample is None:
                raise Unreadable(f"not a sample that was sent: {line[:200]!r}")
            name, n, sender, value = sample.groups()
            series = f"{sender}/{n}"
            identity, amount = (series, int(value)) if name == COUNTED else (f"{series}={value}", 1)
            if identity in amounts:
                raise Unreadable(f"twice in one response: {line[:200]!r}")
            amounts[identity] = amount
        elif found := _OWN.fullmatch(line):
            own[found[1]] = found[2]
        elif line.startswith(FOREIGN):
            raise Unreadable(f"a foreign line was taken for an event: {line[:200]!r}")
    if names_process and "process_start_time_seconds" not in own:
        raise Unreadable("the response does not say which process it is from")
    return Reading(
        process=own.get("process_start_time_seconds", "?"),
        amounts=amounts,
        kernel_drops=int(float(own.get("oneshotd_udp_kernel_drops_total", "0"))),
        at=at,
        samples=sum(not line.startswith("#") for line in lines),
    )
