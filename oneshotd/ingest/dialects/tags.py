"""Tags of annotations, as labels and back.

``name:value`` and ``name=value`` are labels; all other tags are members of the label `tags`. Several tags of
one name, and the members of `tags`, are joined by commas, sorted, so that the order in which a sender writes
them makes no further series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from oneshotd.core.parsing.grammar import Pair, label_name
from oneshotd.errors import Refused

#: The label of tags without a name.
TAGS = "tags"

#: A name, a separator and a value. A name begins with a letter, or 12:30 would be one.
_NAMED = re.compile(r"\s*([^\W\d][^:=\s]*)\s*[:=]\s*(?!//)(\S.*)", re.DOTALL)

#: Names that the grammar gives a meaning to.
_RESERVED = re.compile(r"value|__.*|detail\..*", re.DOTALL)


def tag(text: str) -> tuple[str, str]:
    """Return the label of a tag, and its value; a tag without a name is a member of `TAGS`."""
    found = _NAMED.fullmatch(text)
    if found is not None and not _RESERVED.fullmatch(found[1]):
        try:
            return label_name(found[1]), found[2].strip()
        except Refused:
            pass
    return TAGS, text.strip()


def labels_of_tags(tags: Iterable[str]) -> list[Pair]:
    """Return the labels of all tags, sorted by name."""
    found: dict[str, set[str]] = {}
    for text in tags:
        name, value = tag(text)
        if value:
            found.setdefault(name, set()).add(value)
    return [(name, ",".join(sorted(values))) for name, values in sorted(found.items())]


def tags_of_labels(labels: Mapping[str, str]) -> Sequence[str]:
    """Return an event's labels as tags: ``name:value``, and the members of `TAGS`."""
    named = [f"{name}:{value}" for name, value in sorted(labels.items()) if name != TAGS]
    return [*named, *filter(None, labels.get(TAGS, "").split(","))]
