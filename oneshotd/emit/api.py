"""Report an event from a Python program, blocking; and the entry of ``oneshot-emit``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from oneshotd.emit.credentials import readable_by_others, unencrypted
from oneshotd.emit.encoding import Label, Value, line
from oneshotd.emit.settings import FILES, Settings, settings
from oneshotd.emit.transport import sender

#: The name of a file.
File = str | os.PathLike[str]
#: The address of a daemon, or of several over one store.
Url = str | Sequence[str]


def emit(
    labels: Mapping[str, Label] | None = None,
    /,
    *,
    value: Value = None,
    id: str | None = None,
    url: Url | None = None,
    timeout: float | None = None,
    retry: float | None = None,
    token_file: File | None = None,
    ca_file: File | None = None,
    cert_file: File | None = None,
    key_file: File | None = None,
    **more: Label,
) -> None:
    """Send one event; return when it is on the daemon's disk (over UDP: when it was sent).

    :param labels: the event's labels; Python names may be keyword arguments (`more`) instead.
        A label of None is left out. ``__name__`` is the metric's name.
    :param value: the sample's value; without one the event stands for one occurrence.
    :param id: an idempotency key: the same key within the daemon's hold counts once.
    :param url: ``http://HOST:PORT``, ``https://HOST`` or ``udp://HOST:PORT``; else
        ``$ONESHOTD_URL``, ``/etc/oneshotd/emit.toml``, ``http://localhost:8090``. The other settings are
        found likewise. Several addresses of daemons over one store are tried in turn, until one answers;
        the event has a key then.
    :param timeout: seconds for one attempt, at all addresses together; 5 unless the file says otherwise.
        The resolution of a host's name has its own timeout, the system's.
    :param retry: seconds in which an attempt that failed is made again; the event has a key then,
        and counts once.
    :param token_file: the first line is a bearer token, which is sent with the event. As the other
        files, it is read for each event. "": none, also if the machine's settings name one.
    :param ca_file: PEM; the authorities that may have signed the daemon's certificate, instead of the
        system's.
    :param cert_file: PEM; a certificate for the daemon, and its chain.
    :param key_file: PEM; its key, if that is not in `cert_file`.
    :raises EmitDenied: the daemon refuses the credential, or asks for one.
    :raises EmitRefused: the daemon refuses the event; another attempt would fail, too.
    :raises EmitUnavailable: no answer; the event may be stored all the same.
    :raises ValueError: the arguments are no event: a value that is no number, a name given twice.
    :raises SettingsError: the environment, the file or one of the arguments is wrong.

    A token that goes over a network without TLS, and a file that every user can read, are a Python warning.
    """
    text = line(pairs(labels, more), value=value, id=id)
    files = named(token_file, ca_file, cert_file, key_file)
    chosen = configured(url=url, timeout=timeout, retry=retry, files=files)
    client = sender(chosen)
    try:
        client.event(text)
    finally:
        client.close()


def pairs(labels: Mapping[str, Label] | None, more: Mapping[str, Label]) -> Iterable[tuple[str, Label]]:
    """Return all labels of a call; a label given twice is in the result twice."""
    return [*(labels or {}).items(), *more.items()]


def named(*files: File | None) -> Mapping[str, str]:
    """Return those of the files that are given, in the order of `FILES`, by the option's name."""
    given = zip(FILES, files, strict=True)
    return {option: os.fspath(file) for option, file in given if file is not None}


def configured(
    *,
    url: Url | None = None,
    timeout: float | None = None,
    retry: float | None = None,
    files: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of the program over those of the machine; warn if a secret can be read by others.

    :raises SettingsError: one line names the source and the error.
    """
    chosen = settings(os.environ, url=url, timeout=timeout, retry=retry, files=files)
    for text in filter(None, (unencrypted(chosen), readable_by_others(chosen.credentials))):
        import warnings  # here: hardly ever needed

        warnings.warn(text, stacklevel=3)  # the line of the program that emits
    return chosen


def main() -> int:
    """Run the command ``oneshot-emit``; return its exit status."""
    from oneshotd.emit.cli.command import run

    return run(sys.argv[1:], os.environ)
