"""``oneshotctl health``: ask a daemon whether it can do its work."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from oneshotd.core.parsing.numbers import duration
from oneshotd.core.text import escape_unprintable, quoted
from oneshotd.ctl.http_get import Server
from oneshotd.ctl.results import FAILED, OK, USAGE, Failed, complain, parsed_by
from oneshotd.emit.credentials import readable_by_others, unencrypted
from oneshotd.emit.settings import URL, Credentials, Settings, Target, target

HELP = "ask a daemon whether it is ready"

DESCRIPTION = """\
Asks the daemon for /readyz: whether its store can be written and it takes events and scrapes. With --live
for /healthz: whether its process answers at all.

    oneshotctl health
    oneshotctl health --url https://localhost:8090 --any-certificate

Made for health checks in containers, where there is no other client: the status is 0 or 1, and a line says
why. Warnings of the daemon are printed, and are no failure. No credential is needed, but for one that a proxy
or TLS itself (client_auth_type) asks for."""

STATUSES = {
    0: "the daemon is ready, or with --live: it answers",
    1: "it is not, it does not answer in time, or the server is another one",
    2: "the command line is wrong",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--url",
        metavar="URL",
        type=parsed_by(_target),
        default=target(URL),
        help=f"the daemon (default: {URL})",
    )
    parser.add_argument("--live", action="store_true", help="ask only whether the process answers")
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        type=parsed_by(duration),
        default=5.0,
        help="longest wait for the answer (default: 5s)",
    )
    parser.add_argument("--token-file", metavar="FILE", default="", help="bearer token, first line")
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        default="",
        help="certificates that the daemon may be signed by, instead of the system's",
    )
    parser.add_argument("--cert", metavar="FILE", default="", help="client certificate, PEM")
    parser.add_argument("--key", metavar="FILE", default="", help="its key, if that is in another file")
    parser.add_argument(
        "--any-certificate",
        action="store_true",
        help="accept any certificate of the daemon: those on disk rarely name localhost",
    )


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask, and print the answer.

    :raises Failed: the daemon is not ready, or does not answer.
    """
    server = _server(arguments)
    path, state = ("/healthz", "alive") if arguments.live else ("/readyz", "ready")
    try:
        status, text = server.plain(path)
    except Failed as error:
        # Container runtimes know 0, 1 and a reserved 2.
        raise Failed(str(error), FAILED) from None
    finally:
        server.close()
    if status != 200:
        raise Failed(f"{server.name}: not {state} ({status}): {text}")
    first, *rest = text.splitlines() or [""]
    if first != "ok":
        raise Failed(f"{server.name}: this is not oneshotd, its answer: {quoted(first)}")
    print(f"{server.name}: {state}")
    for line in rest:
        print(escape_unprintable(line))
    return OK


def _server(arguments: argparse.Namespace) -> Server:
    where: Target = arguments.url
    credentials = Credentials(arguments.token_file, arguments.ca_file, arguments.cert, arguments.key)
    if credentials.key and not credentials.cert:
        raise Failed("--key: expected --cert, too", USAGE)
    if where.scheme == "http" and (credentials.ca_file or credentials.cert):
        raise Failed(f"--ca-file, --cert: expected https://, got {where}", USAGE)
    if arguments.any_certificate:
        _check_any(where, credentials)
    for warning in (
        unencrypted(Settings(where, arguments.timeout, 0.0, credentials)),
        readable_by_others(credentials),
    ):
        if warning is not None:
            complain(f"oneshotctl health: {warning}")
    return Server(
        "oneshotd", where, credentials, arguments.timeout, any_certificate=arguments.any_certificate
    )


def _check_any(where: Target, credentials: Credentials) -> None:
    """Refuse what does not go with a server that is not verified."""
    why = None
    if where.scheme == "http":
        why = f"https://, got {where}"
    elif credentials.token_file or where.login is not None:
        what = "--token-file" if credentials.token_file else "password"
        why = f"no {what}, which any server would get"
    elif credentials.ca_file:
        why = "no --ca-file"
    if why is not None:
        raise Failed(f"--any-certificate: expected {why}", USAGE)


def _target(url: str) -> Target:
    found = target(url)
    if found.scheme not in ("http", "https"):
        raise ValueError(f"expected http:// or https://, got {found}")
    return found
