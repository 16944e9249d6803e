"""docs/emitting.md, taken apart: what it says to run, and which samples it promises."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "emitting.md"
UNITS = REPOSITORY / "etc" / "systemd"

PROMISE = "#> "
#: A daemon with TLS, in the examples that promise no sample.
REMOTE = "oneshotd.example.net:8090"
#: Two daemons over one store, in such examples.
PAIR = ("oneshotd-a:8090", "oneshotd-b:8090")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is to be run, and the samples that it gives.
_PROMISED = re.compile(r"((?:(?!#> ).*\n)+)((?:#> .*\n)+)")
_UNIT = re.compile(r"# /etc/systemd/system/(?P<path>(?P<unit>[\w@.-]+\.service)(?:\.d/.+\.conf)?)")


@frozen(kw_only=True)
class Example:
    """What stands before one promise, or several.

    :param line: where on the page it begins.
    :param samples: what the next scrape gets; ``…`` stands for any number.
    :param unit: for units: whose it is.
    """

    line: int
    language: str
    text: str
    samples: tuple[str, ...]
    unit: str = ""

    def __str__(self) -> str:
        return f"line {self.line}, {self.language}"


def blocks() -> Iterator[tuple[int, str, str]]:
    """The page's fenced blocks: line, language, text."""
    page = PAGE.read_text(encoding="utf-8")
    for found in _FENCED.finditer(page):
        yield page.count("\n", 0, found.start()) + 2, found[1], found[2]


def examples() -> Iterator[Example]:
    """Every example of the page, in order."""
    for first, language, text in blocks():
        unit = _UNIT.match(text) if language == "systemd" else None
        end = 0
        for found in _PROMISED.finditer(text):
            end = found.end()
            yield Example(
                line=first + text.count("\n", 0, found.start()),
                language=language,
                text=found[1],
                samples=tuple(line.removeprefix(PROMISE) for line in found[2].splitlines()),
                unit=unit["unit"] if unit else "",
            )
        if language and end < len(text):
            raise AssertionError(f"{PAGE.name}: the block in line {first} promises no sample for its end")


def unit_files() -> dict[str, str]:
    """Every unit and drop-in of the page, and those that emit: path under /etc/systemd/system -> text."""
    files = {path.name: path.read_text(encoding="utf-8") for path in UNITS.glob("oneshot-emit*.service")}
    for line, language, text in blocks():
        if language == "systemd":
            unit = _UNIT.match(text)
            assert unit, f"{PAGE.name}: the unit in line {line} does not say where it goes"
            # The page shows two ways for one drop-in; here both are there.
            files[unit["path"].replace(".conf", f"-{line}.conf")] = text
    return files


def unit_commands(example: Example, environ: Mapping[str, str]) -> list[list[str]]:
    """What systemd would run for an example: its ``Exec…=`` lines, or those of the unit in ``OnFailure=``.

    Quotes, specifiers and ``${…}`` as systemd.service(5) has them.
    """
    unit, text = example.unit, example.text
    if found := re.search(r"^OnFailure=(.+)$", text, re.MULTILINE):
        unit = _specified(found[1], example.unit)
        text = (UNITS / re.sub(r"@.*\.", "@.", unit, count=1)).read_text(encoding="utf-8")
    elif "@." in unit:
        unit = unit.replace("@.", "@nightly-backup.service.")
    return [
        [_substituted(_specified(word, unit), environ) for word in shlex.split(line)]
        for line in re.findall(r"^Exec\w+=-?(.+)$", text, re.MULTILINE)
    ]


def _specified(text: str, unit: str) -> str:
    instance = unit.partition("@")[2].rpartition(".")[0]
    return re.sub(r"%(.)", lambda found: {"n": unit, "i": instance, "%": "%"}[found[1]], text)


def _substituted(word: str, environ: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: environ.get(found[1], ""), word)
