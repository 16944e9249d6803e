"""``oneshotctl backup``: ask the running daemon for a backup of its store."""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException

from attrs import frozen

from oneshotd.core.parsing.numbers import duration
from oneshotd.ctl.daemon_sources import CONFIG, service_sources
from oneshotd.ctl.results import NOT_ALLOWED, OK, UNAVAILABLE, USAGE, Failed, parsed_by
from oneshotd.daemon.config_sources import configure
from oneshotd.errors import ConfigError

HELP = "let the running daemon make a backup of its store"

DESCRIPTION = """\
The daemon makes a copy of its store in the folder of its option backup-dir, and accepts events and
answers scrapes meanwhile. Prints the file, its bytes, and the seconds that it took, when the copy is on
disk. Old copies stay.

The daemon listens at the UNIX socket of its option backup-socket, which root and the daemon's user may
use."""

STATUSES = {
    0: "the backup is on disk",
    1: "the daemon could not make it: the disk is full, or the folder cannot be written",
    2: "the command line is wrong, or the configuration names no backup-socket",
    75: "no daemon listens, it did not answer in time, or it makes a backup already: try again later",
    77: "this user may not use the socket",
}

_MOST_BYTES = 65536


@frozen
class _Answer:
    status: int
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="the daemon's backup-socket")
    where.add_argument(
        "--config", metavar="FILE", help=f"configuration that names the socket (default: {CONFIG})"
    )
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        type=parsed_by(duration),
        default=600.0,
        help="longest wait for the answer (default: 10m)",
    )
    parser.add_argument("--quiet", action="store_true", help="print the name of the file only")


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask for a backup, and wait until it is on disk.

    :raises Failed: the text says why; the status, whether a later attempt may succeed.
    """
    path = arguments.socket or _configured_socket(arguments.config, environ)
    answer = _asked(path, arguments.timeout)
    if answer.status != 200:
        status = UNAVAILABLE if answer.status == 409 else 1
        why = " ".join(answer.text.split())[:500] or "no reason given"
        raise Failed(f"{path}: {why} ({answer.status})", status)
    try:
        made = json.loads(answer.text)
        file, size, seconds = str(made["file"]), int(made["bytes"]), float(made["seconds"])
    except (ValueError, TypeError, KeyError):
        raise Failed(f"{path}: this is not oneshotd, its answer: {answer.text[:80]!r}") from None
    print(file if arguments.quiet else f"{file}: {size} bytes in {seconds:.3f} s")
    return OK


def _configured_socket(file: str | None, environ: Mapping[str, str]) -> str:
    try:
        sources = service_sources(file, environ)
        config = configure(sources.given, sources.environ, sources.file)
    except ConfigError as error:
        raise Failed(str(error), USAGE) from None
    if config.backup_socket is not None:
        return os.path.join(sources.folder, config.backup_socket)
    if sources.file is None:
        raise Failed(f"there is no {CONFIG}: give --socket PATH or --config FILE", USAGE)
    raise Failed(f"{sources.file}: backup-socket is not set; backups need it and backup-dir", USAGE)


def _asked(path: str, timeout: float) -> _Answer:
    """Send the request.

    :param timeout: seconds for the connection, and for each part of the answer.
    :raises Failed: there is no answer.
    """
    line = HTTPConnection("localhost")
    line.sock = socket.socket(socket.AF_UNIX)
    line.sock.settimeout(timeout)
    with closing(line):
        try:
            line.sock.connect(path)
        except OSError as error:
            raise _no_connection(path, error) from None
        try:
            line.request("POST", "/api/v1/backup")
            with line.getresponse() as answer:
                return _Answer(answer.status, answer.read(_MOST_BYTES).decode(errors="replace"))
        except TimeoutError:
            raise Failed(
                f"{path}: no answer within {timeout:g} s; the daemon may still finish the backup", UNAVAILABLE
            ) from None
        except ConnectionError:
            text = "the daemon closed the connection before the end of its answer; it may have been stopped"
            raise Failed(f"{path}: {text}", UNAVAILABLE) from None
        except (HTTPException, OSError) as error:
            said = " ".join(str(error).split())[:80] or type(error).__name__
            raise Failed(f"{path}: this is not oneshotd: {said}") from None


def _no_connection(path: str, error: OSError) -> Failed:
    number = error.errno
    if number == errno.ENOENT:
        return Failed(
            f"{path}: there is no such socket; does the daemon run, with this backup-socket?", UNAVAILABLE
        )
    if number in (errno.EACCES, errno.EPERM):
        return Failed(f"{path}: permission denied; root and the daemon's user may use it", NOT_ALLOWED)
    if number == errno.ECONNREFUSED:
        with suppress(OSError):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                return Failed(f"{path}: this is no socket", USAGE)
        return Failed(f"{path}: the daemon does not run", UNAVAILABLE)
    if number == errno.EAGAIN or isinstance(error, TimeoutError):
        return Failed(f"{path}: the daemon does not accept the connection; it may hang", UNAVAILABLE)
    return Failed(f"{path}: {error.strerror or error}", USAGE)
