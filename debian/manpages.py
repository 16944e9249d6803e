"""Write the manual pages from the option tables, the commented file and --help.

oneshotd(8) has the option table, oneshotd.toml(5) the commented file, oneshot-emit(1) its --help,
oneshotctl(1) its table of subcommands.

    python3 debian/manpages.py FOLDER
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from oneshotd import __version__  # noqa: E402  (the tree's, not an installed one)
from oneshotd.ctl.command import SUBCOMMANDS, SUMMARY, subparsers  # noqa: E402
from oneshotd.daemon.config import OPTIONS  # noqa: E402
from oneshotd.emit.cli.help import HELP  # noqa: E402

DAEMON = r"""
.SH NAME
oneshotd \- deliver each reported event exactly once to every Prometheus
.SH SYNOPSIS
.B twistd3
.RI [ "OPTIONS OF TWISTD" ]
.B oneshot
.RI [ OPTIONS ]
.SH DESCRIPTION
oneshotd takes reports of things that happened (a deployment, a finished backup, a failed cron job)
over HTTP and UDP, and gives each of them exactly once to every Prometheus-style scraper that reads
.IR /metrics ,
as one sample. An event is on disk before its report is answered.
.PP
It is a plugin of
.BR twistd3 (1).
As installed by the package it runs as the service
.BR oneshotd.service ,
under the user oneshotd, reads
.IR /etc/oneshotd/oneshotd.toml ,
and serves this machine only, on port 8090; the first lines of the file admit other machines.
.BR oneshot\-emit (1)
reports an event from a shell,
.BR oneshotctl (1)
checks the configuration, makes backups and tokens, tries hooks, moves a store.
.SH OPTIONS
The command line wins over the file, the file over the environment. Durations are written 500ms, 90s,
5m, 1h, 1d; sizes 512K, 64M, 1G.
.TP
.BI \-\-config " FILE"
a TOML file with the same options, see
.BR oneshotd.toml (5)
"""

DAEMON_END = r"""
.SH ENVIRONMENT
.TP
.B LOG_LEVEL
the log level, if no option sets it
.TP
.B STATE_DIRECTORY
the folder of the store, if no option sets it; systemd sets it
.TP
.B USE_EXPLICIT_TIMESTAMPS
"true": as \-\-timestamps event
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC
the service manager that is notified of start, life and stop, see
.BR sd_notify (3)
.TP
.BR LISTEN_FDS ", " LISTEN_FDNAMES
sockets that the service manager passes on, see
.BR systemd.socket (5);
\-\-http systemd:domain=INET:name=oneshotd.socket takes one
.TP
.B JOURNAL_STREAM
if standard output is this file, each log line begins with its level, see
.BR sd\-daemon (3)
.SH FILES
.TP
.I /etc/oneshotd/oneshotd.toml
the configuration
.TP
.I /etc/default/oneshotd
options for the service's command line
.TP
.I /var/lib/oneshotd/oneshotd.sqlite
the held events and the cursor of each scraper; \-wal and \-shm are beside it
.SH SIGNALS
.TP
.B SIGTERM
finish requests and deliveries, then end
.TP
.B SIGHUP
read the files of \-\-web\-config, \-\-access, \-\-hooks, \-\-pings and \-\-receivers again;
without these options it is ignored, and logged
.SH SEE ALSO
.BR oneshot\-emit (1),
.BR oneshotctl (1),
.BR oneshotd.toml (5),
.BR twistd3 (1),
and the pages in
.IR /usr/share/doc/oneshotd ,
of which semantics.md has the guarantees and their limits.
"""

FILE = r"""
.SH NAME
oneshotd.toml \- configuration of oneshotd
.SH SYNOPSIS
.I /etc/oneshotd/oneshotd.toml
.SH DESCRIPTION
A file in TOML, read by
.BR oneshotd (8)
when it starts; each key is an option of its command line without the dashes, and the command line
wins. With an unknown key or a malformed value the daemon does not start, and the log names it. An
option that may be repeated on the command line is a list here.
.PP
Durations are written "500ms", "90s", "5m", "1h", "1d"; sizes are bytes, or "512K", "64M", "1G" (K is
1024). The defaults are below; the file that the package installs serves this machine only.
.SH KEYS
"""

FILE_END = r"""
.SH EXAMPLE
All clients of a network may send events, two servers may scrape:
.PP
.EX
http = ["8090"]
udp = ["8090"]
allow\-emit = ["127.0.0.1", "::1", "192.0.2.0/24"]
allow\-scrape = ["192.0.2.7", "192.0.2.8"]
.EE
.SH SEE ALSO
.BR oneshotd (8),
.BR oneshot\-emit (1),
.BR oneshotctl (1),
and
.I hardening.md
in
.IR /usr/share/doc/oneshotd ,
which has files for web\-config and access.
"""

EMIT_END = r"""
.SH SEE ALSO
.BR oneshotd (8),
and
.I emitting.md
in
.IR /usr/share/doc/oneshotd .
"""

CTL_FILES = r"""
.SH FILES
.TP
.I /etc/oneshotd/oneshotd.toml
the daemon's configuration, where no option names another
.TP
.I /etc/default/oneshotd
the service's environment, which is read with that file: options for its command line in
.B ONESHOTD_OPTS
.SH SEE ALSO
.BR oneshotd (8),
.BR oneshotd.toml (5),
.BR oneshot\-emit (1),
and
.I operations.md
in
.IR /usr/share/doc/oneshotd .
"""


def escape(text: str) -> str:
    """Escape plain text for roff."""
    for plain, roff in (("\\", r"\e"), ("-", r"\-"), ("'", r"\(aq"), ("`", r"\(ga"), ('"', r"\(dq")):
        text = text.replace(plain, roff)
    return re.sub(r"(?m)^(?=[.])", r"\\&", text)


def head(name: str, section: int, epoch: float) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    return f'.TH {escape(name).upper()} {section} {day} "oneshotd {__version__}"'


def daemon() -> Iterator[str]:
    yield DAEMON.strip()
    for name, option in OPTIONS.items():
        value = f' " {escape(option.unit)}"' if option.unit else ""
        default = option.default
        text = "off" if default is False else ", ".join(default) if isinstance(default, tuple) else default
        again = "; may be repeated" if option.repeats else ""
        yield f".TP\n.BI {escape('--' + name)}{value}"
        yield escape(f"{option.help}{again}; default: {text or 'none'}")
    yield DAEMON_END.strip()


def file() -> Iterator[str]:
    yield FILE.strip()
    for block in (ROOT / "etc/oneshotd.toml").read_text(encoding="utf-8").strip().split("\n\n")[1:]:
        *comment, setting = (line.removeprefix("#") for line in block.splitlines())
        yield f".TP\n.B {escape(setting)}"
        yield escape(" ".join(line.strip() for line in comment))
    yield FILE_END.strip()


def emit() -> Iterator[str]:
    summary, *blocks = re.split(r"\n\n+", HELP.strip())
    yield ".SH NAME\noneshot\\-emit \\- send events to oneshotd\n.SH SYNOPSIS"
    yield f".EX\n{escape(blocks[0])}\n.EE\n.SH DESCRIPTION\n{escape(summary)}"
    for block in blocks[1:]:
        if re.fullmatch(r"[A-Z][a-z]+( [a-z]+)?", block):
            yield f".SH {block.upper()}"
        elif block.startswith("    "):
            yield f".PP\n.EX\n{escape(block)}\n.EE"
        else:
            yield f".PP\n{escape(block)}"
    yield EMIT_END.strip()


def ctl() -> Iterator[str]:
    yield ".SH NAME"
    yield "oneshotctl \\- check, probe, back up, move and audit oneshotd, make tokens, try hooks"
    yield ".SH SYNOPSIS"
    for name, parser in subparsers().items():
        # "usage: oneshotctl …", on several lines if it is long
        usage = " ".join(parser.format_usage().split()[3:])
        yield f".B oneshotctl {escape(name)}\n{escape(usage)}\n.br"
    yield f".B oneshotctl \\-\\-version\n.SH DESCRIPTION\n{escape(SUMMARY)}\n.SH SUBCOMMANDS"
    for name, parser in subparsers().items():
        module = SUBCOMMANDS[name]
        yield f".SS oneshotctl {escape(name)}"
        for paragraph in re.split(r"\n\n+", module.DESCRIPTION):
            is_example = paragraph.startswith("    ")
            yield f".PP\n.EX\n{escape(paragraph)}\n.EE" if is_example else f".PP\n{escape(paragraph)}"
        for action in parser._actions:  # no public way leads to them
            if argparse.SUPPRESS not in (action.help, action.default):
                value = "|".join(action.choices) if action.choices else str(action.metavar or "")
                yield f".TP\n.B {escape(' '.join([*action.option_strings, value]).strip())}"
                yield escape(action.help or "")
        yield ".PP\nExit status:"
        for status, meaning in module.STATUSES.items():
            yield f".TP\n.B {status}\n{escape(meaning)}"
    yield CTL_FILES.strip()


def write(folder: Path, epoch: float) -> None:
    """Write the four pages.

    :param epoch: Unix seconds; their date.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = (
        *(("oneshotd", 8, daemon), ("oneshotd.toml", 5, file)),
        *(("oneshot-emit", 1, emit), ("oneshotctl", 1, ctl)),
    )
    for name, section, page in pages:
        text = "\n".join([head(name, section, epoch), *page()]) + "\n"
        (folder / f"{name}.{section}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    import os

    write(Path(sys.argv[1]), float(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
