"""docs/operations.md explains each alert, and each log line of warn and above."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tools.log_lines import LOGGERS, PACKAGE, LogLine, lines_in, log_lines

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations.md"
RULES = ROOT / "etc" / "prometheus" / "oneshotd.rules.yml"
CHART_RULES = ROOT / "etc" / "helm" / "oneshotd" / "templates" / "rules.yaml"

_ROW = re.compile(r"^\| (warn|error|critical) \| `(.+?)` \| [^|]+ \| [^|]+ \|$", re.MULTILINE)


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    parts = re.split(r"^#+ (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def test_each_line_of_the_log_has_its_row() -> None:
    """The page would lack a log line, or explain one that is never written."""
    written = {(line.level, line.text): line.where for line in log_lines()}
    explained = _ROW.findall(section("Log lines"))
    hint = "docs/operations.md, table of log lines (python -m tools.log_lines lists them)"
    missing = {where: line for line, where in written.items() if line not in explained}
    assert missing == {}, f"{hint}: no row for"
    assert [row for row in explained if row not in written] == [], f"{hint}: never written"
    assert len(explained) == len(set(explained)), hint


def test_each_alert_has_its_section_with_cause_and_remedy() -> None:
    """The page would lack an alert, its causes or its remedy."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = [(rule["alert"], rule["labels"]["severity"]) for rule in group["rules"]]
    of_the_chart = re.compile(r"alert: (\w+)\n.*?severity: (\w+)\n", re.DOTALL)
    alerts += of_the_chart.findall(CHART_RULES.read_text(encoding="utf-8"))
    for alert, severity in alerts:
        text = section(alert)
        assert "**Causes:**" in text and "**Remedy:**" in text, alert
        assert severity in text.lower(), alert
    named = re.findall(r"^### (Oneshotd\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == [alert for alert, _ in alerts]


def test_every_logger_has_a_name_under_which_its_lines_are_found() -> None:
    """The page could lack a line of another logger, without a failing test."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = node.value.func
                if isinstance(made, ast.Name) and made.id == "Logger":
                    names = {getattr(target, "id", getattr(target, "attr", "")) for target in node.targets}
                    assert names <= LOGGERS, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("source", "level", "text"),
    [
        ("_log.warn('{n} gone', n=1)", "warn", "{n} gone"),
        ("self._log.error('a' 'b')", "error", "ab"),
        ("self.log.failure('no')", "critical", "no"),
        ("log.critical('end')", "critical", "end"),
        ("x = ThrottledLog(clock, log, 'often')", "warn", "often"),
        ("x = ThrottledLog(clock, log, 'often', level=LogLevel.error)", "error", "often"),
        ("x = ThrottledLog(clock, log, text='named')", "warn", "named"),
        ("x = ThrottledLog(clock, log, TEXT); TEXT = 'a' 'constant'", "warn", "aconstant"),
    ],
)
def test_a_line_is_found_however_it_is_written(source: str, level: str, text: str) -> None:
    """The page could lack a line that is not found here."""
    assert list(lines_in(ast.parse(source), "a.py")) == [LogLine(level, text, "a.py:1")]


@pytest.mark.parametrize("source", ["_log.info('all is well')", "parser.error('x')", "math.log(2)"])
def test_other_calls_are_no_lines(source: str) -> None:
    assert list(lines_in(ast.parse(source), "a.py")) == []


def test_a_format_that_cannot_be_read_is_refused() -> None:
    """The page could not explain a line whose text is made at run time."""
    with pytest.raises(ValueError, match=r"a\.py:1: the format"):
        list(lines_in(ast.parse("_log.warn(f'{x}')"), "a.py"))
