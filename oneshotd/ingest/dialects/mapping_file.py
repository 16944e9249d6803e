"""Read a mapping from the tables of its file, strictly: what is not understood is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from oneshotd.core.parsing.formats import Rules
from oneshotd.core.toml_values import exposed_label, shown, unknown_key
from oneshotd.ingest.dialects.conditions import Condition
from oneshotd.ingest.dialects.mapping import FORMS, JSON, EventMapping, KeyTemplate
from oneshotd.ingest.dialects.pointers import (
    SOURCES,
    Constant,
    ElementName,
    Pointer,
    Source,
    parse_place,
    parse_source,
)

#: Bounds of a file: conditions, members of `in`, details.
MAX_CONDITIONS, MAX_MEMBERS, MAX_DETAILS = 64, 1000, 16

T = TypeVar("T")

_TESTS = ("equals", "in", "matches", "exists")


def parse_mapping(tables: Mapping[str, Any], limits: Rules | None = None) -> EventMapping:
    """Return the mapping of these tables.

    :param limits: of events, which constant labels have to keep, too.
    :raises ValueError: "KEY: expected …, got …".
    """
    rules = limits or Rules()
    for name in tables:
        if name not in KEYS:
            raise ValueError(unknown_key(name, KEYS))
    form = _parsed("format", _form, tables) or JSON
    each = _parsed("each", _each, tables)
    mapping = EventMapping(
        form=form,
        each=each,
        when=_parsed("when", _conditions, tables) or (),
        key=_parsed("key", _key, tables) or (None if form == JSON else _usual_key(each)),
        value=_parsed("value", _source, tables),
        metric=_parsed("metric", lambda value: _metric(value, rules), tables),
        labels=_parsed("labels", lambda value: parse_labels(value, rules), tables) or {},
        detail=_parsed("detail", _detail, tables) or {},
    )
    if not mapping.labels and mapping.metric is None:
        raise ValueError('labels: expected a table such as [labels] with type = "=build", got none')
    _check_element_names(mapping)
    return mapping


def _check_element_names(mapping: EventMapping) -> None:
    """See that `#` has a meaning."""
    if mapping.each is not None:
        return
    sources = {**mapping.labels, **{f"detail {name}": each for name, each in mapping.detail.items()}}
    for name, source in sources.items():
        if isinstance(source, ElementName):
            raise ValueError(f'labels: {name}: "#" is the name of an element; expected each, got none')
    places = [condition.place for condition in mapping.when]
    places += [part for part in (mapping.key.parts if mapping.key else ()) if not isinstance(part, str)]
    if any(isinstance(place, ElementName) for place in places) or isinstance(mapping.value, ElementName):
        raise ValueError('"#" is the name of an element; expected each, got none')


def _parsed(key: str, parse: Callable[[Any], T], tables: Mapping[str, Any]) -> T | None:
    """Return the value of a key, None where there is no such key."""
    if key not in tables:
        return None
    try:
        return parse(tables[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _each(value: object) -> Pointer:
    if not isinstance(value, str):
        raise ValueError(f'expected a pointer such as "/builds", got {shown(value)}')
    return Pointer.parse(value)


def _form(value: object) -> str:
    if not isinstance(value, str) or value not in FORMS:
        raise ValueError(f"expected one of {', '.join(FORMS)}, got {shown(value)}")
    return value


def _usual_key(each: Pointer | None) -> KeyTemplate:
    """Return the key of CloudEvents, where a file has none."""
    return KeyTemplate.parse("{/source} {/id}" if each is None else "{^/source} {^/id} {#}")


def _key(value: object) -> KeyTemplate:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError(f'expected a text such as "{{/id}}-{{/state}}", got {shown(value)}')
    return KeyTemplate.parse(value)


def _source(value: object) -> Source:
    if not isinstance(value, str):
        raise ValueError(f"expected {SOURCES}, got {shown(value)}")
    return parse_source(value)


def _metric(value: object, rules: Rules) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a metric name, got {shown(value)}")
    if fault := rules.fault(value):
        raise ValueError(f"expected a metric name that is free, got {value[:80]!a}, which {fault}")
    return value


def parse_labels(value: object, rules: Rules) -> Mapping[str, Source]:
    """Return the labels of a table and their sources.

    :raises ValueError: "expected …, got …".
    """
    labels = _sources(value, rules.max_labels, "(max-labels)")
    for name, source in labels.items():
        if isinstance(source, Constant) and len(source.text.encode()) > rules.max_value:
            got = len(source.text.encode())
            raise ValueError(f"{name}: expected at most {rules.max_value} bytes (max-label-value), got {got}")
    return labels


def _detail(value: object) -> Mapping[str, Source]:
    return _sources(value, MAX_DETAILS, "of them")


def _sources(value: object, most: int, which: str) -> Mapping[str, Source]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f'expected a table such as {{ result = "/state" }}, got {shown(value)}')
    if len(value) > most:
        raise ValueError(f"expected at most {most} {which}, got {len(value)}")
    sources = {}
    for name, text in value.items():
        exposed_label(name)
        try:
            sources[name] = _source(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return sources


def _conditions(value: object) -> tuple[Condition, ...]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(
            f'expected a list such as [{{ pointer = "/state", equals = "done" }}], got {shown(value)}'
        )
    if len(value) > MAX_CONDITIONS:
        raise ValueError(f"expected at most {MAX_CONDITIONS} conditions, got {len(value)}")
    found = []
    for number, keys in enumerate(value, 1):
        try:
            found.append(_condition(keys))
        except ValueError as error:
            raise ValueError(f"condition {number}: {error}") from None
    return tuple(found)


def _condition(keys: Mapping[str, Any]) -> Condition:
    known = ("pointer", *_TESTS, "not")
    for name in keys:
        if name not in known:
            raise ValueError(unknown_key(name, known))
    where = keys.get("pointer")
    if not isinstance(where, str) or (where and where[0] not in "/^#" and not where.startswith("header:")):
        raise ValueError(
            f'pointer: expected a pointer such as "/a/b", "#" or "header:NAME", got {shown(where)}'
        )
    tests = [name for name in _TESTS if name in keys]
    if len(tests) != 1:
        raise ValueError(f"expected one of {', '.join(_TESTS)}, got {' and '.join(tests) or 'none'}")
    (test,) = tests
    try:
        place = parse_place(where)
    except ValueError as error:
        raise ValueError(f"pointer: {error}") from None
    try:
        negated = _truth(keys.get("not", False))
    except ValueError as error:
        raise ValueError(f"not: {error}") from None
    try:
        if test == "exists":
            return Condition(place=place, exists=_truth(keys[test]), negated=negated)
        if test == "equals":
            return Condition(place=place, texts=frozenset([_compared(keys[test])]), negated=negated)
        members = keys[test] if test == "in" or isinstance(keys[test], list) else [keys[test]]
        if not isinstance(members, list) or not 0 < len(members) <= MAX_MEMBERS:
            raise ValueError(f"expected a list of 1 to {MAX_MEMBERS} members, got {shown(members)}")
        texts = [_compared(member) for member in members]
    except ValueError as error:
        raise ValueError(f"{test}: {error}") from None
    if test == "in":
        return Condition(place=place, texts=frozenset(texts), negated=negated)
    return Condition(place=place, patterns=texts, negated=negated)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {shown(value)}")
    return value


def _compared(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"expected a text, a whole number, true or false, got {shown(value)}")
    return value


#: The keys of a mapping.
KEYS = ("format", "each", "when", "key", "value", "metric", "labels", "detail")
