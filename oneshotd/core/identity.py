"""The identity and the deadline of a scrape request (docs/scraping.md).

A scraper is known by the name it gives, else by its address and the product in its User-Agent;
neither port nor version, which change under a scraper that stays the same. An unnamed identity
has a space in it, which no given name can have, so neither can be taken for the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from ipaddress import ip_address

from attrs import frozen

from oneshotd.core.networks import UNIX, UNIX_HOP, client_address
from oneshotd.errors import Refused

#: Answered scrapes after which events are kept for an unnamed scraper.
LIVE_AFTER = 3

#: Identities known at a time; an unknown one beyond gets the daemon's own metrics only.
MAX_SCRAPERS = 200

#: Events read from the store for one response. Above `sampling.plan.Caps.owed`, so that a scraper
#: with as many owed events still reads new ones.
MAX_PENDING = 100_000

#: Seconds that a scraper may take for one scrape: the least, the most, and the default.
#: Prometheus' own default is 10 s, and a timeout is at most the scrape interval.
MIN_DEADLINE, MAX_DEADLINE, DEFAULT_DEADLINE = 1.0, 120.0, 30.0

_NAME = re.compile(r"[A-Za-z0-9._:@/-]{1,64}")
_SHOWN = 80

#: The first product of a User-Agent (RFC 9110, 10.1.5), its name cut to 40 characters.
_PRODUCT = re.compile(rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40})[!#$%&'*+.^_`|~0-9A-Za-z-]*(?=[/\s]|\Z)")

#: An address with a port, as some proxies write hops: IPv4, or IPv6 in brackets (port or not).
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([^\[\]]+)\](?::[0-9]+)?")


@frozen(kw_only=True)
class Visit:
    """The identity of a scrape request.

    :param name: the scraper's identity.
    :param named: the request has ``?scraper=``; events are kept for the scraper from its first scrape on.
    :param timed: the request carried X-Prometheus-Scrape-Timeout-Seconds.
    """

    name: str
    named: bool = False
    timed: bool = False


def identify(*, scraper: str | None, user_agent: bytes | None, address: str, timed: bool) -> Visit:
    """Return the identity of a scrape request.

    :param scraper: the ``?scraper=`` parameter, None where there is none.
    :param user_agent: the User-Agent header as received.
    :param address: the client's, normalised (`client_address`), without port.
    :param timed: the request carries X-Prometheus-Scrape-Timeout-Seconds.
    :raises Refused: `scraper` is no name.
    """
    if scraper is None:
        return Visit(name=f"{address} {product(user_agent)}", timed=timed)
    if not _NAME.fullmatch(scraper):
        raise Refused(
            f"scraper: expected 1 to 64 characters of A-Z a-z 0-9 . _ : @ / -, got {scraper[:_SHOWN]!a}",
            reason="query",
        )
    return Visit(name=scraper, named=True, timed=timed)


def product(user_agent: bytes | None) -> str:
    """Return the first product of a User-Agent; "unknown" without one."""
    found = _PRODUCT.match(user_agent or b"")
    return found[1].decode("ascii") if found else "unknown"


def forwarded_client(
    peer: str, x_forwarded_for: Sequence[str], x_real_ip: str | None, trusted: Container[str]
) -> str:
    """Return the address of the client behind trusted proxies.

    Any client can send these headers, so a hop counts only if a trusted proxy wrote it: each hop was
    written by the one to its right. From the right, the first hop that is not trusted is the
    client; hops beyond one that is no address are ignored. X-Real-Ip counts if there is no
    X-Forwarded-For.

    :param peer: the address at the other end of the connection, without port.
    :param x_forwarded_for: the values of all headers of that name, in their order.
    :param trusted: the addresses of trusted proxies.
    """
    client = client_address(peer)
    hops = [hop for line in x_forwarded_for for hop in map(str.strip, line.split(",")) if hop]
    if not hops and x_real_ip:
        hops = [x_real_ip.strip()]
    for hop in reversed(hops):
        if client not in trusted:
            break
        address = _hop_address(hop)
        if address is None:
            break
        client = address
    return client


def _hop_address(hop: str) -> str | None:
    """The address in one hop (``192.0.2.1:4711``, ``[2001:db8::1]:80``), None if it is none.

    A proxy that was itself reached over a UNIX socket writes ``unix:``.
    """
    if hop == UNIX_HOP:
        return UNIX
    with_port = _WITH_PORT.fullmatch(hop)
    address = (with_port[1] or with_port[2]) if with_port else hop
    try:
        # a zone (fe80::1%eth0) is one of the proxy's interfaces and means nothing here
        return client_address(str(ip_address(address.partition("%")[0])))
    except ValueError:
        return None


def scrape_deadline(header: bytes | None) -> float:
    """Return the seconds from a scrape's arrival to its deadline.

    :param header: X-Prometheus-Scrape-Timeout-Seconds; None or no number: `DEFAULT_DEADLINE`.
    """
    try:
        seconds = float(header or b"")
    except ValueError:
        return DEFAULT_DEADLINE
    if not 0 <= seconds < math.inf:  # NaN is neither
        return DEFAULT_DEADLINE
    return min(max(seconds, MIN_DEADLINE), MAX_DEADLINE)
