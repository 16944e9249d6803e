"""What a service manager is told: that the daemon serves, that it is alive, that it ends.

The protocol is sd_notify(3): datagrams of ``NAME=VALUE`` lines to the socket that $NOTIFY_SOCKET
names. Where nobody listens there is nothing to tell, and nothing here does anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

#: Seconds after which what the manager's full socket did not take is said again.
AGAIN = 1.0


@frozen(kw_only=True)
class Supervision:
    """What the service manager wants to hear, and where.

    :param address: a path, or "@" and an abstract name; None: nobody listens.
    :param watchdog: seconds within which it wants a sign of life; None: it wants none.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> Supervision:
        """Out of $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, as sd_notify(3) and
        sd_watchdog_enabled(3) have them; what cannot be understood counts as absent.

        :param pid: of this process: a watchdog may be meant for another.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@") or len(address) < 2:
            return cls()
        period = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        wanted = ours and period.isascii() and period.isdecimal() and int(period) > 0
        return cls(address=address, watchdog=int(period) / 1e6 if wanted else None)


class Notifier:
    """Tells the service manager. Never waits for it and never fails.

    :param clock: the reactor: signs of life stop when it does.
    """

    _log = Logger()

    def __init__(self, clock: Any, supervision: Supervision) -> None:
        self._clock = clock
        self._supervision = supervision
        self._socket: socket.socket | None = None
        self._owed: list[str] = []
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Give signs of life from now on, where they are wanted."""
        if self._supervision.address is not None and self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._turn()

    def ready(self, status: str) -> None:
        """The store and the listeners are up.

        :param status: one line, for ``systemctl status``.
        """
        self._say("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """The end has begun; it may take a while, and signs of life go on."""
        self._say("STOPPING=1", "STATUS=stopping")

    def stop(self) -> None:
        """Nothing is said any more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._socket is not None:
            self._socket.close()
        self._next = self._socket = None

    def _say(self, *lines: str) -> None:
        if self._socket is not None:
            self._owed.extend(lines)
            self._turn()

    def _turn(self) -> None:
        """Say what is to be said, and see to the next time."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        period = self._supervision.watchdog
        taken = self._send([*self._owed, *(["WATCHDOG=1"] if period is not None else [])])
        if taken:
            self._owed.clear()
        waits = [AGAIN] if not taken else []
        # Half of it, as sd_watchdog_enabled(3) recommends.
        waits += [period / 2] if period is not None else []
        self._next = self._clock.callLater(min(waits), self._turn) if waits else None

    def _send(self, lines: list[str]) -> bool:
        """Whether this needs no further attempt."""
        address = self._supervision.address
        if not lines or self._socket is None or address is None:
            return True
        where = "\0" + address[1:] if address[0] == "@" else address
        try:
            self._socket.sendto(os.fsencode("\n".join(lines)), where)
        except BlockingIOError:
            return False
        except OSError as error:
            self._log.warn(
                "the service manager at {address} was not told {lines}: {error}",
                address=address,
                lines=", ".join(lines),
                error=error.strerror or str(error),
            )
        return True
