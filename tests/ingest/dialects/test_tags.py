"""Tags of annotations as labels, and an event's labels as tags."""

from __future__ import annotations

import pytest

from oneshotd.ingest.dialects.tags import labels_of_tags, tags_of_labels


@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        ([], {}),
        (["deploy"], {"tags": "deploy"}),
        (["b", "a", "b", " a "], {"tags": "a,b"}),
        (["type:deploy"], {"type": "deploy"}),
        (["type=deploy"], {"type": "deploy"}),
        (["kind: Kustomization", "name : apps"], {"kind": "Kustomization", "name": "apps"}),
        (["revision: main@sha1|abc:def"], {"revision": "main@sha1|abc:def"}),
        (["kustomize.toolkit.fluxcd.io/revision: x"], {"kustomize_toolkit_fluxcd_io_revision": "x"}),
        (["team:b", "team=a", "team:b"], {"team": "a,b"}),
        (["a.b:1", "a-b:2"], {"a_b": "1,2"}),
        (["größe:XL"], {"gr__e": "XL"}),
        # No names, or none that a label has.
        (["https://example.org/x"], {"tags": "https://example.org/x"}),
        (["12:30", "8=9"], {"tags": "12:30,8=9"}),
        (
            ["value:5", "__name__:up", "__id__=1", "detail.text:x"],
            {"tags": "__id__=1,__name__:up,detail.text:x,value:5"},
        ),
        (["two words: x", "a|b:c"], {"tags": "a|b:c,two words: x"}),
        (["empty:", ":x", "=", ""], {"tags": ":x,=,empty:"}),
        (["x" * 200 + ":1"], {"tags": "x" * 200 + ":1"}),
        (["tags:a", "b"], {"tags": "a,b"}),
    ],
)
def test_tags_as_labels(tags: list[str], labels: dict[str, str]) -> None:
    assert dict(labels_of_tags(tags)) == labels


def test_labels_as_tags() -> None:
    """A dashboard filters by the tags that the sender wrote."""
    assert list(tags_of_labels({"type": "deploy", "tags": "a,b", "env": "prod"})) == [
        "env:prod",
        "type:deploy",
        "a",
        "b",
    ]
    assert list(tags_of_labels({})) == []
