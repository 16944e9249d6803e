"""The file of --pings: what it says, and the error for everything else, which shows no secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oneshotd.core.parsing.grammar import Rules
from oneshotd.errors import ConfigError
from oneshotd.ingest.dialects.pings import Check
from oneshotd.ingest.hooks.checks_file import MAX_FILE_BYTES, read_checks_file

UUID = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
KEY = "fqOOd6-F4MMNuCEnzTU01w"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "pings.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_checks(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
        [[check]]
        name = "nightly backup"
        uuid = "{UUID.upper()}"
        keep = "90m"
        labels = {{ team = "shop" }}

        [[check]]
        name = "report"
        key = "{KEY}"

        [[check]]
        name = "report"
        key = "{KEY}"
        slug = "weekly-report"
        """,
    )
    checks = read_checks_file(path)
    assert checks.find((UUID,)) == Check(name="nightly backup", labels={"team": "shop"}, keep=5400.0)
    assert (
        checks.find((KEY, "report"))
        == checks.find((KEY, "weekly-report"))
        == Check(name="report", keep=86400.0)
    )
    assert len(checks) == 3


def test_a_file_without_checks_is_fine(tmp_path: Path) -> None:
    assert len(read_checks_file(written(tmp_path, ""))) == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("checks = 1", "there is no key 'checks'; the nearest is 'check'"),
        ("check = 1", "check: expected tables"),
        ("check = [1]", "check: expected tables"),
        ("[[check]]", "check 1: expected uuid, or key and slug, got none"),
        ('[[check]]\nuuid = "UUID"', "check 1: name: expected a text, got none"),
        ('[[check]]\nuuid = "UUID"\nname = ""', "check 1: name: expected a text"),
        ('[[check]]\nuuid = "UUID"\nname = "a\\nb"', "check 1: name: expected a text"),
        ('[[check]]\nuuid = "UUID"\nname = 7', "check 1: name: expected a text, got 7"),
        ('[[check]]\nuuid = "UUIDx"\nname = "a"', "check 1: uuid: expected the form .* got another one"),
        ('[[check]]\nuuid = 5\nname = "a"', "check 1: uuid: expected the form"),
        ('[[check]]\nuuid = "UUID"\nkey = "KEY"\nname = "a"', "uuid: expected either uuid, or key and slug"),
        ('[[check]]\nslug = "b"\nname = "a"', "expected uuid, or key and slug, got none"),
        ('[[check]]\nkey = "short"\nname = "a"', "key: expected 16 to 100 letters"),
        ('[[check]]\nkey = "KEY KEY"\nname = "a"', "key: expected 16 to 100 letters"),
        ('[[check]]\nkey = "KEY"\nname = "a b"', "slug: expected letters, digits, _ and -, got 'a b'"),
        (
            '[[check]]\nkey = "KEY"\nslug = []\nname = "a"',
            "slug: expected letters, digits, _ and -, got a list",
        ),
        ('[[check]]\nuuid = "UUID"\nnamme = "a"', "there is no key 'namme'; the nearest is 'name'"),
        (
            '[[check]]\nuuid = "UUID"\nname = "a"\nkeep = "8d"',
            "keep: expected a time such as 90m, at most 7d, got '8d'",
        ),
        ('[[check]]\nuuid = "UUID"\nname = "a"\nkeep = 5', "keep: expected a time such as 90m"),
        ('[[check]]\nuuid = "UUID"\nname = "a"\nkeep = "soon"', "keep: expected a time such as 90m"),
        ('[[check]]\nuuid = "UUID"\nname = "a"\nlabels = "x"', "labels: expected a table"),
        ('[[check]]\nuuid = "UUID"\nname = "a"\nlabels = { state = "x" }', "labels: state is the ping's own"),
        ('[[check]]\nuuid = "UUID"\nname = "a"\nlabels = { value = "1" }', "labels: value is no label"),
        (
            '[[check]]\nuuid = "UUID"\nname = "a"\nlabels = { "detail.x" = "1" }',
            "labels: expected the name as it is exposed, 'detail_x'",
        ),
        (
            '[[check]]\nuuid = "UUID"\nname = "a"\nlabels = { "a.b" = "1" }',
            "labels: expected the name as it is exposed, 'a_b'",
        ),
        ('[[check]]\nuuid = "UUID"\nname = "a"\nlabels = { __x = "1" }', "labels: label '__x'"),
        (
            '[[check]]\nuuid = "UUID"\nname = "a"\nlabels = { x = 1 }',
            "labels: x: expected a text that is not empty, got 1",
        ),
        (
            '[[check]]\nuuid = "UUID"\nname = "' + "x" * 5000 + '"',
            "label 'check': the value is longer than 4096 bytes",
        ),
        (
            '[[check]]\nuuid = "UUID"\nname = "a"\n' * 2,
            "check 2: has the uuid, or the key and slug, of check 1",
        ),
        ("[[check]", "at line 1"),
        (b"\xff", "expected UTF-8"),
        ("a = " + "[" * 100_000, "nested too deeply|at line"),
        ("#" * (MAX_FILE_BYTES + 1), "expected at most 1024 KiB"),
        ('[[check]]\nname = "a"\nuuid = "UUID"\n' * 10_001, "there are 10001 checks, more than 10000"),
    ],
)
def test_errors_name_the_check_and_the_key(tmp_path: Path, text: str | bytes, why: str) -> None:
    if isinstance(text, str):
        text = text.replace("UUID", UUID).replace("KEY", KEY)
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=why) as error:
        read_checks_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert UUID not in str(error.value)
    assert KEY not in str(error.value)


def test_labels_have_to_meet_the_limits_of_events(tmp_path: Path) -> None:
    path = written(tmp_path, f'[[check]]\nuuid = "{UUID}"\nname = "a"\nlabels = {{ x = "1" }}')
    with pytest.raises(ConfigError, match="there are more than 4 labels"):
        read_checks_file(path, Rules(max_labels=4))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_checks_file(tmp_path / "none")
    with pytest.raises(ConfigError):
        read_checks_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="expected a file, got not"):
        read_checks_file(tmp_path / "pipe")
