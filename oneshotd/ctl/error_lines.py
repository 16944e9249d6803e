"""Find the line of the access file that an error is about; TOML's parser does not keep it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_HEADER = re.compile(r"\s*\[\[?\s*[\"']?allow[\"']?\s*\]\]?")
_RULE = re.compile(r"allow (\d+): (?:there is no key '([\w-]+)'|([\w-]+):)?")
_PARSER = re.compile(r"\(at line (\d+)\b|\bat line (\d+),")


def with_line(error: str, path: Path) -> str:
    """Return the error with a line number after the file, if the line can be found.

    :param error: "FILE: allow 3: KEY: text", or an error of the parser, "FILE: text (at line 3, …)".
    :param path: the file, as in the error.
    """
    prefix = f"{path}: "
    if not error.startswith(prefix):
        return error
    text = error.removeprefix(prefix)
    if parsed := _PARSER.search(text):
        return f"{path}:{parsed[1] or parsed[2]}: {text}"
    found = _RULE.match(text)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if found else []
    except (OSError, ValueError):
        lines = []
    number = _line(lines, int(found[1]), found[2] or found[3]) if found else None
    return error if number is None else f"{path}:{number}: {text}"


def _line(lines: Sequence[str], rule: int, key: str | None) -> int | None:
    """Return the line of a key in a rule, or of the rule's header; the first line is 1."""
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    if rule > len(headers):
        return None
    start = headers[rule - 1]
    end = headers[rule] if rule < len(headers) else len(lines)
    if key is not None:
        for number in range(start + 1, end):
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", lines[number]):
                return number + 1
    return start + 1
