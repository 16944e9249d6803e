"""Parsing of each kind of value of an option, and the errors."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.networks import Networks
from oneshotd.core.parsing.numbers import duration
from oneshotd.daemon import option_values
from oneshotd.daemon.config import OPTIONS
from oneshotd.daemon.option_values import StoreAddress, SystemdSocket, UdpAddress, UnixAddress


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (duration, "500ms", 0.5),
        (duration, "90s", 90.0),
        (duration, "5m", 300.0),
        (duration, "1h", 3600.0),
        (duration, "1.5h", 5400.0),
        (duration, "1d", 86400.0),
        (option_values.size, "4096", 4096),
        (option_values.size, "512K", 512 * 1024),
        (option_values.size, "64M", 64 * 1024**2),
        (option_values.size, "1G", 1024**3),
        (option_values.body_size, "25M", 25 * 1024**2),
        (option_values.body_size, "1", 1),
        (option_values.count, "1000000", 1_000_000),
        (option_values.port, "0", 0),
        (option_values.port, "65535", 65535),
        (option_values.endpoint, "08090", "8090"),
        (option_values.endpoint, "unix:/run/oneshotd.sock", "unix:/run/oneshotd.sock"),
        (option_values.endpoint, "localhost:08090", "localhost:8090"),
        (UdpAddress.parse, "localhost:53", UdpAddress(host="localhost", port=53)),
        (UdpAddress.parse, "8090", UdpAddress(host=None, port=8090)),
        (UdpAddress.parse, "192.0.2.7:53", UdpAddress(host="192.0.2.7", port=53)),
        (UdpAddress.parse, "[fe80::1%eth0]:53", UdpAddress(host="fe80::1%eth0", port=53)),
        (UdpAddress.parse, "[fe80::1%25eth0]:53", UdpAddress(host="fe80::1%eth0", port=53)),
        (OPTIONS["allow-emit"].value, ["unix", "::1"], Networks.parse(["unix", "::1"])),
        (OPTIONS["allow-scrape"].value, ["unix"], Networks.parse(["unix"])),
        (OPTIONS["trusted-proxy"].value, ["unix"], Networks.parse(["unix"])),
        (UdpAddress.parse, "[2001:DB8::7]:53", UdpAddress(host="2001:db8::7", port=53)),
        (option_values.datagram_address, "localhost:53", UdpAddress(host="localhost", port=53)),
        (option_values.datagram_address, "unix:/run/a.sock", UnixAddress(path="/run/a.sock", mode=0o666)),
        (option_values.datagram_address, "unix:a:b:mode=660", UnixAddress(path="a:b", mode=0o660)),
        (option_values.datagram_address, "unix:a:mode=0600", UnixAddress(path="a", mode=0o600)),
        (option_values.datagram_address, "unix:" + "a" * 107, UnixAddress(path="a" * 107)),
        (option_values.datagram_address, "systemd:o-d.socket", SystemdSocket(name="o-d.socket")),
        (StoreAddress.parse, "sqlite:/var/lib/a:b", StoreAddress(kind="sqlite", path="/var/lib/a:b")),
        (
            StoreAddress.parse,
            "postgresql://ann@a,b/events?target_session_attrs=read-write&passfile=/etc/pass",
            StoreAddress(
                kind="postgresql",
                path="postgresql://ann@a,b/events?target_session_attrs=read-write&passfile=/etc/pass",
            ),
        ),
        (
            StoreAddress.parse,
            "postgresql:service=oneshotd",
            StoreAddress(kind="postgresql", path="service=oneshotd"),
        ),
        (option_values.metric_name, "deploys_total", "deploys_total"),
        (option_values.short_text, "web1:8090 (b)", "web1:8090 (b)"),
        (option_values.short_text, "", ""),
        (option_values.level_name, "WARNING", "warn"),
        (option_values.level_name, "Debug", "debug"),
    ],
)
def test_values(parse: Callable[[str], Any], text: str, value: object) -> None:
    """An option would have another meaning than documented."""
    assert parse(text) == value


WRONG = [
    (duration, ["", "5", "0s", "5 m", "-5m", "5M", "5m30s", "nan", "inf", "1e9s", "٣s", "5m\n"]),
    (option_values.size, ["", "0", "64MB", "64m", "-1", "1.5G", "٣", "1" * 20]),
    (option_values.body_size, ["", "0", "26M", "26214401", "1G"]),
    (option_values.count, ["", "0", "-1", "1.0", "many", "1" * 20]),
    (option_values.port, ["", "-1", "65536", "http", "80 "]),
    (option_values.endpoint, ["", "http", "65536", "localhost:", "localhost:x"]),
    (
        UdpAddress.parse,
        [
            *("", "localhost:x", "example.net:53", "192.0.2.7", "192.0.2.7:", "[192.0.2.7]:53"),
            *("::1:53", "2001:db8::7", "[::1]53"),
        ],
    ),
    (
        option_values.datagram_address,
        [
            *("", "unix", "unix:", "unix::mode=660", "unix:a:mode=", "unix:a:mode=rw", "unix:a:mode=1777"),
            *("unix:" + "a" * 108, "unix:" + "é" * 54, "unix:a\0b", "systemd", "systemd:", "systemd:a:b"),
        ],
    ),
    (
        StoreAddress.parse,
        ["", "sqlite", "sqlite:", "/var/lib/x", "postgresql", "postgresql:", "postgresql:x", "mysql://x"],
    ),
    (option_values.short_text, ["a\nb", "\x00", "a" * 201]),
    (option_values.metric_name, ["", "1st", "a-b", "up", "oneshotd_x", "scrape_samples", "ALERTS"]),
    (option_values.level_name, ["", "trace", "warn ", "info|debug"]),
]


@pytest.mark.parametrize(("parse", "text"), [(parse, text) for parse, texts in WRONG for text in texts])
def test_wrong_values_are_refused(parse: Callable[[str], Any], text: str) -> None:
    """A typing error would become a wrong setting."""
    with pytest.raises(ValueError, match=r"^expected .*, got ") as raised:
        parse(text)
    assert "\n" not in str(raised.value)


@given(st.integers(1, 10**9 - 1), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_every_duration_is_finite_and_positive(number: int, unit: str) -> None:
    """A timer would never fire, or always."""
    seconds = duration(f"{number}{unit}")
    assert seconds > 0
    assert math.isfinite(seconds)


@given(st.integers(1, 10**9))
def test_a_unit_is_1024_of_the_one_before(number: int) -> None:
    """The log would be trimmed at another size than the operator set."""
    assert [option_values.size(f"{number}{unit}") for unit in ("", "K", "M", "G")] == [
        number * 1024**power for power in range(4)
    ]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:s3cret@db/events",
        "postgresql://ann:s3cr@et@db/events",
        "postgresql://ann:s3cret@[::1]:5432,b/events?sslmode=require",
        "postgresql://db/events?user=ann&password=s3cret",
        "postgresql://db/events?user=ann&pass%77ord=s3cret",
        "postgresql://db/events?sslpassword=s3cret",
        "postgresql:host=db password=s3cret",
        "postgresql:host=db PASSWORD = 's3cret'",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(address: str) -> None:
    """Everybody on the machine could read it in the list of processes, and in the log."""
    with pytest.raises(
        ValueError, match=r"^expected an address without a password.*got one with it$"
    ) as raised:
        StoreAddress.parse(address)
    assert "s3cr" not in str(raised.value)
