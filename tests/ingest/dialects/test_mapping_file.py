"""A mapping's file is read strictly: an error names the key, what was expected, and what came instead."""

from __future__ import annotations

import tomllib

import pytest
from support.hook_messages import CI

from oneshotd.core.parsing.formats import Rules
from oneshotd.ingest.dialects.mapping_file import parse_mapping

WRONG = [
    ("", "labels: expected a table such as [labels]"),
    ("labels = {}", "labels: expected a table such as"),
    ('labels = "x"', "labels: expected a table such as"),
    ("labels.x = 1", "labels: x: expected a pointer such as"),
    ('labels.x = "state"', "labels: x: expected a pointer such as"),
    ('labels.value = "/x"', "labels: value is no label"),
    ('labels.__name__ = "/x"', "labels: __name__ is no label"),
    ('labels.__x = "/x"', "labels: label '__x': names that start with __ are reserved"),
    ('labels."a.b" = "/x"', "labels: expected the name as it is exposed, 'a_b', got 'a.b'"),
    ('labels."a b" = "/x"', "labels: label 'a b'"),
    ('labels.x = "=%s"' % ("x" * 4097), "labels: x: expected at most 4096 bytes (max-label-value), got 4097"),
    ("[labels]\n" + "\n".join(f'l{n} = "=x"' for n in range(65)), "labels: expected at most 64 (max-labels)"),
    ("[detail]\n" + "\n".join(f'l{n} = "=x"' for n in range(17)), "detail: expected at most 16 of them"),
    ('lables.x = "/x"', "there is no key 'lables'; the nearest is 'labels'"),
    ('format = "yaml"', "format: expected one of json, cloudevents, got 'yaml'"),
    ("format = []", "format: expected one of json, cloudevents, got"),
    ("each = 1", 'each: expected a pointer such as "/builds", got 1'),
    ('each = "builds"', "each: expected a pointer such as"),
    ('key = "x"', "key: expected pointers in braces, such as \"{/id}-{/state}\", got 'x'"),
    ('key = "{/id"', "key: expected pointers in braces"),
    ('key = "{/id}}"', "key: expected pointers in braces"),
    ('key = "{id}"', "key: expected a pointer such as"),
    ('key = "%s"' % ("{/x}" * 17), "key: expected at most 16 pointers, got 17"),
    ("key = 1", "key: expected a text such as"),
    ('value = "seconds"', "value: expected a pointer such as"),
    ("value = 5", "value: expected a pointer such as"),
    ('metric = "a b"', "metric: expected a metric name that is free, got 'a b', which is not of the form"),
    ('metric = "up"', "metric: expected a metric name that is free, got 'up', which is taken"),
    ("metric = 1", "metric: expected a metric name, got 1"),
    ('when = "x"', "when: expected a list such as"),
    ("when = [1]", "when: expected a list such as"),
    ("when = [{}]", "when: condition 1: pointer: expected a pointer such as"),
    ('when = [{pointer = "x", exists = true}]', "when: condition 1: pointer: expected a pointer such as"),
    ('when = [{pointer = "=x", exists = true}]', "when: condition 1: pointer: expected a pointer such as"),
    ('when = [{pointer = "/~", exists = true}]', "when: condition 1: pointer: expected ~0"),
    ('when = [{pointer = "/x"}]', "when: condition 1: expected one of equals, in, matches, exists, got none"),
    ('when = [{pointer = "/x", in = [], exists = true}]', "when: condition 1: expected one of"),
    ('when = [{pointer = "/x", in = []}]', "when: condition 1: in: expected a list of 1 to 1000 members"),
    ('when = [{pointer = "/x", in = "a"}]', "when: condition 1: in: expected a list of 1 to 1000 members"),
    ('when = [{pointer = "/x", equals = 1.5}]', "when: condition 1: equals: expected a text, a whole number"),
    ('when = [{pointer = "/x", equals = []}]', "when: condition 1: equals: expected a text, a whole number"),
    ('when = [{pointer = "/x", matches = 1.5}]', "when: condition 1: matches: expected a text"),
    ('when = [{pointer = "/x", exists = "yes"}]', "when: condition 1: exists: expected true or false"),
    ('when = [{pointer = "/x", exists = true, not = 1}]', "when: condition 1: not: expected true or false"),
    ('when = [{pointer = "/x", equal = 1}]', "when: condition 1: there is no key 'equal'; the nearest is"),
    (
        "when = [%s]" % ('{pointer = "/x", exists = true},' * 65),
        "when: expected at most 64 conditions, got 65",
    ),
    ('labels.x = "#"', 'labels: x: "#" is the name of an element; expected each, got none'),
    ('labels.x = "/x"\nvalue = "#"', '"#" is the name of an element; expected each, got none'),
    ('labels.x = "/x"\nkey = "{#}"', '"#" is the name of an element; expected each, got none'),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_each_mistake_is_named(text: str, why: str) -> None:
    """The operator would have to compare the file with the documentation, letter by letter."""
    with pytest.raises(ValueError, match=r"\w") as error:
        parse_mapping(tomllib.loads(text))
    assert str(error.value).startswith(why)
    assert "\n" not in str(error.value)


def test_the_limits_of_the_daemon_hold_for_constants() -> None:
    """A hook would be taken whose every event is refused."""
    with pytest.raises(ValueError, match=r"labels: type: expected at most 3 bytes"):
        parse_mapping(tomllib.loads(CI), Rules(max_value=3))
    with pytest.raises(ValueError, match=r"labels: expected at most 2 \(max-labels\), got 3"):
        parse_mapping(tomllib.loads(CI), Rules(max_labels=2))
