"""YAML documents that are no configuration: hostile, broken, or written for another reader."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.access import packages
from oneshotd.access.yaml_nodes import MAX_BYTES, MAX_DEPTH, MAX_VALUES, Value, read_yaml
from oneshotd.errors import ConfigError

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


def read(folder: Path, text: str | bytes) -> Value | None:
    path = folder / "web.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def document(folder: Path, text: str | bytes) -> Value:
    value = read(folder, text)
    assert value is not None
    return value


def error(folder: Path, text: str | bytes) -> str:
    """Return what is wrong with a file, from the number of its line on."""
    with pytest.raises(ConfigError) as raised:
        read(folder, text)
    return str(raised.value).removeprefix(f"{folder}/web.yml:")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "\ufeff", "---\n", "--- # nothing\n...\n"])
def test_an_empty_file_is_valid(tmp_path: Path, text: str) -> None:
    """A file whose lines are all commented out, which exporter-toolkit takes, would stop the daemon."""
    value = read(tmp_path, text)
    assert value is None or (value.is_empty and not value.fields(()))


#: Ten levels of ten aliases each stand for 10 billion values.
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)

BROKEN = {
    "an open list": ("a: [b", "1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    "an open quote": ("a: 'b\n", "2: not valid YAML: found unexpected end of stream"),
    "a tab": ("a:\n\tb: c", r"2: not valid YAML: found character '\t' that cannot start any token"),
    "two values": ("a: b: c", "1: not valid YAML: mapping values are not allowed here"),
    "bad indentation": (
        "a:\n    b: c\n  d: e\n",
        "3: not valid YAML: expected <block end>, but found '<block mapping start>'",
    ),
    "an unknown alias": ("a: *secret", "1: not valid YAML: found undefined alias"),
    "an unknown escape": (r'a: "\q"', "1: not valid YAML: found unknown escape character 'q'"),
    "two documents": ("a: b\n---\nc: d\n", "2: not valid YAML: expected one document, got several"),
    "a NUL": ("a: b\nc: \0", "2: expected printable characters, got U+0000"),
    "an escape code": ("a: b\nc: \x1b[1m", "2: expected printable characters, got U+001B"),
    "Latin-1": ("a: b\nc: d\ne: \xe9".encode("latin-1"), "3: expected UTF-8, got other bytes"),
    "UTF-16": ("a: b\n".encode("utf-16"), "1: expected UTF-8, got other bytes"),
    "random bytes": (bytes(range(128, 256)), "1: expected UTF-8, got other bytes"),
    "a surrogate": (b"a: \xed\xa0\x80", "1: expected UTF-8, got other bytes"),
    "too deep": ("[" * 5000, f"1: expected at most {MAX_DEPTH} levels, got more"),
    "too deep by lines": (
        "".join(" " * n + "a:\n" for n in range(300)),
        f"{MAX_DEPTH}: expected at most {MAX_DEPTH} levels, got more",
    ),
    "too large": ("#" * (MAX_BYTES + 1), " expected at most 256 KiB, got more"),
    "too many values": (
        "- a\n" * (MAX_VALUES + 1),
        f"{MAX_VALUES + 1}: expected at most {MAX_VALUES} values, got more",
    ),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_an_error_with_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    """An operator would have to look for the fault in the whole file."""
    assert error(tmp_path, text) == said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An operator would not know which of the files has the wrong name."""
    with pytest.raises(ConfigError) as raised:
        read_yaml(tmp_path / "web.yml")
    assert str(raised.value) == f"{tmp_path}/web.yml: No such file or directory"
    (tmp_path / "web.yml").mkdir()
    with pytest.raises(ConfigError, match=r"web\.yml: expected a file, got a folder"):
        read_yaml(tmp_path / "web.yml")


def test_a_fifo_does_not_block_the_daemon(tmp_path: Path) -> None:
    """A reload would wait for a writer, and nothing would be answered meanwhile."""
    os.mkfifo(tmp_path / "web.yml")
    with pytest.raises(ConfigError, match=r"web\.yml: expected a file, got not a regular file"):
        read_yaml(tmp_path / "web.yml")


