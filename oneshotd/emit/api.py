"""Report an event from a Python program, blocking; and the entry of ``oneshot-emit``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from oneshotd.emit.encoding import Label, Value, line
from oneshotd.emit.settings import Settings, settings
from oneshotd.emit.transport import sender


def emit(
    labels: Mapping[str, Label] | None = None,
    /,
    *,
    value: Value = None,
    id: str | None = None,
    url: str | None = None,
    timeout: float | None = None,
    retry: float | None = None,
    **more: Label,
) -> None:
    """Send one event; return when it is on the daemon's disk (over UDP: when it was sent).

    :param labels: the event's labels; Python names may be keyword arguments (`more`) instead.
        A label of None is left out. ``__name__`` is the metric's name.
    :param value: the sample's value; without one the event stands for one occurrence.
    :param id: an idempotency key: the same key within the daemon's hold counts once.
    :param url: ``http://HOST:PORT``, ``https://HOST`` or ``udp://HOST:PORT``; else
        ``$ONESHOTD_URL``, ``/etc/oneshotd/emit.toml``, ``http://localhost:8090``.
    :param timeout: seconds for one attempt, 5 unless the file says otherwise. The resolution of the
        host's name has its own timeout, the system's.
    :param retry: seconds in which an attempt that failed is made again; the event has a key then,
        and counts once.
    :raises EmitRefused: the daemon refuses the event; another attempt would fail, too.
    :raises EmitUnavailable: no answer; the event may be stored all the same.
    :raises ValueError: the arguments are no event: a value that is no number, a name given twice.
    :raises SettingsError: the environment, the file or one of the arguments is wrong.
    """
    text = line(pairs(labels, more), value=value, id=id)
    client = sender(configured(url=url, timeout=timeout, retry=retry))
    try:
        client.event(text)
    finally:
        client.close()


def pairs(labels: Mapping[str, Label] | None, more: Mapping[str, Label]) -> Iterable[tuple[str, Label]]:
    """Return all labels of a call; a label given twice is in the result twice."""
    return [*(labels or {}).items(), *more.items()]


def configured(
    *, url: str | None = None, timeout: float | None = None, retry: float | None = None
) -> Settings:
    """Return the settings of the program over those of the machine.

    :raises SettingsError: one line names the source and the error.
    """
    return settings(os.environ, url=url, timeout=timeout, retry=retry)


def main() -> int:
    """Run the command ``oneshot-emit``; return its exit status."""
    from oneshotd.emit.cli.command import run

    return run(sys.argv[1:], os.environ)
