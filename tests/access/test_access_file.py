"""The access file: what it may say, and which errors its author reads."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.access.access_file import MAX_FILE_BYTES, MAX_RULES, read_access_file
from oneshotd.access.findings import unreachable
from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.grammar import Rules
from oneshotd.errors import ConfigError

TOKEN = "5e88" + 60 * "a"

EXAMPLE = f"""
[[allow]]
role = "emit"                       # emit, scrape, look, admin
user = "ci"                         # of basic_auth_users
labels = {{ team = "shop" }}          # forced onto its events
[[allow]]
role = "scrape"
token_sha256 = "{TOKEN.upper()}"
scraper = "prometheus-a"            # the one name it may have; or a pattern
[[allow]]
role = "look"
network = "10.0.0.0/8"
[[allow]]
role = "emit"
san = "ci.example.org"
network = ["192.0.2.0/24", "2001:db8::/32", "unix"]
labels.zone = "b\\r\\nc"
metrics = "shop_*"
types = ["deploy", "back*"]
events_per_second = 2
series_per_day = 1000
[[allow]]
role = "admin"
network = "unix"
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "access.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_example_is_read(tmp_path: Path) -> None:
    """The file of the documentation would not be taken, or mean something else."""
    assert read_access_file(write(tmp_path, EXAMPLE)) == [
        Rule(number=1, role=Role.EMIT, user="ci", labels={"team": "shop"}),
        Rule(number=2, role=Role.SCRAPE, token_sha256=TOKEN, scraper="prometheus-a"),
        Rule(number=3, role=Role.LOOK, network=Networks.parse(["10.0.0.0/8"])),
        Rule(
            number=4,
            role=Role.EMIT,
            san="ci.example.org",
            network=Networks.parse(["192.0.2.0/24", "2001:db8::/32", "unix"]),
            labels={"zone": "b\nc"},
            metrics=("shop_*",),
            types=("deploy", "back*"),
            events_per_second=2.0,
            series_per_day=1000,
        ),
        Rule(number=5, role=Role.ADMIN, network=Networks.parse(["unix"])),
    ]


