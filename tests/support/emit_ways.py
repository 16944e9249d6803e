"""The two functions that emit, called alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.interfaces import IReactorTime

from oneshotd.emit import emit
from oneshotd.emit.deferred import emit as emit_later

reactor: IReactorTime = global_reactor

#: Sends the event ``a=1``; takes the keyword arguments of both functions.
Way = Callable[..., Awaitable[None]]


async def blocking(**words: Any) -> None:
    """Block the reactor, too: the server needs a thread of its own."""
    emit({"a": 1}, **words)


async def later(**words: Any) -> None:
    """As a Twisted program does."""
    await emit_later(reactor, {"a": 1}, **words)


WAYS: tuple[Way, ...] = (blocking, later)
