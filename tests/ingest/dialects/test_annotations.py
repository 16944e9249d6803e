"""Annotations as Grafana's and Graphite's senders write them; what a repetition does, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oneshotd.core.events import NewEvent, details_of, labels_of
from oneshotd.core.parsing.grammar import Rules
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.annotations import grafana, grafana_graphite, graphite
from oneshotd.ingest.dialects.translation import Context, Message, Translate, Translation
from oneshotd.store.interface import Stored

CONTEXT = Context(rules=Rules(), hold=3600.0, now=1_700_000_000.0)

#: As the built-in sender of Argo CD writes it.
ARGO = {"time": 1507037197000, "isRegion": False, "tags": ["deploy", "env:prod"], "text": "shop is synced"}

#: As that of Flux does: the fields of Graphite, with a text.
FLUX: dict[str, Any] = {
    "when": 1467844481,
    "text": "kustomization/apps.flux-system",
    "tags": ["flux", "kustomize-controller", "revision: main@sha1|5d3b", "kind: Kustomization", "name: apps"],
}

GRAPHITE = {"what": "Event - deploy", "tags": ["deploy"], "when": 1467844481, "data": "master, by ann"}


def translated(translate: Translate, body: Any, **message: Any) -> Translation:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return translate(Message(body=data, raw=data, **message), CONTEXT)


def event_of(translation: Translation) -> NewEvent:
    assert translation.group is not None
    (event,) = translation.group.events
    return event


def key_of(translate: Translate, body: Any, **message: Any) -> str | None:
    group = translated(translate, body, **message).group
    assert group is not None
    assert group.keys_decide
    return group.key


@pytest.mark.parametrize(
    ("translate", "body", "labels", "details"),
    [
        (
            grafana,
            ARGO,
            {"type": "annotation", "env": "prod", "tags": "deploy"},
            {"text": "shop is synced", "time": "2017-10-03T13:26:37.000Z"},
        ),
        (
            grafana,
            FLUX,
            {
                "type": "annotation",
                "kind": "Kustomization",
                "name": "apps",
                "revision": "main@sha1|5d3b",
                "tags": "flux,kustomize-controller",
            },
            {"text": "kustomization/apps.flux-system", "time": "2016-07-06T22:34:41.000Z"},
        ),
        (
            grafana,
            {"time": 1507037197339, "timeEnd": 1507180805056, "text": "load test", "tags": ["type:test"]},
            {"type": "test"},
            {"text": "load test", "time": "2017-10-03T13:26:37.339Z", "end": "2017-10-05T05:20:05.056Z"},
        ),
        (
            grafana,
            {"dashboardUID": "jcIIG-07z", "panelId": 2, "text": "x", "time": 1000, "timeEnd": 1000},
            {"type": "annotation"},
            {"text": "x", "time": "1970-01-01T00:00:01.000Z", "dashboard": "jcIIG-07z", "panel": "2"},
        ),
        (
            grafana,
            {
                "dashboardId": 468,
                "panelId": 0,
                "text": "x",
                "time": 0,
                "timeEnd": None,
                "tags": None,
                "data": {"a": 1},
            },
            {"type": "annotation"},
            {"text": "x", "dashboard": "468"},
        ),
        (grafana, b'\xef\xbb\xbf {"text": "a", "text": "b"} \n', {"type": "annotation"}, {"text": "b"}),
        (
            grafana_graphite,
            GRAPHITE,
            {"type": "annotation", "tags": "deploy"},
            {"text": "Event - deploy\nmaster, by ann", "time": "2016-07-06T22:34:41.000Z"},
        ),
        (
            graphite,
            {"what": "reload", "tags": "web, prod type:reload", "when": 1467844481.5},
            {"type": "reload", "tags": "prod,web"},
            {"text": "reload", "time": "2016-07-06T22:34:41.500Z"},
        ),
        (graphite, {"what": "x", "tags": "", "data": ""}, {"type": "annotation"}, {"text": "x"}),
    ],
)
def test_fields_of_the_senders(
    translate: Translate, body: Any, labels: dict[str, str], details: dict[str, str]
) -> None:
    event = event_of(translated(translate, body))
    assert labels_of(event.series) == labels
    assert details_of(event.detail) == details
    assert event.value is None


def test_each_sender_gets_the_answer_that_it_knows() -> None:
    """Clients read the id, and tell success by the message."""
    stored = Stored(stored=1, first=7)
    answers = []
    for translate, body in ((grafana, ARGO), (grafana_graphite, GRAPHITE), (graphite, GRAPHITE)):
        answer = translated(translate, body).answer
        assert answer is not None
        answers.append(answer(stored))
    assert [made.status for made in answers] == [200, 200, 200]
    assert json.loads(answers[0].body) == {"message": "Annotation added", "id": 7}
    assert json.loads(answers[1].body) == {"message": "Graphite annotation added", "id": 7}
    assert answers[2].body == b""


def test_a_repeated_annotation_with_a_time_counts_once() -> None:
    """Flux repeats a request that was not answered."""
    assert key_of(grafana, FLUX) == key_of(grafana, {**FLUX, "tags": sorted(FLUX["tags"])})
    assert key_of(grafana, FLUX) == key_of(grafana, {**FLUX, "unknown": 1})
    others: list[Any] = [
        {**FLUX, "text": "other"},
        {**FLUX, "when": 1467844482},
        {**FLUX, "tags": []},
        {**FLUX, "dashboardUID": "a"},
        {**FLUX, "timeEnd": 1467844490000},
    ]
    keys = [key_of(grafana, FLUX), *(key_of(grafana, other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert key_of(grafana, FLUX) != key_of(grafana, FLUX, principal="ci")


def test_an_annotation_without_a_time_counts_each_time() -> None:
    assert key_of(grafana, {"text": "x"}) is None
    assert key_of(graphite, {"what": "x"}) is None


def test_a_key_of_the_sender_decides() -> None:
    header = {"idempotency-key": '"run 7"'}
    assert key_of(grafana, {"text": "a"}, headers=header) == key_of(grafana, {"text": "b"}, headers=header)
    assert key_of(grafana, {"text": "a"}, headers=header) != key_of(
        grafana, {"text": "a"}, headers={"idempotency-key": "8"}
    )


def test_a_text_of_any_length_is_kept_as_far_as_there_is_room() -> None:
    event = event_of(translated(grafana, {"text": "x" * 1_000_000, "time": 1000}))
    assert details_of(event.detail)["text"].endswith("x…")


@pytest.mark.parametrize(
    ("translate", "body", "why"),
    [
        (grafana, b"", "expected a JSON object, got no body"),
        (grafana, b"{", "not JSON"),
        (grafana, b"[]", "expected a JSON object, got another value"),
        (grafana, b'[{"text": "x"}]', "expected a JSON object"),
        (grafana, b'"x"', "expected a JSON object"),
        (grafana, b"text=x", "not JSON"),
        (grafana, b'{"text": "\\ud800"}', "text has half of a surrogate pair"),
        (grafana, b'{"text": "\xff"}', "the JSON is not UTF-8"),
        (grafana, b"[" * 100_000, "nested too deep"),
        (grafana, {}, "text: expected one that is not empty, got none$"),
        (grafana, {"text": ""}, "text: expected one that is not empty"),
        (grafana, {"text": None}, "text: expected one that is not empty"),
        (grafana, {"text": {}}, "text: expected a text or a number, got an object"),
        (grafana, {"text": True}, "text: expected a text or a number, got a boolean"),
        (grafana, GRAPHITE, r"\(what: belongs to /api/annotations/graphite and /events/\)"),
        (grafana, {**ARGO, "time": "now"}, "time: expected milliseconds since 1970, got 'now'"),
        (grafana, {**ARGO, "timeEnd": -1}, "timeEnd: expected milliseconds"),
        (grafana, b'{"text": "x", "time": 1e999}', "time: expected milliseconds"),
        (grafana, {**ARGO, "time": [1]}, "time: expected a text or a number, got a list"),
        (grafana, {**ARGO, "tags": {}}, "tags: expected a list of texts, or one text"),
        (grafana, {**ARGO, "tags": True}, "tags: expected a list of texts, or one text"),
        (grafana, {**ARGO, "tags": [["a"]]}, "tags: expected a text or a number, got a list"),
        (grafana, {**ARGO, "tags": ["x"] * 1001}, "tags: expected at most 1000, got 1001"),
        (grafana, {**ARGO, "tags": [f"name{n}:1" for n in range(70)]}, "more than 64 labels"),
        (grafana, {**ARGO, "tags": ["x" * 5000]}, "label 'tags': the value is longer than 4096 bytes"),
        (graphite, {}, "what: expected one that is not empty, got none$"),
        (graphite, ARGO, r"\(text: belongs to /api/annotations\)"),
        (graphite, {"what": "x", "when": "yesterday"}, "when: expected seconds since 1970"),
        (grafana_graphite, {"what": "x", "tags": 5.5}, "label"),
    ],
)
def test_what_cannot_be_read_is_refused(translate: Translate, body: Any, why: str) -> None:
    if why == "label":  # a number is one tag
        assert labels_of(event_of(translated(translate, body)).series)["tags"] == "5.5"
        return
    with pytest.raises(Refused, match=why) as refused:
        translated(translate, body)
    assert refused.value.status == 400
    assert refused.value.text.isprintable()
