"""JSON pointers (RFC 6901) of a mapping, and where they lead in a message.

| written       | stands for                                                                  |
|---------------|-----------------------------------------------------------------------------|
| `/a/b`, empty | a pointer, relative to the element of `each`; without `each`, to the body   |
| `^/a/b`, `^`  | a pointer, relative to the body                                             |
| `#`           | the name of the element in its object, or its index in its array            |
| `header:NAME` | a header of the request                                                     |
| `=text`       | the text itself                                                             |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import frozen

from oneshotd.core.parsing.grammar import quoted
from oneshotd.core.parsing.json_format import is_object
from oneshotd.errors import Refused

#: Bounds of a pointer: characters, and steps.
MAX_CHARACTERS, MAX_STEPS = 1024, 64

#: How an error calls what a source can be.
SOURCES = 'a pointer such as "/a/b" or "^/a/b", "#", "header:NAME", or a constant such as "=text"'

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
_BAD_TILDE = re.compile(r"~(?![01])")


class _Nothing(Enum):
    ABSENT = "absent"


#: What a pointer finds where there is nothing.
ABSENT: Final = _Nothing.ABSENT


@frozen
class Pointer:
    """A parsed pointer.

    :param written: as in the file.
    :param whole: whether it starts at the body, also within an element.
    """

    written: str
    steps: Sequence[str]
    whole: bool

    @classmethod
    def parse(cls, text: str) -> Pointer:
        """Parse a pointer.

        :raises ValueError: "expected …, got …".
        """
        path = text.removeprefix("^")
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"expected a pointer of at most {MAX_CHARACTERS} characters, got {len(text)}")
        if path and not path.startswith("/"):
            raise ValueError(f'expected a pointer such as "/a/b" or "^/a/b", got {text[:80]!a}')
        if _BAD_TILDE.search(path):
            raise ValueError(f"expected ~0 (for ~) or ~1 (for /) after each ~, got {text[:80]!a}")
        steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:])
        if len(steps) > MAX_STEPS:
            raise ValueError(f"expected a pointer of at most {MAX_STEPS} steps, got {len(steps)}")
        return cls(text, steps, text.startswith("^"))

    def __str__(self) -> str:
        return quoted(self.written)


@frozen
class Constant:
    """A text that stands in the file."""

    text: str


@frozen
class Header:
    """A header of the request; `name` in lower case."""

    name: str

    def __str__(self) -> str:
        return f"header:{self.name}"


@frozen
class ElementName:
    """The name or index of the element."""

    def __str__(self) -> str:
        return "#"


#: What can be looked up in a message.
Place = Pointer | Header | ElementName

#: Where the text of a label comes from.
Source = Place | Constant


def parse_place(text: str) -> Place:
    """Parse a source that is no constant.

    :raises ValueError: "expected …, got …".
    """
    if text == "#":
        return ElementName()
    if text.startswith("header:"):
        name = text.removeprefix("header:")
        if not _HEADER.fullmatch(name):
            raise ValueError(f"expected the name of a header after header:, got {name[:80]!a}")
        if name.lower() in _CREDENTIALS:
            raise ValueError(f"expected a header that is no credential, got {name!a}")
        return Header(name.lower())
    return Pointer.parse(text)


def parse_source(text: str) -> Source:
    """Parse a source.

    :raises ValueError: "expected …, got …".
    """
    if text.startswith("="):
        return Constant(text[1:])
    if text and text[0] not in "/^#" and not text.startswith("header:"):
        raise ValueError(f"expected {SOURCES}, got {text[:80]!a}")
    return parse_place(text)


@frozen
class Element:
    """A part of a body that becomes an event.

    :param value: as decoded.
    :param name: its name or index; None: it is the whole body.
    :param path: where it stands in the body, as a pointer.
    """

    value: object
    name: str | None = None
    path: str = ""


class Document:
    """A decoded JSON body in which pointers are looked up.

    :param body: of `core.parsing.json_format.decode`.
    :param headers: of the request, by lower-case name.
    """

    def __init__(self, body: object, headers: Mapping[str, str]) -> None:
        self._body = body
        self._headers = headers
        self._of_body: dict[str, object] = {}  # by the pointer as written
        self._texts: dict[str, str] = {}  # likewise
        self._body_members: dict[int, Mapping[str, object]] = {}
        self._members: dict[int, Mapping[str, object]] = {}  # of the present element
        self._element: Element | None = None
        self._remembered: dict[int, str | None] = {}  # by the identity of what asks

    def elements(self, each: Pointer | None) -> Iterator[Element]:
        """Yield the elements of an array or object; without a pointer, the body as a whole.

        :raises Refused: the pointer leads to a text or number; `null` and nothing have no elements.
        """
        if each is None:
            yield Element(self._body)
            return
        found = self._find(each, self._body, self._body_members)
        path = each.written.removeprefix("^")
        if is_object(found):
            for name, value in self._object(each, found, self._body_members).items():
                if value is _TWICE:
                    raise _twice(each, name)
                yield Element(value, name, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")
        elif isinstance(found, list):
            for index, value in enumerate(found):
                yield Element(value, str(index), f"{path}/{index}")
        elif found is not None and found is not ABSENT:
            raise Refused(
                f"each: {each}: expected an array or object, got {_kind(found)}",
                reason="syntax",
            )

    def text(self, role: str, source: Source, element: Element) -> str | None:
        """Return the text of a source; None: there is nothing, or `null`.

        :param role: what the text is for, for the refusal.
        :raises Refused: an object, an array, or half of a surrogate pair.
        """
        if isinstance(source, Constant):
            return source.text
        if isinstance(source, ElementName):
            return element.name if element.name is None else _whole(role, source, element.name)
        if isinstance(source, Header):
            return self._headers.get(source.name)
        if source.whole and source.written in self._texts:
            return self._texts[source.written]
        found = self.value(source, element)
        if found is None or found is ABSENT:
            return None
        if isinstance(found, bool):
            return "true" if found else "false"
        if not isinstance(found, str):
            raise Refused(
                f"{role}: {source}: expected a text, number, true or false, got {_kind(found)}",
                reason="syntax",
            )
        text = _whole(role, source, found)
        if source.whole:  # it may be long, and each element asks for it
            self._texts[source.written] = text
        return text

    def remembered(self, asker: object, make: Callable[[], str | None]) -> str | None:
        """Return what `make` returns, which is the same for all elements; it is called once.

        :param asker: outlives this document.
        """
        if id(asker) not in self._remembered:
            self._remembered[id(asker)] = make()
        return self._remembered[id(asker)]

    def value(self, pointer: Pointer, element: Element) -> object:
        """Return what a pointer leads to, or `ABSENT`."""
        if pointer.whole or element.value is self._body:
            if pointer.written not in self._of_body:
                self._of_body[pointer.written] = self._find(pointer, self._body, self._body_members)
            return self._of_body[pointer.written]
        if element is not self._element:
            self._element = element
            self._members.clear()
        return self._find(pointer, element.value, self._members)

    def _find(self, pointer: Pointer, start: object, known: dict[int, Mapping[str, object]]) -> object:
        found = start
        for step in pointer.steps:
            if is_object(found):
                found = self._object(pointer, found, known).get(step, ABSENT)
                if found is _TWICE:
                    raise _twice(pointer, step)
            elif isinstance(found, list):
                index = int(step) if _INDEX.fullmatch(step) else len(found)
                found = found[index] if index < len(found) else ABSENT
            else:
                return ABSENT
        return found

    def _object(
        self, pointer: Pointer, found: object, known: dict[int, Mapping[str, object]]
    ) -> Mapping[str, object]:
        """Return the members of an object by name; they are kept, as several pointers search them."""
        members = known.get(id(found))
        if members is None:
            assert isinstance(found, list)
            members = _by_name(found)
            known[id(found)] = members
        return members


class _Twice(Enum):
    TWICE = "twice"


_TWICE: Final = _Twice.TWICE


def _by_name(pairs: Sequence[tuple[str, object]]) -> Mapping[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                members[name] = _TWICE
            seen.add(name)
    return members


def _twice(pointer: Pointer, name: str) -> Refused:
    return Refused(f"{pointer}: {quoted(name)} is given twice in its object", reason="syntax")


def _whole(role: str, source: Place, text: str) -> str:
    """Return a text that can be written as UTF-8.

    :raises Refused: it cannot.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            why = "the text has half of a surrogate pair in it"
            raise Refused(f"{role}: {source}: {why}", reason="encoding") from None
    return text


def _kind(found: object) -> str:
    if is_object(found):
        return "an object"
    if isinstance(found, list):
        return "an array"
    if isinstance(found, bool):
        return "true" if found else "false"
    return quoted(str(found))
