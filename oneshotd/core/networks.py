"""Client addresses, and the sets of networks in options such as --allow-emit and --trusted-proxy.

A dual-stack socket shows an IPv4 client as ``::ffff:192.0.2.7`` (RFC 4291, 2.5.5.2). Everywhere
else in the daemon such a client has its IPv4 address, so `client_address` comes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from attrs import frozen

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

#: Stands for the client of a UNIX socket, which has no address, in lists and in identities.
UNIX = "unix"

#: How nginx writes such a client into X-Forwarded-For (its $remote_addr).
UNIX_HOP = "unix:"

#: The IPv4-mapped part of IPv6 is a network of this many leading bits.
_MAPPED_BITS = 96


def client_address(text: str) -> str:
    """Return the normal form of an address: IPv4-mapped becomes IPv4, IPv6 is compressed.

    :param text: from a transport or a header; a text that is no address (a UNIX socket's empty name,
        "unknown") is returned unchanged.
    """
    address = _parsed(text)
    return text if address is None else str(address)


def plain_zone(address: str) -> str:
    """Return the address with its zone as in ``fe80::1%eth0``; accepts ``fe80::1%25eth0`` (RFC 6874), too.

    Where ``%25`` may be the number of an interface (``%251``), it is left as it is.
    """
    address, percent, zone = address.partition("%")
    if zone.startswith("25") and zone[2:] and not zone.isdecimal():
        zone = zone[2:]
    return f"{address}{percent}{zone}"


def parse_member(text: str) -> _Network | str:
    """Parse a member of a list: ``unix`` or a network.

    :raises ValueError: see `parse_network`.
    """
    return UNIX if text == UNIX else parse_network(text)


def parse_network(text: str) -> _Network:
    """Parse a network in CIDR notation; a single address is a network of its full length.

    :raises ValueError: "expected …, got …"; bits beyond the prefix are refused, since
        ``10.1.2.3/8`` may mean the host or the network.
    """
    text = plain_zone(text)
    try:
        interface = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"expected a network such as 192.0.2.0/24, got {text!r}") from None
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(f"expected a network such as {interface}, got {text!r}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


@frozen(kw_only=True)
class Networks:
    """A set of networks: ``"192.0.2.7" in networks``. The empty set contains no address.

    ``unix`` is a member of its own: the clients of UNIX sockets.
    """

    members: tuple[_Network | str, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Networks:
        """Return the set of networks in CIDR notation.

        :raises ValueError: see `parse_network`.
        """
        return cls(members=tuple(parse_member(text) for text in texts))

    def __contains__(self, text: object) -> bool:
        """Return whether the address is in one of the networks; a text that is no address is in none."""
        if text == UNIX:
            return UNIX in self.members
        address = _parsed(text) if isinstance(text, str) else None
        return address is not None and any(_is_in(address, member) for member in self.members)

    def __bool__(self) -> bool:
        return bool(self.members)

    def admits(self, text: str) -> bool:
        """Return whether an allow list admits the address; an empty list admits all."""
        return not self.members or text in self


def _is_in(address: _Address, member: _Network | str) -> bool:
    if isinstance(member, str) or address not in member:
        return False
    zone = member.network_address.scope_id if isinstance(member, IPv6Network) else None
    return zone is None or (isinstance(address, IPv6Address) and address.scope_id == zone)


@lru_cache(maxsize=4096)  # few hosts send many datagrams
def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
