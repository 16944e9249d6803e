"""Whether a scraper may be the store to which events are pushed."""

from __future__ import annotations

import pytest

from oneshotd.core.origin import THIS_HOST, Origin, host_of, same_store


@pytest.mark.parametrize(
    ("address", "local", "host"),
    [
        ("192.0.2.7", "192.0.2.1", "192.0.2.7"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.1", "192.0.2.7"),
        ("2001:DB8:0::7", "2001:db8::1", "2001:db8::7"),
        ("192.0.2.1", "192.0.2.1", THIS_HOST),
        ("::ffff:192.0.2.1", "192.0.2.1", THIS_HOST),
        ("127.0.0.1", "127.0.0.1", THIS_HOST),
        ("127.0.0.2", "192.0.2.1", THIS_HOST),
        ("::1", "::1", THIS_HOST),
        ("unix", "", "unix"),
        ("unknown", "192.0.2.1", "unknown"),
    ],
)
def test_the_host_at_the_other_end(address: str, local: str, host: str) -> None:
    """A Prometheus beside the daemon has an address for scrapes and another one for receiving."""
    assert host_of(address, local) == host


@pytest.mark.parametrize(
    ("origin", "receivers"),
    [
        (Origin(host="192.0.2.7", product="Prometheus"), ("a", "c")),
        (Origin(host="192.0.2.7", product="vm_promscrape"), ("a", "c")),
        (Origin(host="192.0.2.7", product="curl"), ()),
        (Origin(host="192.0.2.8", product="Prometheus"), ("b",)),
        (Origin(host="192.0.2.9", product="Prometheus"), ()),
        (None, ()),
    ],
)
def test_receivers_at_the_host_of_a_scraper(origin: Origin | None, receivers: tuple[str, ...]) -> None:
    hosts = {"a": "192.0.2.7", "b": "192.0.2.8", "c": "192.0.2.7", "not connected yet": ""}
    assert same_store(origin, hosts) == receivers
