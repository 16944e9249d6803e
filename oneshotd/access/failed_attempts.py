"""The limit of failed attempts of an address: guessing passwords takes for ever, and costs little."""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime

from oneshotd.errors import Refused

#: Failed attempts that an address has at once, and seconds until it has a further one. A person who
#: mistypes stays below; a guesser has 14,400 attempts a day.
BURST, SECONDS_PER_ATTEMPT = 10, 6.0

#: Addresses that are remembered; beyond them, the one whose last failure is the oldest is forgotten.
MAX_ADDRESSES = 10_000

#: Bits of an IPv6 address that its owner cannot choose (RFC 6177 gives a site at least these).
_PREFIX = 64


class FailedAttempts:
    """Counts failed attempts by address, and tells which address has to wait."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # Network -> reactor seconds at which all its attempts are given back.
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """Check that this address has an attempt left.

        :raises Refused: with the seconds to wait (429).
        """
        wait = self.wait(address)
        if wait > 0:
            seconds = math.ceil(wait)
            raise Refused(
                f"too many wrong credentials came from this address: try again in {seconds} s",
                reason="rate",
                status=429,
                retry_after=seconds,
            )

    def wait(self, address: str) -> float:
        """Return the seconds until this address has an attempt left; 0 or less: it has one."""
        now = self._clock.seconds()
        return self._whole_at.get(attempts_key(address), now) - now - (BURST - 1) * SECONDS_PER_ATTEMPT

    def failed(self, address: str) -> None:
        """Count a failed attempt."""
        now, key = self._clock.seconds(), attempts_key(address)
        whole_at = max(self._whole_at.get(key, now), now) + SECONDS_PER_ATTEMPT
        self._whole_at[key] = min(whole_at, now + BURST * SECONDS_PER_ATTEMPT)
        self._whole_at.move_to_end(key)
        if len(self._whole_at) > MAX_ADDRESSES:
            self._whole_at.popitem(last=False)

    def __len__(self) -> int:
        return len(self._whole_at)


def attempts_key(address: str) -> str:
    """Return what shares the attempts of this address: for IPv6 its network of 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:  # "unix"
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(IPv6Address(int(parsed) >> _PREFIX << _PREFIX))
