"""Emitting to an address with a zone, over every way; the loopback interface has the number 1."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from support.memory_site import open_server
from support.memory_site import reactor as global_reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread

from oneshotd.emit import emit
from oneshotd.emit.deferred import emit as emit_later

reactor: IReactorTime = global_reactor


@pytest.mark.parametrize("percent", ["%", "%25"])
@pytest_twisted.ensureDeferred
async def test_over_http(tmp_path: Path, percent: str) -> None:
    """A daemon that is reached by its link-local address could not be sent anything."""
    async with open_server(tmp_path) as server:
        url = f"http://[::1{percent}1]:{cast(Any, server.port.getHost()).port}"
        await deferToThread(emit, {"type": "a"}, url=url)
        await emit_later(reactor, {"type": "b"}, url=url)
        assert (await server.store.stats()).events == 2


@pytest.mark.parametrize("percent", ["%", "%25"])
def test_by_udp(percent: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("::1", 0))
        receiver.settimeout(10)
        emit({"type": "a"}, url=f"udp://[::1{percent}1]:{receiver.getsockname()[1]}")
        assert receiver.recv(100) == b"type=a"
