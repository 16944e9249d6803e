"""A client written in Go, as Prometheus and most scrapers are, that throws a part of a response away.

Its TLS library sends close_notify before the kernel resets the connection, and takes what has arrived out of
the kernel before it decrypts a record.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.certificates import Authority
from support.go import compiled
from support.memory_site import MANY, MemoryServer, open_server, until
from twisted.internet.threads import deferToThread

pytestmark = [
    pytest.mark.e2e,
    # Twisted hands pyOpenSSL its own kind of certificates still.
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning"),
]

NOTHING: Counter[int] = Counter()

#: Seconds for one scrape.
TIMEOUT = 60

#: Events in a response of 30 KB, which the kernel takes at once, and of 5 MB.
SIZES = pytest.mark.parametrize("count", [100, MANY], ids=["small", "large"])
VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3", "-"], ids=["TLS 1.2", "TLS 1.3", "TCP"])
KEEP = pytest.mark.parametrize("keep", ["keep", "close"])


@pytest.fixture(scope="module")
def program() -> Path:
    """The client; it is compiled at the first time."""
    return compiled(Path(__file__).with_name("scrape_once.go"))


@pytest.fixture
def where(tmp_path: Path, version: str) -> str:
    """An endpoint string."""
    if version == "-":
        return "tcp:0:interface=127.0.0.1"
    pair = Authority(tmp_path / "tls").issue("oneshotd")
    return f"ssl:0:interface=127.0.0.1:privateKey={pair.key}:certKey={pair.cert}"


async def read(server: MemoryServer, program: Path, part: str, version: str, keep: str) -> tuple[int, int]:
    """Scrape once; return how many bytes of the body were read, and how many there are."""
    scheme = "http" if version == "-" else "https"
    host: Any = server.port.getHost()
    url = f"{scheme}://{host.host}:{host.port}/metrics?scraper=one"
    command = [str(program), url, part, version, keep]
    done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    got, length = map(int, done.stdout.split())
    return got, length


async def ended(server: MemoryServer) -> list[str]:
    """Wait for the outcome of the last delivery."""
    await until(lambda: server.last and server.last != ["delivered"], lambda: str(server.last))
    return server.last


@SIZES
@VERSIONS
@KEEP
@pytest_twisted.ensureDeferred
async def test_a_response_that_go_has_read_does_not_come_again(
    tmp_path: Path, program: Path, where: str, version: str, keep: str, count: int
) -> None:
    """Prometheus would get everything twice."""
    async with open_server(tmp_path, where) as server:
        await server.happen(count)
        got, length = await read(server, program, "all", version, keep)
        assert got == length > 200 * count
        assert await ended(server) == ["delivered", "final"]
        await read(server, program, "all", version, keep)
        assert len(server.shipments) == 1


@SIZES
@VERSIONS
@KEEP
@pytest.mark.parametrize("part", ["0", "1024"])
@pytest_twisted.ensureDeferred
async def test_a_response_that_go_throws_away_comes_again(
    tmp_path: Path, program: Path, where: str, version: str, keep: str, count: int, part: str
) -> None:
    """A scrape that Prometheus gives up would lose everything in it, or be counted as uncertain: then
    nobody looks for the sample that it refuses."""
    async with open_server(tmp_path, where) as server:
        await server.happen(count)
        got, length = await read(server, program, part, version, keep)
        assert got == int(part) < length
        outcome = await ended(server)
        assert outcome in (["returned"], ["delivered", "revoked"])
        await read(server, program, "all", version, keep)
        assert len(server.shipments) == 2
        assert await ended(server) == ["delivered", "final"]


@VERSIONS
@pytest_twisted.ensureDeferred
async def test_of_the_last_record_go_alone_knows_what_was_read(
    tmp_path: Path, program: Path, where: str, version: str
) -> None:
    """The documented limit: Go's libraries have taken the last byte out of the kernel before it is asked for.
    The response counts as read, or comes again, but is never counted as both."""
    async with open_server(tmp_path, where) as server:
        await server.happen(MANY)
        got, length = await read(server, program, "all-but-one", version, "keep")
        assert got == length - 1
        assert await ended(server) in (["delivered", "final"], ["delivered", "revoked"], ["returned"])
