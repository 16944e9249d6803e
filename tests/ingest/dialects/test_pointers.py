"""Pointers lead where RFC 6901 says; a hostile body costs no more than it has bytes."""

from __future__ import annotations

import time

import pytest

from oneshotd.core.parsing.json_format import decode
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.pointers import (
    ABSENT,
    Constant,
    Document,
    Element,
    ElementName,
    Header,
    Pointer,
    parse_source,
)

#: The document of RFC 6901, section 5.
RFC = decode(
    rb"""{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6,
    " ": 7, "m~n": 8}"""
)


def found(body: object, pointer: str) -> object:
    return Document(body, {}).value(Pointer.parse(pointer), Element(body))


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/foo/0", "bar"),
        ("/foo/1", "baz"),
        ("/", "0"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ("/g|h", "4"),
        ("/i\\j", "5"),
        ('/k"l', "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
        ("^/m~0n", "8"),
        ("/m~01n", ABSENT),
        ("/foo/2", ABSENT),
        ("/foo/-", ABSENT),
        ("/foo/-1", ABSENT),
        ("/foo/00", ABSENT),
        ("/foo/01", ABSENT),
        ("/foo/\N{ARABIC-INDIC DIGIT ONE}", ABSENT),
        ("/foo/99999999999999999999", ABSENT),
        ("/foo/0/x", ABSENT),
        ("/foo/length", ABSENT),
        ("/nothing/at/all", ABSENT),
        ("/a~1b/0", ABSENT),
    ],
)
def test_a_pointer_leads_where_the_standard_says(pointer: str, expected: object) -> None:
    """A label would have the text of another field."""
    assert found(RFC, pointer) == expected


def test_the_empty_pointer_is_the_whole() -> None:
    assert found(RFC, "") is RFC
    assert found(RFC, "^") is RFC


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=build", Constant("build")),
        ("=", Constant("")),
        ("=/a", Constant("/a")),
        ("#", ElementName()),
        ("header:X-GitHub-Event", Header("x-github-event")),
        ("/a", Pointer("/a", ("a",), False)),
        ("^/a", Pointer("^/a", ("a",), True)),
        ("", Pointer("", (), False)),
    ],
)
def test_sources_are_told_by_their_first_characters(text: str, expected: object) -> None:
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("state", "expected a pointer such as"),
        ("$.state", "expected a pointer such as"),
        ("^state", "expected a pointer such as"),
        ("##", "expected a pointer such as"),
        ("/a~", "expected ~0 (for ~) or ~1 (for /) after each ~"),
        ("/a~2", "expected ~0 (for ~) or ~1 (for /) after each ~"),
        ("header:", "expected the name of a header"),
        ("header:a b", "expected the name of a header"),
        ("header:Authorization", "expected a header that is no credential, got 'Authorization'"),
        ("header:cookie", "expected a header that is no credential"),
        ("/" * 65, "expected a pointer of at most 64 steps, got 65"),
        ("/" + "x" * 1024, "expected a pointer of at most 1024 characters, got 1025"),
    ],
)
def test_what_is_no_source_is_an_error_that_says_what_was_expected(text: str, why: str) -> None:
    """The operator would have to guess what is wrong in the file."""
    with pytest.raises(ValueError, match="expected") as error:
        parse_source(text)
    assert why in str(error.value)


def test_a_name_that_is_given_twice_is_refused_where_it_is_looked_up() -> None:
    """Two parsers would see two different texts in one signed body."""
    body = decode(b'{"a": 1, "b": {"x": 1, "x": 2}, "a": 3, "c": 4}')
    for pointer in ("/a", "/b/x"):
        with pytest.raises(Refused, match="is given twice in its object"):
            found(body, pointer)
    assert found(body, "/c") == "4"
    with pytest.raises(Refused, match="is given twice"):
        list(Document(body, {}).elements(Pointer.parse("/b")))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"b": [1, 2]}', [("0", "/b/0"), ("1", "/b/1")]),
        (b'{"b": {"x": 1, "y/~": 2}}', [("x", "/b/x"), ("y/~", "/b/y~1~0")]),
        (b'{"b": []}', []),
        (b'{"b": null}', []),
        (b"{}", []),
        (b"[]", []),
    ],
)
def test_each_member_is_an_element(body: bytes, expected: list[tuple[str, str]]) -> None:
    elements = Document(decode(body), {}).elements(Pointer.parse("/b"))
    assert [(each.name, each.path) for each in elements] == expected


@pytest.mark.parametrize("text", [b'"text"', b"1", b"true"])
def test_elements_of_a_text_are_refused(text: bytes) -> None:
    """A mapping of the wrong field would lose all events without a word."""
    with pytest.raises(Refused, match="each: '/b': expected an array or object, got"):
        list(Document(decode(b'{"b": %b}' % text), {}).elements(Pointer.parse("/b")))


def test_many_elements_do_not_search_a_wide_body_again_and_again() -> None:
    """A body of a megabyte would hold the daemon for minutes."""
    wide = ", ".join(f'"m{number}": {number}' for number in range(30_000))
    body = decode(f'{{{wide}, "b": [{", ".join(["{}"] * 10_000)}]}}'.encode())
    document = Document(body, {})
    pointers = [Pointer.parse(f"^/m{number}") for number in range(0, 30_000, 1_000)]
    before = time.process_time()
    for element in document.elements(Pointer.parse("/b")):
        for pointer in pointers:
            document.value(pointer, element)
    assert time.process_time() - before < 5
