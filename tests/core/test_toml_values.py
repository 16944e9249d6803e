"""Errors of TOML files name the line or key, and the nearest of the keys that there are."""

from __future__ import annotations

import pytest

from oneshotd.core.toml_values import exposed_label, parse_toml, shown, unknown_key


def test_a_good_file_is_read() -> None:
    assert parse_toml(b'a = 1\n[b]\nc = "x"\n') == {"a": 1, "b": {"c": "x"}}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a = 1\nb = ", "at line 2"),
        (b'a = 1\nb = "x', "at line 2"),
        (b"a = 1\n\xff = 1", "expected UTF-8, got another byte (at line 2)"),
        (b"a = " + b"[" * 100_000, "lists or tables are nested too deeply"),
        (b"a = 1\na = 2", "at line 2"),
    ],
)
def test_a_bad_file_is_an_error_with_its_line(data: bytes, why: str) -> None:
    """The operator would have to search the file."""
    with pytest.raises(ValueError, match=r"\w") as error:
        parse_toml(data)
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lables", "there is no key 'lables'; the nearest is 'labels'"),
        ("Secret-Files", "there is no key 'Secret-Files'; the nearest is 'secret_files'"),
        ("x", "there is no key 'x'"),
        ("a\nb", "there is no key 'a\\nb'"),
    ],
)
def test_the_nearest_key_is_named(name: str, said: str) -> None:
    assert unknown_key(name, ["labels", "secret_files"]) == said


@pytest.mark.parametrize(
    ("value", "text"), [({}, "a table"), ([1], "a list"), ("é", "'\\xe9'"), (1.5, "1.5"), (True, "True")]
)
def test_values_are_shown_short(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(shown("x" * 1000)) == 80


def test_a_label_is_written_as_it_is_exposed() -> None:
    """A label of a file would have another name in the samples."""
    assert exposed_label("team") == "team"
    for name, why in (
        ("value", "value is no label"),
        ("a.b", "expected the name as it is exposed, 'a_b', got 'a.b'"),
        ("a b", "label 'a b'"),
    ):
        with pytest.raises(ValueError, match=r"\w") as error:
            exposed_label(name)
        assert why in str(error.value)
