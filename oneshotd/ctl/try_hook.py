"""``oneshotctl try-hook``: show what a message would become, and store nothing."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from oneshotd.core.parsing.formats import Rules
from oneshotd.ctl.daemon_sources import CONFIG, service_sources
from oneshotd.ctl.error_lines import with_line
from oneshotd.ctl.results import FAILED, OK, USAGE, Failed
from oneshotd.daemon.config import Config
from oneshotd.daemon.config_sources import configure
from oneshotd.errors import ConfigError, Refused
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Context, Message
from oneshotd.ingest.hooks.hook_file import HookFile, read_hook_file, read_secrets
from oneshotd.ingest.hooks.trial import tried

HELP = "show what a message to a hook would become, and store nothing"

DESCRIPTION = """\
Reads the file of a hook as the daemon would, and shows which events a message becomes by it, with their
keys and details, and what is left out and why. No daemon is asked, and nothing is stored.

    oneshotctl try-hook /etc/oneshotd/hooks/ci.toml payload.json
    curl -s https://ci.example.org/builds/7 | oneshotctl try-hook ci.toml -

Instead of a file, preset:NAME tries a preset that needs none. Where the file has a table [verify], the
signature or token is checked if its header is given."""

STATUSES = {
    0: "the daemon would take the message",
    1: "the daemon would refuse the message, or the file is wrong or cannot be read",
    2: "the command line is wrong, or the daemon's configuration",
}

_PRESET = "preset:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE", help="the file of the hook, NAME.toml; or preset:NAME")
    parser.add_argument("payload", metavar="PAYLOAD", help="a file with the body of a request; -: stdin")
    parser.add_argument(
        "--header",
        metavar="HEADER",
        action="append",
        default=[],
        help="a header of the request, as 'X-Event: push'; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--config", metavar="FILE", help=f"the daemon's configuration, for its limits (default: {CONFIG})"
    )


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show what the message becomes; return whether the daemon would take it.

    :raises Failed: a file cannot be read, or is wrong.
    """
    headers = _headers(arguments.header)
    config = _config(arguments.config, environ)
    rules = Rules(metric=config.metric, max_labels=config.max_labels, max_value=config.max_label_value)
    hook = _hook(arguments.file, rules)
    body = _payload(arguments.payload, config.max_hook_body)
    message = Message(body=body, raw=body, headers=headers)
    verified, fits = _verified(arguments.file, hook, message)
    trial = tried(hook.recipe, message, Context(rules=rules, hold=config.hold, now=time.time()))
    if arguments.json:
        print(json.dumps({**trial.as_json(), "verification": verified}, ensure_ascii=False, indent=2))
    else:
        if verified is not None:
            print(f"verification: {verified}")
        for line in trial.lines():
            print(line)
    return OK if fits and trial.refused is None else FAILED


def _headers(given: Sequence[str]) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for each in given:
        name, colon, text = each.partition(":")
        if not colon or not name.strip():
            raise Failed(f"--header: expected 'NAME: TEXT', got {each[:80]!a}", USAGE)
        name, text = name.strip().lower(), text.strip()
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _config(file: str | None, environ: Mapping[str, str]) -> Config:
    try:
        sources = service_sources(file, environ)
        return configure(sources.given, sources.environ, sources.file)
    except ConfigError as error:
        raise Failed(str(error), USAGE) from None


def _hook(file: str, rules: Rules) -> HookFile:
    try:
        if file.startswith(_PRESET):
            name = file.removeprefix(_PRESET)
            return HookFile(recipe=Recipe.parse(name, {"preset": name}, rules))
        return read_hook_file(Path(file), rules)
    except ConfigError as error:
        raise Failed(with_line(str(error), Path(file))) from None
    except ValueError as error:
        raise Failed(str(error)) from None


def _verified(file: str, hook: HookFile, message: Message) -> tuple[str | None, bool]:
    """Return what is to be said of the verification, and whether the sender would be let in."""
    how = hook.verification
    if how is None:
        return None, True
    if how.header not in message.headers:
        return f"not checked, as the header {how.header} is not given (--header)", True
    try:
        verifier = read_secrets(Path(file), hook)
    except ConfigError as error:
        raise Failed(str(error)) from None
    assert verifier is not None
    try:
        verifier(message)
    except Refused as refused:
        return f"refused with {refused.status}: {refused.text}", False
    return f"the header {how.header} fits", True


def _payload(path: str, most: int) -> bytes:
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(most + 1)
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}") from None
    if len(data) > most:
        raise Failed(f"{name}: expected at most {most} bytes (max-hook-body), got more")
    return data
