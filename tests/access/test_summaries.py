"""The lines about files that are in force: short, complete, and without a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from oneshotd.access.rules import Role, Rule
from oneshotd.access.summaries import date, replaced, rule_changes, rules_summary, web_changes, web_summary
from oneshotd.access.web_config import RateLimit, WebConfig

HASH = b"$2b$04$" + b"a" * 53
CONFIG = WebConfig(path=Path("web.yml"), users={"ann": HASH, "bob": HASH})


@pytest.mark.parametrize(
    ("after", "changes"),
    [
        ({}, []),
        ({"users": {"ann": HASH}}, ["users: bob removed"]),
        ({"users": {"ann": HASH, "bob": HASH[:-1] + b"b"}}, ["users: bob with another password"]),
        (
            {"users": {"ann": HASH[:-1] + b"b", "zoe": HASH}},
            ["users: zoe added, bob removed, ann with another password"],
        ),
        ({"users": {**CONFIG.users, **{f"u{n}": HASH for n in range(6)}}}, ["users: 6 added"]),
        ({"headers": {"X-Frame-Options": "deny"}}, ["headers"]),
        ({"rate_limit": RateLimit(interval=1.0, burst=2)}, ["rate limit"]),
    ],
)
def test_each_change_of_a_web_configuration_is_named(after: dict[str, Any], changes: list[str]) -> None:
    """An operator could not tell whether a change is in force."""
    assert list(web_changes(CONFIG, evolve(CONFIG, **after))) == changes


def test_no_secret_is_in_a_line() -> None:
    """Whoever reads the log could guess passwords at leisure."""
    other = evolve(CONFIG, users={"ann": HASH[:-1] + b"b"})
    text = "".join([*web_changes(CONFIG, other), web_summary(CONFIG, None)])
    assert "$2b$" not in text and "aaaa" not in text


def test_a_web_configuration_in_one_line() -> None:
    assert web_summary(CONFIG, None) == "no TLS, 2 users"
    full = evolve(CONFIG, headers={"a": "b"}, rate_limit=RateLimit(interval=1.0, burst=2), users={})
    assert web_summary(full, None) == "no TLS, 0 users, 1 header, a rate limit"
    assert date(0) == "1970-01-01 00:00 UTC"


def test_rules_in_one_line_and_their_changes() -> None:
    """A rule that was lost in an edit would not be noticed."""
    emit, look = Rule(number=1, role=Role.EMIT, user="ann"), Rule(number=2, role=Role.LOOK, user="ann")
    assert rules_summary([emit, look]) == "2 rules (1 emit, 1 look)"
    assert list(rule_changes([emit, look], [emit, look])) == []
    swapped = [evolve(look, number=1), evolve(emit, number=2)]
    assert list(rule_changes([emit, look], swapped)) == ["rules: another order"]
    assert list(rule_changes([emit, look], [evolve(look, number=1)])) == ["rules: 0 added, 1 removed"]
    narrowed = [evolve(emit, metrics=("deploys",)), look]
    assert list(rule_changes([emit, look], narrowed)) == ["rules: 1 added, 1 removed"]


def test_files_with_another_content_are_named() -> None:
    before = {"a": b"1", "b": b"2"}
    assert replaced(before, {"a": b"1", "b": b"3", "c": b"4"}) == ["b", "c"]
