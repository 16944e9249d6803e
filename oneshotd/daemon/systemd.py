"""Notify the service manager: ready, alive, stopping.

The protocol is sd_notify(3): datagrams of ``NAME=VALUE`` lines to the socket that $NOTIFY_SOCKET
names. Without that variable the notifier does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

#: Seconds until a retry if the manager's socket was full.
RETRY_SECONDS = 1.0


@frozen(kw_only=True)
class Supervision:
    """Where the service manager listens, and its watchdog interval.

    :param address: a path, or "@" and an abstract name; None: there is no service manager.
    :param watchdog: seconds within which it expects a keep-alive; None: it expects none.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Supervision:
        """Read $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID; ignore values that are malformed.

        See sd_notify(3) and sd_watchdog_enabled(3).

        :param pid: this process; the watchdog variables may be meant for another one.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@") or len(address) < 2:
            return cls()
        period = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        wanted = ours and period.isascii() and period.isdecimal() and int(period) > 0
        return cls(address=address, watchdog=int(period) / 1e6 if wanted else None)


class Notifier:
    """Sends notifications to the service manager; never blocks and never raises.

    :param clock: the reactor: the keep-alives stop if it hangs.
    """

    _log = Logger()

    def __init__(self, clock: Any, supervision: Supervision) -> None:
        self._clock = clock
        self._supervision = supervision
        self._socket: socket.socket | None = None
        self._unsent: list[str] = []
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Open the socket, and send keep-alives if a watchdog is set."""
        if self._supervision.address is not None and self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._flush()

    def ready(self, status: str) -> None:
        """Notify that the store and the listeners are up.

        :param status: one line, for ``systemctl status``.
        """
        self._notify("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """Notify that the stop has begun; keep-alives go on until `stop`."""
        self._notify("STOPPING=1", "STATUS=stopping")

    def stop(self) -> None:
        """Close the socket and end the keep-alives."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._socket is not None:
            self._socket.close()
        self._next = self._socket = None

    def _notify(self, *lines: str) -> None:
        if self._socket is not None:
            self._unsent.extend(lines)
            self._flush()

    def _flush(self) -> None:
        """Send unsent lines and the keep-alive, and schedule the next call."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        period = self._supervision.watchdog
        sent = self._send([*self._unsent, *(["WATCHDOG=1"] if period is not None else [])])
        if sent:
            self._unsent.clear()
        delays = [RETRY_SECONDS] if not sent else []
        # Half of it, as sd_watchdog_enabled(3) recommends.
        delays += [period / 2] if period is not None else []
        self._next = self._clock.callLater(min(delays), self._flush) if delays else None

    def _send(self, lines: list[str]) -> bool:
        """Send one datagram; return False if it has to be sent again, because the socket is full."""
        address = self._supervision.address
        if not lines or self._socket is None or address is None:
            return True
        destination = "\0" + address[1:] if address[0] == "@" else address
        try:
            self._socket.sendto(os.fsencode("\n".join(lines)), destination)
        except BlockingIOError:
            return False
        except OSError as error:
            self._log.warn(
                "cannot notify the service manager at {address} of {lines}: {error}",
                address=address,
                lines=", ".join(lines),
                error=error.strerror or str(error),
            )
        return True
