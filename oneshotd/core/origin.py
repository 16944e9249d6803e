"""Where a scrape comes from, compared with where events are pushed to.

A store that is scraped and pushed to has each event twice. HTTP does not name the store behind a scrape; its
address is that of the connection to a receiver if both are one host. Ports differ, and so do the addresses if
a network translates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from attrs import frozen

from oneshotd.core.networks import client_address

#: The host of this daemon, under whichever of its addresses.
THIS_HOST = "this host"

#: Products of scrapers that are, or feed, a store with a receiver of remote write.
STORES = ("Prometheus", "vm_promscrape")


@frozen(kw_only=True)
class Origin:
    """Where a scrape came from.

    :param host: see `host_of`.
    :param product: the first one of its User-Agent.
    """

    host: str
    product: str


def host_of(address: str, local: str) -> str:
    """Return the host at the other end of a connection: its address, or `THIS_HOST`.

    :param address: without port; a text that is no address is returned unchanged.
    :param local: the address of our end; it is the other one's, too, if a host is connected to itself.
    """
    normal = client_address(address)
    if normal == client_address(local):
        return THIS_HOST
    try:
        return THIS_HOST if ip_address(normal).is_loopback else normal
    except ValueError:
        return normal


def same_store(origin: Origin | None, receivers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the receivers that may be the store behind these scrapes.

    :param receivers: name -> see `host_of`; empty: there was no connection yet.
    """
    if origin is None or origin.product not in STORES:
        return ()
    return tuple(name for name, host in receivers.items() if host == origin.host)
