"""The option table: defaults, and what options demand of each other."""

import pytest
from attrs import evolve

from oneshotd.core.networks import Networks
from oneshotd.daemon.config import OPTIONS, Config
from oneshotd.daemon.option_values import StoreAddress, UdpAddress


def test_defaults() -> None:
    """A daemon without options would differ from the documentation."""
    assert Config() == Config(
        http=("8090",),
        udp=(UdpAddress(host=None, port=8090),),
        store=StoreAddress(kind="sqlite", path="oneshotd.sqlite"),
        hold=3600.0,
        newcomers=300.0,
        daemon_name="",
        lease_margin=30.0,
        metric="events_to_metrics",
        max_events=1_000_000,
        max_bytes=1024**3,
        trusted_proxy=Networks(),
        allow_emit=Networks(),
        allow_scrape=Networks(),
        max_connections=1000,
        max_labels=64,
        max_label_value=4096,
        request_timeout=30.0,
        idle_timeout=600.0,
        log_level="info",
        access_log=False,
        fast_path=True,
    )


def test_the_window_of_new_scrapers_is_at_most_the_hold() -> None:
    """A new scraper would be promised events that are deleted."""
    assert evolve(Config(), hold=60.0, newcomers=60.0).newcomers == 60.0
    with pytest.raises(ValueError, match="newcomers: expected at most the hold, 60 s, got 61 s"):
        evolve(Config(), hold=60.0, newcomers=61.0)


def test_a_lease_outlives_a_revocation() -> None:
    """Another daemon would deliver what can still be revoked."""
    assert evolve(Config(), lease_margin=2.0).lease_margin == 2.0
    with pytest.raises(ValueError, match=r"lease-margin: expected 2 s or more, got 1\.5 s"):
        evolve(Config(), lease_margin=1.5)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_explains_itself(name: str) -> None:
    """`twistd oneshot --help` would list an option without its meaning."""
    option = OPTIONS[name]
    assert option.help
    assert (option.unit is None) == isinstance(option.default, bool)


def test_a_daemon_without_an_http_endpoint_does_not_start() -> None:
    """The daemon would run, and no scraper could reach it."""
    with pytest.raises(ValueError, match="http: expected at least one endpoint, got none"):
        Config(http=())


def test_backups_need_a_folder_and_a_socket() -> None:
    """Backups would seem to be configured, and every one would fail."""
    both = Config(backup_dir="/copies", backup_socket="/run/backup")
    assert (both.backup_dir, both.backup_socket) == ("/copies", "/run/backup")
    assert OPTIONS["backup-dir"].value("") is None
    with pytest.raises(ValueError, match="backup-dir and backup-socket: expected both or neither"):
        evolve(both, backup_dir=None)
    with pytest.raises(ValueError, match="backup-dir and backup-socket: expected both or neither"):
        evolve(both, backup_socket=None)
    with pytest.raises(ValueError, match="got a database"):
        evolve(both, store=StoreAddress(kind="postgresql", path="service=oneshotd"))
