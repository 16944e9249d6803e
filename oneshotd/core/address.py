"""Client addresses, and the sets of networks that doors and proxies are told by.

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

#: The IPv4-mapped part of IPv6 is a network of this many leading bits.
_MAPPED_BITS = 96


def client_address(text: str) -> str:
    """The one spelling of an address: IPv4-mapped becomes IPv4, IPv6 is compressed.

    :param text: what a transport or a header gave; anything that is no address (a UNIX socket's
        empty name, "unknown") comes back as it is.
    """
    address = _parsed(text)
    return text if address is None else str(address)


def parse_network(text: str) -> _Network:
    """One network in CIDR notation; an address alone is the network of itself.

    :raises ValueError: "expected …, got …"; bits beyond the prefix are refused, since
        ``10.1.2.3/8`` means a host to some and a network to others.
    """
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
    """A set of networks: ``"192.0.2.7" in networks``. The empty set contains nobody."""

    members: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Networks:
        """The set of these networks in CIDR notation.

        :raises ValueError: see `parse_network`.
        """
        return cls(members=tuple(parse_network(text) for text in texts))

    def __contains__(self, text: object) -> bool:
        """Whether the address is in one of the networks; what is no address is in none."""
        address = _parsed(text) if isinstance(text, str) else None
        return address is not None and any(address in network for network in self.members)

    def __bool__(self) -> bool:
        return bool(self.members)

    def admits(self, text: str) -> bool:
        """Whether a door with this list is open to the address: an empty list is open to all."""
        return not self.members or text in self


@lru_cache(maxsize=4096)  # few hosts send many datagrams
def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
