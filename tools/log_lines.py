"""Find the lines of level warn and above that the daemon writes to its log.

    python -m tools.log_lines

docs/operations.md has a row for each; tests/test_operations_page.py compares.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "oneshotd"

#: Methods of a twisted.logger.Logger, and the level of what they write.
LEVELS = {"warn": "warn", "error": "error", "critical": "critical", "failure": "critical"}

#: What a logger is called, as a name or an attribute.
LOGGERS = {"log", "_log"}

#: The class of throttled lines: their text is its third argument, warn the level unless it is given.
THROTTLED = {"RateLimited", "ThrottledLog"}


class LogLine(NamedTuple):
    """One line that can be in the log."""

    level: str
    text: str  # the format, with its fields in braces
    where: str  # file:line


def log_lines(package: Path = PACKAGE) -> list[LogLine]:
    """Return every line of level warn and above in the sources of the package."""
    found: list[LogLine] = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += lines_in(tree, str(path.relative_to(package.parent)))
    return found


def lines_in(tree: ast.AST, file: str) -> Iterator[LogLine]:
    """Yield the lines of one module."""
    texts = _named_texts(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        where = f"{file}:{node.lineno}"
        if isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS and _is_logger(node.func.value):
            yield LogLine(LEVELS[node.func.attr], _text(node.args[:1], texts, where), where)
        elif _name(node.func) in THROTTLED:
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            level = given.get("level")
            text = [given["text"]] if "text" in given else node.args[2:3]
            name = level.attr if isinstance(level, ast.Attribute) else "warn"
            if name in LEVELS:
                yield LogLine(name, _text(text, texts, where), where)


def _is_logger(node: ast.expr) -> bool:
    return _name(node) in LOGGERS


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _named_texts(tree: ast.AST) -> dict[str, set[str]]:
    """The texts that are assigned to each name of a module, whether constant or variable."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (text := _constant(node.value)) is not None:
            for target in node.targets:
                found.setdefault(_name(target), set()).add(text)
    return found


def _text(arguments: Sequence[ast.expr], texts: Mapping[str, set[str]], where: str) -> str:
    """Return the format of a log line, written in the call or assigned to a name once.

    :raises ValueError: it is neither, so that the line cannot be looked up.
    """
    for argument in arguments:
        text = _constant(argument)
        named = texts.get(_name(argument), set())
        if text is None and len(named) == 1:
            (text,) = named
        if text is not None:
            return text
    raise ValueError(f"{where}: the format of a log line has to be a text")


def _constant(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


if __name__ == "__main__":
    for level, text, where in log_lines():
        print(f"{level:8}  {text}\n          {where}")
