"""Mappings of hooks: the text of a file, and the bodies that it is applied to."""

from __future__ import annotations

from collections.abc import Callable

from fuzz import vocabulary as words
from fuzz.response import RULES, check
from support.hook_messages import CI

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Context, Message
from oneshotd.ingest.hooks.hook_file import parse_hook_file
from oneshotd.ingest.hooks.trial import tried
from oneshotd.ingest.hooks.wire import ResultReader, result_lines

CONTEXT = Context(rules=RULES, hold=3600.0, now=1_700_000_000.0)

#: Every kind of source and condition.
WIDE = b"""
each = "/builds"
when = [
    { pointer = "/state", matches = ["f*", "*d"] },
    { pointer = "/state", in = ["running", 1, true], not = true },
    { pointer = "^/ref", exists = true },
]
key = "{/id}-{#}-{header:X-Id}"
value = "/seconds"
metric = "builds"
labels = { type = "=build", result = "/state", deep = "/a~1b/0/x", name = "#", kind = "header:X-Id" }
detail = { url = "^/url", text = "^/ref" }
"""

BODIES = (
    b'{"ref": "main", "builds": [{"id": 7, "state": "finished", "seconds": 12.5}, {"id": 8, "state": "d"}]}',
    b'{"ref": true, "builds": {"a": {"id": "x", "state": "found", "a/b": [{"x": "deep"}]}, "b": {}}}',
    b'{"url": "https://example.org/", "ref": "\\u00e4", "builds": [{"id": 1, "state": "f", "seconds": "1"}]}',
)

FILE_WORDS = (
    *b"each when key value metric labels detail preset verify by header prefix secret_files".split(),
    *b'= { } [ ] , . [[ ]] """ \' # pointer equals in matches exists not true false 1 1.5'.split(),
    *b'"/a" "^/a" "#" "=x" "{/id}" "header:X" "/builds" "~" "~0" "*" "hmac-sha256" "token" "github"'.split(),
    b"\n",
)

_RECIPES = [parse_hook_file(text, "ci", RULES).recipe for text in (CI.encode(), WIDE)]


def body(check_refusal: Callable[[Refused], None]) -> Callable[[bytes], int]:
    """Return a target that applies all recipes to a body."""

    def run(data: bytes) -> int:
        return sum(_applied(recipe, data, check_refusal) for recipe in _RECIPES)

    return run


def file(check_refusal: Callable[[Refused], None]) -> Callable[[bytes], int]:
    """Return a target that reads a file, and applies it to all bodies."""

    def run(data: bytes) -> int:
        try:
            recipe = parse_hook_file(data, "ci", RULES).recipe
        except ValueError as error:
            text = str(error)
        else:
            for sent in BODIES:
                _applied(recipe, sent, check_refusal)
            return 1
        assert "\n" not in text
        return 0

    return run


def _applied(recipe: Recipe, data: bytes, check_refusal: Callable[[Refused], None]) -> int:
    """Translate; the trial says the same, and the process for large bodies would send the same back."""
    message = Message(body=data, raw=data, headers={"x-id": "7"})
    trial = tried(recipe, message, CONTEXT)
    assert all(line.isprintable() for line in trial.lines())
    try:
        found = recipe.translate(message, CONTEXT)
    except Refused as refused:
        check_refusal(refused)
        found = None
    assert (trial.refused is None) is (found is not None)
    if found is None:
        return 0
    events = () if found.group is None else found.group.events
    assert [(each.series, each.value, each.key) for each in trial.events] == [event[:3] for event in events]
    reader = ResultReader()
    for line in result_lines(found):
        reader.take(line)
    assert reader.translation() == found
    check([event._replace(key=None) for event in events])
    return len(events)


WORDS = (*words.JSON_WORDS, *(b'"%s"' % name for name in b"ref builds id state seconds url a/b x".split()))
