"""What holds for every preset, whatever a sender's next version sends."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.presets import preset
from support.hook_payloads import encoded
from support.preset_messages import GOOD

from oneshotd.errors import REASONS, Refused
from oneshotd.ingest.dialects.registry import PRESETS

#: What takes the place of each part of a good message.
ODD: tuple[Any, ...] = (
    *(None, "", "x", "\x00\u2028\r\n", "ü" * 9000, "\N{GRINNING FACE}", "2026-02-31T99:99:99Z"),
    *(True, 0, -1, 7.5, 10**30, 1e-320, math.pi),
    *([], {}, [[]], [{}], {"": ""}, {"a.b": {"c": []}}, [None], ["x"] * 100, {"x" * 300: "y"}),
)

MESSAGES = [pytest.param(number, id=f"{name}-{number}") for number, (name, _, _) in enumerate(GOOD)]


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each part of a payload stands."""
    yield path
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, member in members:
        yield from places(member, (*path, name))


def changed(payload: Any, path: tuple[Any, ...], value: object) -> Any:
    """Return the payload with another value at one place."""
    if not path:
        return value
    made = copy.deepcopy(payload)
    parent = made
    for name in path[:-1]:
        parent = parent[name]
    parent[path[-1]] = value
    return made


def refusal(number: int, payload: object) -> Refused | None:
    """Return why a payload is refused, with the headers of a good message; None: it is taken."""
    try:
        preset(bytes([number]) + encoded(payload))
    except Refused as error:
        return error
    return None


@pytest.mark.parametrize("number", MESSAGES)
def test_any_part_may_be_anything(number: int) -> None:
    """A field of another type would end in a 500, which the sender repeats, or in a broken scrape."""
    _, _, payload = GOOD[number]
    found = []
    for turn, path in enumerate(places(payload)):
        for step in range(5):
            value = ODD[(turn * 5 + step * 4) % len(ODD)]
            found.append(refusal(number, changed(payload, path, value)))
    refused = [error for error in found if error is not None]
    assert 0 < len(refused) < len(found)
    for error in refused:
        assert error.reason in REASONS
        assert error.text.isprintable()
        assert len(error.text) < 500


@pytest.mark.parametrize("number", MESSAGES)
def test_any_part_may_be_missing(number: int) -> None:
    """An older version of a sender would end in a 500."""
    payload: Any = GOOD[number][2]
    for path in places(payload):
        if path:
            made = copy.deepcopy(payload)
            parent = made
            for name in path[:-1]:
                parent = parent[name]
            del parent[path[-1]]
            error = refusal(number, made)
            assert error is None or error.status == 400


@pytest.mark.parametrize("number", MESSAGES)
def test_a_body_that_is_cut_is_refused(number: int) -> None:
    """Half a message would be taken for a whole one."""
    body = encoded(GOOD[number][2])
    for end in range(0, len(body), 7):
        with pytest.raises(Refused):
            preset(bytes([number]) + body[:end])


@pytest.mark.parametrize("name", sorted({name for name, _, _ in GOOD}))
def test_each_preset_has_its_chapter(name: str) -> None:
    """An operator could not see what becomes of a field."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "dialects.md").read_text(encoding="utf-8")
    assert f"/hook/{name}" in page
    assert name in PRESETS
