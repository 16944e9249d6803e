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
    """Send one event; back when it is on the daemon's disk (over UDP: when it is on its way).

    :param labels: its labels; those that are Python names may be given by name (`more`) instead.
        None is no label. ``__name__`` is the metric's name.
    :param value: the sample's value; without one the event stands for one occurrence.
    :param id: an idempotency key: the same key within the daemon's hold counts once.
    :param url: ``http://HOST:PORT``, ``https://HOST`` or ``udp://HOST:PORT``; else
        ``$ONESHOTD_URL``, ``/etc/oneshotd/emit.toml``, ``http://localhost:8090``.
    :param timeout: seconds for one attempt, 5 unless the file says otherwise. The resolution of the
        host's name has its own timeout, the system's.
    :param retry: seconds in which an attempt that failed is made again; the event has a key then,
        and counts once.
    :raises EmitRefused: the daemon does not take it; trying again is no use.
    :raises EmitUnavailable: no answer; the event may have arrived all the same.
    :raises ValueError: there is no such event: a value that is no number, a name given twice.
    :raises SettingsError: the environment, the file or one of the arguments is wrong.
    """
    text = line(pairs(labels, more), value=value, id=id)
    way = sender(configured(url=url, timeout=timeout, retry=retry))
    try:
        way.event(text)
    finally:
        way.close()


def pairs(labels: Mapping[str, Label] | None, more: Mapping[str, Label]) -> Iterable[tuple[str, Label]]:
    """All labels of a call; those given twice are twice in it."""
    return [*(labels or {}).items(), *more.items()]


def configured(
    *, url: str | None = None, timeout: float | None = None, retry: float | None = None
) -> Settings:
    """The settings of this machine under those of the program.

    :raises SettingsError: one line that says what is wrong where.
    """
    return settings(os.environ, url=url, timeout=timeout, retry=retry)


def main() -> int:
    """The command ``oneshot-emit``; its exit status."""
    from oneshotd.emit.cli.command import run

    return run(sys.argv[1:], os.environ)
