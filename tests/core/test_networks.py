"""Addresses: a client has one normal form everywhere, and allow lists admit the listed networks only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.networks import Networks, client_address, parse_network, plain_zone

IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(str)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:0207", "192.0.2.7"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
        ("unknown", "unknown"),
        ("192.0.2.7:80", "192.0.2.7:80"),
    ],
)
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    """Otherwise one scraper would be two, and get every event twice."""
    assert client_address(text) == address


@given(IPV4)
def test_a_mapped_client_is_the_ipv4_client(address: str) -> None:
    """A scraper that reaches the dual-stack socket over IPv4 would change its name."""
    assert client_address(f"::ffff:{address}") == address


@given(st.one_of(IPV4, IPV6, st.text(max_size=20)))
def test_normalising_again_changes_nothing(text: str) -> None:
    """Two parts of the daemon that both normalise would disagree."""
    once = client_address(text)
    assert client_address(once) == once


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (["192.0.2.0/24"], "192.0.2.7", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/24"], "198.51.100.1", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["::ffff:192.0.2.0/120"], "192.0.2.7", True),
        (["::ffff:192.0.2.0/120"], "192.0.3.7", False),
        (["::ffff:192.0.2.7"], "192.0.2.7", True),
        (["2001:db8::/32"], "2001:db8::7", True),
        (["2001:db8::/32"], "192.0.2.7", False),
        (["::/0"], "192.0.2.7", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["198.51.100.0/24", "192.0.2.0/24"], "192.0.2.7", True),
        (["fe80::1%eth0"], "fe80::1%eth0", True),
        (["fe80::1%25eth0"], "fe80::1%eth0", True),
        (["fe80::1%eth0"], "fe80::1%eth1", False),
        (["fe80::1"], "fe80::1%eth1", True),
        (["0.0.0.0/0"], "unknown", False),
        (["0.0.0.0/0", "::/0"], "unix", False),
        (["unix"], "unix", True),
        (["unix"], "192.0.2.7", False),
        (["unix"], "", False),
        ([], "192.0.2.7", False),
    ],
)
def test_who_is_in_a_list_of_networks(networks: list[str], address: str, inside: bool) -> None:
    """An allow list would admit other clients, or refuse the listed ones."""
    assert (address in Networks.parse(networks)) is inside


def test_an_empty_list_leaves_the_door_open_but_trusts_nobody() -> None:
    """The same record is an allow list and the list of trusted proxies."""
    nobody, some = Networks(), Networks.parse(["192.0.2.0/24"])
    assert nobody.admits("198.51.100.1")
    assert "198.51.100.1" not in nobody
    assert not nobody
    assert some
    assert some.admits("192.0.2.7")
    assert not some.admits("198.51.100.1")
    assert 7 not in some


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("10.1.2.3/8", "expected a network such as 10.0.0.0/8, got '10.1.2.3/8'"),
        ("localhost", "expected a network such as 192.0.2.0/24, got 'localhost'"),
        ("192.0.2.0/33", "expected a network such as 192.0.2.0/24, got '192.0.2.0/33'"),
        ("", "expected a network such as 192.0.2.0/24, got ''"),
    ],
)
def test_a_wrong_network_is_refused_with_a_better_one(text: str, error: str) -> None:
    """A typing error in an allow list would admit all clients, or none."""
    with pytest.raises(ValueError, match="expected a network") as raised:
        parse_network(text)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("fe80::1", "fe80::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("fe80::1%25eth0", "fe80::1%eth0"),
        ("fe80::1%25", "fe80::1%25"),
        ("fe80::1%251", "fe80::1%251"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_zone_is_written_in_two_ways(text: str, plain: str) -> None:
    """RFC 6874 escapes the percent sign in URLs, and people copy it from there."""
    assert plain_zone(text) == plain
