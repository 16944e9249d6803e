"""Parse and run the command line of ``oneshot-emit``."""

from __future__ import annotations

import getopt
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from oneshotd import __version__
from oneshotd.core.parsing.numbers import duration
from oneshotd.emit.answers import EmitError
from oneshotd.emit.cli.exec import EXEC_TIMEOUT, Ended, execute, report
from oneshotd.emit.cli.help import HELP, INTERRUPTED, NOT_RUN, OK, USAGE, status_of
from oneshotd.emit.credentials import readable_by_others, unencrypted
from oneshotd.emit.encoding import line
from oneshotd.emit.settings import FILES, Settings, SettingsError, settings, targets
from oneshotd.emit.transport import sender

_WITH_VALUE = ("value", "id", "http", "udp", "retry", "timeout", "config", *FILES)
_SWITCHES = ("exec", "help", "version")


class UsageError(Exception):
    """The command line is wrong; the text says where."""


class Asked(NamedTuple):
    """A parsed command line.

    :param options: options with a value, by name without dashes; of several addresses the last.
    :param urls: the addresses of --http.
    :param switches: options without a value.
    :param reads: there is a ``-``: read lines from standard input.
    :param command: after ``--``; None without it.
    """

    options: Mapping[str, str]
    switches: frozenset[str]
    labels: Sequence[tuple[str, str]]
    reads: bool
    command: Sequence[str] | None
    urls: Sequence[str] = ()


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line; return the exit status."""
    before = words[: words.index("--")] if "--" in words else words
    try:
        asked = parse(words)
        if "help" in asked.switches:
            print(HELP, end="")
            return OK
        if "version" in asked.switches:
            print(f"oneshot-emit {__version__}")
            return OK
        check(asked)
    except UsageError as error:
        complain(f"{error} (oneshot-emit --help shows examples)")
        return NOT_RUN if "--exec" in before else USAGE
    try:
        return _wrap(asked, environ) if "exec" in asked.switches else _send(asked, environ)
    except KeyboardInterrupt:
        return INTERRUPTED


def complain(text: str) -> None:
    """Print one line on standard error; do nothing if it is closed."""
    try:
        if sys.stderr is not None:  # closed by the caller
            print(f"oneshot-emit: {text}", file=sys.stderr, flush=True)
    except OSError:
        # Otherwise Python flushes it again at the end, fails, and exits with status 120.
        sys.stderr = None


def parse(words: Sequence[str]) -> Asked:
    """Split a command line into options, labels and the command.

    :raises UsageError: an unknown option, or a word that is no label.
    """
    words = list(words)
    command = None
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
    try:
        found, others = getopt.gnu_getopt(words, "h", [*(f"{name}=" for name in _WITH_VALUE), *_SWITCHES])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    options: dict[str, str] = {}
    urls = [text for dashed, text in found if dashed == "--http"]
    switches = set()
    for dashed, text in found:
        name = "help" if dashed == "-h" else dashed.removeprefix("--")
        if name in _SWITCHES:
            switches.add(name)
        elif name in options and name != "http":
            raise UsageError(f"--{name} is given twice")
        else:
            options[name] = text
    labels = []
    for word in others:
        name, equals, text = word.partition("=")
        if word != "-":
            if not equals:
                raise UsageError(f"expected NAME=VALUE, got {word!r}")
            labels.append((name, text))
    return Asked(options, frozenset(switches), labels, "-" in others, command, urls)


def check(asked: Asked) -> None:
    """Check the values of the options, and that the options can be combined.

    :raises UsageError: the text names the option and the error.
    """
    options, names = asked.options, [name for name, _ in asked.labels]
    if "http" in options and "udp" in options:
        raise UsageError("--http and --udp: expected one of them")
    if "udp" in options and "retry" in options:
        raise UsageError("--retry needs HTTP: a datagram has no answer")
    for name in FILES:
        if "udp" in options and options.get(name):
            raise UsageError(f"--{name} needs HTTP: UDP knows the sender's address only")
    if options.get("key") and not options.get("cert"):
        raise UsageError("--key: expected --cert as well, the key's certificate")
    for name in ("retry", "timeout"):
        _seconds(asked, name)
    try:
        if (urls := _urls(asked)) is not None:
            targets(urls)
    except ValueError as error:
        raise UsageError(f"--{'udp' if 'udp' in options else 'http'}: {error}") from None
    if "exec" in asked.switches:
        if not asked.command:
            raise UsageError("--exec: expected the command after --")
        if asked.reads:
            raise UsageError("--exec leaves standard input to the command, so there can be no -")
        ours = {"value", "status", "exit_code"}.intersection([*names, *options])
        if ours:
            raise UsageError(f"--exec sets value, status and exit_code itself, got {min(ours)}")
    elif asked.command is not None:
        raise UsageError("-- COMMAND goes with --exec")
    if asked.reads:
        for name in ("value", "id"):
            if name in options:
                raise UsageError(f"--{name} is for one event; with - each line has its own")
        if "__id__" in names:
            raise UsageError("__id__ is for one event; with - each line has its own")
    elif not names and not options.keys() & {"value"} and "exec" not in asked.switches:
        raise UsageError("expected labels such as type=deploy, or - to read lines")
    try:
        if names or not asked.reads:
            _line(asked, Ended("ok", 0, 0.0) if asked.command is not None else None)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _line(asked: Asked, ended: Ended | None = None) -> bytes:
    value, labels = asked.options.get("value"), list(asked.labels)
    if ended is not None:
        value = f"{ended.seconds:.3f}"
        labels += [("status", ended.status), ("exit_code", str(ended.exit_code))]
    return line(labels, value=value, id=asked.options.get("id"))


def _urls(asked: Asked) -> Sequence[str] | None:
    if "udp" in asked.options:
        return [f"udp://{asked.options['udp']}"]
    return asked.urls or None


def _seconds(asked: Asked, name: str) -> float | None:
    try:
        return duration(asked.options[name], zero=name == "retry") if name in asked.options else None
    except ValueError as error:
        raise UsageError(f"--{name}: {error}") from None


def _settings(asked: Asked, environ: Mapping[str, str], **usual: float) -> Settings:
    return settings(
        environ,
        url=_urls(asked),
        timeout=_seconds(asked, "timeout"),
        retry=_seconds(asked, "retry"),
        files={name: text for name, text in asked.options.items() if name in FILES},
        file=asked.options.get("config"),
        **usual,
    )


def _send(asked: Asked, environ: Mapping[str, str]) -> int:
    try:
        chosen = _settings(asked, environ)
        _warn(chosen)
        if asked.reads:
            from oneshotd.emit.cli.stream import stream

            return stream(chosen, line(asked.labels) if asked.labels else b"", complain)
        return _send_one(chosen, _line(asked))
    except SettingsError as error:
        complain(str(error))
        return USAGE


def _send_one(chosen: Settings, text: bytes, prefix: str = "") -> int:
    """Send one event; return the exit status.

    :raises SettingsError: a file with a credential cannot be used.
    """
    client = sender(chosen)
    try:
        client.event(text)
    except EmitError as error:
        complain(f"{prefix}{chosen.located(error)}")
        return status_of(error)
    finally:
        client.close()
    return OK


def _warn(chosen: Settings) -> None:
    if (text := readable_by_others(chosen.credentials)) is not None:
        complain(f"warning: {text}")
    # Told to people: on a network without strangers, cron would send a mail for each event.
    if sys.stderr is not None and sys.stderr.isatty() and (text := unencrypted(chosen)) is not None:
        complain(f"warning: {text}")


def _wrap(asked: Asked, environ: Mapping[str, str]) -> int:
    """Run the command and send its event; return the command's exit status in any case."""
    ended = execute(asked.command or (), environ, complain)
    try:
        chosen = _settings(asked, environ, usual_timeout=EXEC_TIMEOUT)
        _warn(chosen)
    except SettingsError as error:
        complain(f"not reported: {error}")
        return ended.exit_code

    def send() -> None:
        try:
            _send_one(chosen, _line(asked, ended), prefix="not reported: ")
        except SettingsError as error:
            complain(f"not reported: {error}")

    report(send, chosen.timeout + chosen.retry, complain)
    return ended.exit_code
