"""Measures of what locks cost: a bearer token, and TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from support.certificates import Authority
from support.daemon import Daemon

from bench.measures import LOAD, at_least, ratio
from bench.rig import Measure, Pair, check_stored, daemon, folder, reference, wrk

#: Connections that are kept.
CONNECTIONS = 64

TOKEN = "a-token-for-measures-only-0123456789"

ACCESS = f"""\
[[allow]]
role = "emit"
token_sha256 = "{sha256(TOKEN.encode()).hexdigest()}"

[[allow]]
role = "look"
network = "127.0.0.0/8"
"""


@contextmanager
def _guarded() -> Iterator[Daemon]:
    """A daemon that takes events with the token only."""
    with folder() as place:
        access = place / "access.toml"
        access.write_text(ACCESS)
        with daemon("--max-events=100000000", f"--access={access}") as running:
            yield running


def with_token(rounds: int) -> Measure:
    """One event a request with a bearer token, against a daemon without an access file."""
    pairs = []
    with daemon("--max-events=100000000") as unlocked, _guarded() as guarded:
        without, stored = 0, 0
        for _ in range(rounds):
            open_ = wrk(unlocked.port, LOAD, connections=CONNECTIONS)
            ours = wrk(guarded.port, LOAD, connections=CONNECTIONS, token=TOKEN)
            without += open_.requests
            stored += ours.requests
            check_stored(unlocked, without, CONNECTIONS * rounds)
            check_stored(guarded, stored, CONNECTIONS * rounds)
            pairs.append(Pair(ours.rate, open_.rate))
    return Measure(
        name="`POST /event` with a bearer token, against without",
        unit="requests/s",
        rounds=pairs,
        shown=ratio,
        reach="0.95x",
        aim="1.0x",
        met=at_least(0.95),
    )


@contextmanager
def _encrypted(place: Path) -> Iterator[tuple[Daemon, int]]:
    """A daemon with TLS, and the port of the bare server with the same certificate."""
    authority = Authority(place)
    pair = authority.issue("server")
    config = place / "web.yml"
    config.write_text(f"tls_server_config:\n  cert_file: {pair.cert}\n  key_file: {pair.key}\n")
    options = ("--max-events=100000000", f"--web-config={config}")
    with (
        daemon(*options, ca=authority.cert) as running,
        reference("https", str(pair.cert), str(pair.key)) as port,
    ):
        yield running, port


def over_tls(rounds: int) -> Measure:
    """One event a request over TLS, on kept connections."""
    pairs = []
    with folder() as place, _encrypted(place) as (running, port):
        stored = 0
        for _ in range(rounds):
            bare = wrk(port, LOAD, connections=CONNECTIONS, scheme="https")
            ours = wrk(running.port, LOAD, connections=CONNECTIONS, scheme="https")
            stored += ours.requests
            check_stored(running, stored, CONNECTIONS * rounds)
            pairs.append(Pair(ours.rate, bare.rate))
    return Measure(
        name="`POST /event` over TLS, 64 connections, against a bare `twisted.web` over TLS",
        unit="requests/s",
        rounds=pairs,
        shown=ratio,
        reach="1.5x",
        aim="2.0x",
        met=at_least(1.5),
    )