EMIT = '[[allow]]\nrole = "emit"\nuser = "ci"\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "there is no [[allow]]: without one, nobody may do anything"),
        ("allow = []", "there is no [[allow]]: without one, nobody may do anything"),
        ("[allow]\nrole = 'emit'", "allow: expected tables, [[allow]]"),
        ("allow = [1]", "allow: expected tables, [[allow]]"),
        ("[[alow]]\nrole = 'emit'", "there is no key 'alow'; the nearest is 'allow'"),
        (EMIT + "x = ", "Invalid value (at line 4, the last)"),
        (EMIT + "x = \n", "Invalid value (at line 4, column 5)"),
        (EMIT.encode() + b"# \xff", "expected UTF-8, got another byte (at line 4)"),
        (EMIT + "user = 'b'\n", "Cannot overwrite a value (at line 4, column 11)"),
        ("[[allow]]\nuser = 'ci'", "allow 1: role: expected emit, scrape, look, admin, got none"),
        (
            "[[allow]]\nrole='Emit'\nuser='a'",
            "allow 1: role: expected emit, scrape, look, admin, got 'Emit'",
        ),
        (
            "[[allow]]\nrole=['emit']\nuser='a'",
            "allow 1: role: expected emit, scrape, look, admin, got a list",
        ),
        (
            "[[allow]]\nrole='look'",
            "allow 1: expected at least one of user, token_sha256, san, network: who may look?",
        ),
        (EMIT + "token = 'x'", "allow 1: there is no key 'token'; the nearest is 'token_sha256'"),
        (EMIT + "token-sha256 = 1", "allow 1: there is no key 'token-sha256'; the nearest is 'token_sha256'"),
        (EMIT + EMIT + "number = 3", "allow 2: there is no key 'number'"),
        (
            EMIT + "token_sha256 = 'hunter2'",
            "allow 1: token_sha256: expected the SHA-256 of a token, 64 hexadecimal digits,"
            " got 7 characters (which are not shown)",
        ),
        (
            EMIT + f"token_sha256 = '{TOKEN[:-1]}g'",
            "allow 1: token_sha256: expected the SHA-256 of a token, 64 hexadecimal digits,"
            " got 64 characters (which are not shown)",
        ),
        (
            EMIT + "token_sha256 = 5",
            "allow 1: token_sha256: expected the SHA-256 of a token, 64 hexadecimal digits,"
            " got no string (which are not shown)",
        ),
        (
            "[[allow]]\nrole='emit'\nuser=''",
            "allow 1: user: expected the name of a user, got ''",
        ),
        (
            "[[allow]]\nrole='emit'\nuser='a:b'",
            "allow 1: user: expected a name without a colon, got 'a:b'",
        ),
        ("[[allow]]\nrole='emit'\nuser=true", "allow 1: user: expected the name of a user, got True"),
        (
            EMIT + 'san = "a\\nb"',
            "allow 1: san: expected a subject alternative name, as ci.example.org, got 'a\\nb'",
        ),
        (EMIT + "network = []", "allow 1: network: expected 1 to 1000 members, got 0"),
        (
            EMIT + "network = ['10.1.2.3/8']",
            "allow 1: network: expected a network such as 10.0.0.0/8, got '10.1.2.3/8'",
        ),
        (EMIT + "network = [1]", "allow 1: network: expected a network such as 192.0.2.0/24, or unix, got 1"),
        (EMIT + "scraper = 'a'", "allow 1: scraper: belongs to the role scrape, not to emit"),
        (
            "[[allow]]\nrole='scrape'\nuser='a'\nlabels={a='b'}",
            "allow 1: labels: belongs to the role emit, not to scrape",
        ),
        (
            "[[allow]]\nrole='look'\nuser='a'\nscraper='b'",
            "allow 1: scraper: belongs to the role scrape, not to look",
        ),
        (
            "[[allow]]\nrole='scrape'\nuser='a'\nscraper='a b'",
            "allow 1: scraper: expected 1 to 64 characters of A-Z a-z 0-9 . _ : @ / - and *, got 'a b'",
        ),
        (EMIT + "labels = {}", 'allow 1: labels: expected a table such as { team = "shop" }, got a table'),
        (
            EMIT + "labels = ['a']",
            'allow 1: labels: expected a table such as { team = "shop" }, got a list',
        ),
        (
            EMIT + "labels = {team = 5}",
            "allow 1: labels: team: expected a text that is not empty, got 5",
        ),
        (
            EMIT + "labels = {team = ''}",
            "allow 1: labels: team: expected a text that is not empty, got ''",
        ),
        (EMIT + "labels = {value = '1'}", "allow 1: labels: value is no label"),
        (EMIT + "labels = {__id__ = '1'}", "allow 1: labels: __id__ is no label"),
        (
            EMIT + "labels = {'my-team' = 'a'}",
            "allow 1: labels: expected the name as it is exposed, 'my_team', got 'my-team'",
        ),
        (EMIT + "labels = {__a = 'b'}", "allow 1: labels: label '__a': names that start with __ are"),
        (EMIT + f"labels = {{a = '{5000 * 'x'}'}}", "allow 1: labels: a: expected at most 4096 bytes, got"),
        (
            EMIT + f"labels = {{a = '{300 * 'x'}'}}",
            "allow 1: labels: a: expected at most 256 bytes (max-label-value), got 300",
        ),
        (
            EMIT + "labels = {a='1', b='2', c='3'}",
            "allow 1: labels: expected at most 2 (max-labels), got 3",
        ),
        (
            EMIT + "labels = {type='a'}\ntypes=['b*']",
            "allow 1: labels: the type 'a' is none of types, so no event would be allowed",
        ),
        (EMIT + "metrics = []", "allow 1: metrics: expected 1 to 1000 members, got 0"),
        (
            EMIT + "metrics = ['a-b']",
            "allow 1: metrics: expected a metric name, or a pattern of names with *, got 'a-b'",
        ),
        (
            EMIT + "types = [1]",
            "allow 1: types: expected a type of events, or a pattern of types with *, got 1",
        ),
        *(
            (
                EMIT + f"events_per_second = {number}",
                f"allow 1: events_per_second: expected a number from 0.001 to 1000000, got {got}",
            )
            for number, got in [
                ("0", "0"),
                ("-1", "-1"),
                ("nan", "nan"),
                ("inf", "inf"),
                ("true", "True"),
                ("'1'", "'1'"),
                ("1e7", "10000000.0"),
            ]
        ),
        *(
            (
                EMIT + f"series_per_day = {number}",
                f"allow 1: series_per_day: expected a whole number from 1 to 1000000, got {got}",
            )
            for number, got in [("0", "0"), ("1.5", "1.5"), ("true", "True"), ("1000001", "1000001")]
        ),
        ((MAX_RULES + 1) * EMIT, f"there are {MAX_RULES + 1} rules, more than {MAX_RULES}"),
        ("#" * (MAX_FILE_BYTES + 1), f"the file is longer than {MAX_FILE_BYTES} bytes"),
        (EMIT + "types = " + 100_000 * "[", "lists or tables are nested too deeply"),
        (EMIT + "events_per_second = " + 5000 * "1", "Exceeds the limit"),
    ],
)  # fmt: skip
def test_an_error_names_file_rule_and_key(tmp_path: Path, text: str | bytes, error: str) -> None:
    """An operator would look for the fault in a file of a hundred rules; or a rule would not hold."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_access_file(path, Rules(max_labels=2, max_value=256) if "max-label" in error else None)
    assert str(caught.value).startswith(f"{path}: {error}")
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """The daemon would wait for ever for the writer of a pipe, or die of a traceback."""
    os.mkfifo(tmp_path / "pipe")
    for name, error in [("pipe", "a regular file"), (".", "a regular file"), ("absent", "No such file")]:
        with pytest.raises(ConfigError, match=error):
            read_access_file(tmp_path / name)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_of_the_configuration(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """A half-written file would end the daemon by a traceback when it is read again."""
    path = write(tmp_path_factory.getbasetemp(), data)
    with pytest.raises(ConfigError):
        read_access_file(path)


KEYS = ["role", "user", "token_sha256", "san", "network", "scraper", "labels", "metrics", "types"]
values = st.recursive(
    st.one_of(
        st.sampled_from(
            ["'emit'", "'scrape'", "'a'", "'192.0.2.0/24'", "''", "true", "1979-05-27", f"'{TOKEN}'"]
        ),
        st.integers().map(str),
        st.floats().map(str),
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda members: f"[{', '.join(members)}]")
        | st.tuples(st.sampled_from(["a", "type", "'x y'"]), inner).map(
            lambda pair: f"{{{pair[0]} = {pair[1]}}}"
        )
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from([*KEYS, "events_per_second", "series_per_day", "other"]), values, max_size=5
    )
)
def test_any_values_are_rules_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]
) -> None:
    """A value of another type would end the daemon by a traceback, or a rule would crash at an event."""
    text = "[[allow]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
    path = write(tmp_path_factory.getbasetemp(), text)
    with suppress(ConfigError):
        assert str(read_access_file(path)[0]).startswith("rule 1 (")


def test_the_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    """Who copies the example would get an error, or a rule for other clients than it says."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (rules,) = [read_access_file(write(tmp_path, block)) for block in blocks if "[[allow]]" in block]
    assert [rule.role for rule in rules] == [Role.EMIT, Role.EMIT, Role.SCRAPE, Role.LOOK]
    assert unreachable(rules) == []
    for key in [attribute.name for attribute in fields(Rule) if attribute.name != "number"]:
        assert f"\n| `{key}` |" in page