#: Bytes of a hostile file; a larger one takes tracemalloc long.
LONG = 16 * 1024


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [*a, *a, *a]\n",
        "a: &a {b: *a}\n",
        "- " * (LONG // 2),
        "[" * LONG,
        "{a: " * (LONG // 4),
        "a" * (LONG - 3) + ": b",
        "? " * (LONG // 2),
        "a: '" + "\n" * (LONG - 5),
        "a: |\n" + " \n" * (LONG // 2 - 3),
        "#" * LONG,
        "- a\n" * (LONG // 4),
        "[" + "a," * (LONG // 2 - 1),
        "&a " * (LONG // 3),
        "%" * LONG,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_hostile_file_takes_bounded_memory(tmp_path: Path, text: str) -> None:
    """A file of 256 KiB would end the daemon by its memory."""
    path = tmp_path / "web.yml"
    path.write_text(text)
    tracemalloc.start()
    try:
        value = read_yaml(path)
        if value is not None:
            value.fields(("a",))
    except ConfigError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Some 900 bytes a value, and the shortest value has two bytes.
    assert peak < 600 * LONG


@given(
    before=st.text("{}[]:,&*!|>'\"%@`#-? \n\ta", max_size=6),
    after=st.text("{}[]:,&*!|>'\"%@`#-? \n\ta", max_size=6),
)
def test_no_syntax_error_quotes_a_secret(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str
) -> None:
    """The hash of a password would be in the log, because of a character before or after it."""
    folder = tmp_path_factory.getbasetemp()
    for secret in (HASH, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"):
        try:
            value = read(folder, f"users:\n  alice: {before}{secret}{after}\n")
            if value is not None:
                value.fields(("users",))["users"].fields(())
        except (ConfigError, KeyError) as raised:
            said = str(raised)
            assert not any(secret[start : start + 20] in said for start in range(len(secret) - 20))


def test_keys_are_strict(tmp_path: Path) -> None:
    """A key with a slip would be ignored, and the lock that it stands for would be open."""
    text = "a:\n  cert_file: x\n  # a comment\n  cert_fil: y\n"
    with pytest.raises(ConfigError, match=r"web\.yml:4: a\.cert_fil: unknown key \(cert_file\?\)$"):
        document(tmp_path, text).entries()["a"].fields(("cert_file", "key_file"))
    with pytest.raises(ConfigError, match=r"web\.yml:1: Alpha: unknown key \(alpha\?\)$"):
        document(tmp_path, "Alpha: 1").fields(("alpha",))
    with pytest.raises(ConfigError, match=r"web\.yml:1: zzz: unknown key$"):
        document(tmp_path, "zzz: 1").fields(("alpha",))


BAD_KEYS = {
    "repeated": ("a: 1\nb: 2\na: 3\n", "3: a: repeated key, first in line 1"),
    "repeated in quotes": ("a: 1\n'a': 3\n", "2: a: repeated key, first in line 1"),
    "repeated, the same value": ("a: &x 1\na: *x\n", "2: a: repeated key, first in line 1"),
    "merged": ("a: &x {b: 1}\n<<: *x\n", "2: merge keys (<<) are not supported: repeat the keys"),
    "a list": ("? [a]\n: b\n", "1: expected a text as a key"),
    "null": ("~: b\n", "1: expected a text as a key"),
    "tagged": ("!x a: b\n", "1: expected a text as a key"),
}


@pytest.mark.parametrize(("text", "said"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_bad_keys_are_errors(tmp_path: Path, text: str, said: str) -> None:
    """Of a repeated key the last one would win, and the first one is what an operator reads."""
    with pytest.raises(ConfigError) as raised:
        document(tmp_path, text).entries()
    assert str(raised.value) == f"{tmp_path}/web.yml:{said}"


def test_without_pyyaml_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator of a plain installation would get a traceback."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(packages, "import_module", missing)
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, "a: b")
    assert str(raised.value) == (
        "web-config needs the package PyYAML: pip install 'oneshotd[auth]', or Debian's python3-yaml"
    )


TEXTS = {
    "a: b": "b",
    "a: 1": "1",
    "a: 0x1F": "0x1F",
    "a: 2024-01-01": "2024-01-01",
    "a: yes": "yes",
    "a: 'null'": "null",
    "a: null": "",
    "a: ~": "",
    "a:": "",
    "a: ''": "",
    "a: |\n  b\n  c\n": "b\nc\n",
    "a: !!str 1": "1",
    "a: =": "=",
}


@pytest.mark.parametrize(("text", "read_as"), TEXTS.items(), ids=TEXTS)
def test_a_text_is_what_the_file_says(tmp_path: Path, text: str, read_as: str) -> None:
    """`X-XSS-Protection: 1`, a user named 1, or a host named no, would be refused, or changed."""
    assert document(tmp_path, text).entries()["a"].text() == read_as


FLAGS = {
    "true": True,
    "False": False,
    "yes": True,
    "no": False,
    "ON": True,
    "off": False,
    "y": True,
    "~": True,
}


@pytest.mark.parametrize(("text", "flag"), FLAGS.items())
def test_booleans_are_those_of_go(tmp_path: Path, text: str, flag: bool) -> None:
    """`http2: off` would be read as on."""
    assert document(tmp_path, f"a: {text}").entries()["a"].flag(True) is flag


WRONG_KINDS = [
    ("a: [b]", "text", "1: a: expected a text, got a list"),
    ("a: {b: c}", "text", "1: a: expected a text, got a mapping of keys"),
    ("a: !secret b", "text", "1: a: expected a text without a tag"),
    ("a: !!binary aGk=", "text", "1: a: expected a text without a tag"),
    ("a: b", "items", "1: a: expected a list, got a text"),
    ("a:\n  b: c", "items", "1: a: expected a list, got a mapping of keys"),
    ("a: [b]", "entries", "1: a: expected a mapping of keys, got a list"),
    ("a: !!set {b}", "entries", "1: a: expected a mapping of keys without a tag"),
    ("a: 'true'", "flag", "1: a: expected true or false, got 'true'"),
    ("a: 1", "flag", "1: a: expected true or false, got '1'"),
    ("a: -1", "whole_number", "1: a: expected a whole number, got '-1'"),
    ("a: 1.0", "whole_number", "1: a: expected a whole number, got '1.0'"),
    ("a: 010", "whole_number", "1: a: expected a whole number, got '010'"),
    ("a: 1_000", "whole_number", "1: a: expected a whole number, got '1_000'"),
    ("a: 1:30", "whole_number", "1: a: expected a whole number, got '1:30'"),
    ("a: '1'", "whole_number", "1: a: expected a whole number, got '1'"),
    ("a: ٣", "whole_number", "1: a: expected a whole number, got '٣'"),
    ("a: 1000000000", "whole_number", "1: a: expected a whole number, got '1000000000'"),
    ("a:", "whole_number", "1: a: expected a whole number, got ''"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "method", "said"), WRONG_KINDS)
def test_a_value_of_another_kind_is_an_error(tmp_path: Path, text: str, method: str, said: str) -> None:
    """A list where one value is expected would be read as its text, or end in a traceback."""
    value = document(tmp_path, text).entries()["a"]
    with pytest.raises(ConfigError) as raised:
        value.flag(False) if method == "flag" else getattr(value, method)()
    assert str(raised.value) == f"{tmp_path}/web.yml:{said}"


def test_items_have_their_own_lines(tmp_path: Path) -> None:
    """In a long list an operator would have to count."""
    items = document(tmp_path, "a:\n- b\n- c\n").entries()["a"].items()
    assert [item.where for item in items] == [f"{tmp_path}/web.yml:2: a[0]", f"{tmp_path}/web.yml:3: a[1]"]
