"""The option that turns the fast path off."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from support.fastpath_requests import post
from support.service_in_memory import DaemonInMemory
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from oneshotd.daemon.config import OPTIONS
from oneshotd.web.fastpath.channel import FastPathChannel

PEER = IPv4Address("TCP", "192.0.2.7", 40000)


@pytest.mark.parametrize(
    ("options", "has_fast_path"),
    [({}, True), ({"fast_path": False}, False), ({"access_log": True}, False)],
    ids=str,
)
def test_without_the_fast_path_an_event_is_stored_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], has_fast_path: bool
) -> None:
    """An operator who suspects the fast path has to be able to do without it."""
    server = DaemonInMemory(tmp_path, monkeypatch, **options)
    server.start()
    server.quiet()
    site = server.service._ports.site
    site.doStart()
    try:
        assert (site.matcher is not None) is has_fast_path
        transport = StringTransport(peerAddress=PEER)
        channel = cast(Any, site.buildProtocol(PEER))
        assert isinstance(channel, FastPathChannel) is has_fast_path
        channel.makeConnection(transport)
        channel.dataReceived(post("type=deploy", "Connection: close"))
        server.pass_time(0.0)
        assert transport.value().startswith(b"HTTP/1.1 200 OK\r\n")
        channel.connectionLost()
    finally:
        site.doStop()
        server.reactor.get(server.real.close())
        for sock in server.service._ports.udp:
            sock.close()
    assert server.stored() == ['events_to_metrics{type="deploy"}']


def test_the_option_is_on_or_off() -> None:
    option = OPTIONS["fast-path"]
    assert option.value("on") is True
    assert option.value("off") is False
    with pytest.raises(ValueError, match="expected on or off, got 'yes'"):
        option.value("yes")
