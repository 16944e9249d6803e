"""Events of Flux's notification-controller become events."""

from __future__ import annotations

import pytest
from support.hook_payloads import Payload, flux_event
from support.preset_driver import Log, details, events_of, labels, translate

from oneshotd.errors import Refused


def test_an_event_of_flux_is_one_event() -> None:
    """A failed reconciliation could not be counted."""
    (event,) = events_of(translate("flux", flux_event(), {"gotk-component": "kustomize-controller"}))
    assert labels(event) == {
        "type": "flux",
        "severity": "error",
        "reason": "ValidationFailed",
        "kind": "Kustomization",
        "namespace": "apps",
        "name": "shop",
        "component": "kustomize-controller",
    }
    assert details(event) == {
        "time": "2026-11-28T09:26:19Z",
        "revision": "main@sha1:731f7ea",
        "text": "service/apps/shop: spec.type is not valid",
        "summary": "the shop",
    }
    assert event.value is None


@pytest.mark.parametrize("metadata", [{"revision": "v1"}, {"source.toolkit.fluxcd.io/revision": "v1"}])
def test_the_revision_may_have_a_group_before_it(metadata: Payload) -> None:
    """The commit that was deployed would not be shown for some versions of Flux."""
    (event,) = events_of(translate("flux", flux_event(metadata=metadata)))
    assert details(event)["revision"] == "v1"


def test_the_cluster_of_an_alert_is_a_label() -> None:
    """The events of several clusters would be one series."""
    (event,) = events_of(translate("flux", flux_event(metadata={"cluster": "blue"})))
    assert (labels(event)["cluster"], details(event).get("cluster")) == ("blue", None)


def test_metadata_do_not_hide_what_the_event_says() -> None:
    """The message of an event would be replaced by a text of an alert."""
    metadata = {"text": "other", "time": "soon", "größe": "9"}
    (event,) = events_of(translate("flux", flux_event(metadata=metadata, message="own")))
    found = details(event)
    assert (found["text"], found["metadata_text"], found["metadata_time"]) == ("own", "other", "soon")
    assert found["gr__e"] == "9"


@pytest.mark.parametrize(
    ("members", "stored"),
    [
        ({}, 1),
        ({"reportingInstance": "another-pod"}, 1),
        ({"timestamp": "2026-11-28T09:27:19Z"}, 2),
        ({"message": "another"}, 2),
        ({"reason": "Progressing"}, 2),
        ({"severity": "info"}, 2),
        (
            {
                "involvedObject": {
                    "kind": "Kustomization",
                    "namespace": "apps",
                    "name": "shop",
                    "uid": "other",
                }
            },
            2,
        ),
        ({"metadata": {"revision": "main@sha1:731f7ea", "cluster": "other"}}, 2),
        ({"metadata": {"revision": "other"}}, 2),
        ({"involvedObject": {"kind": "Kustomization", "namespace": "apps", "name": "other"}}, 2),
    ],
)
def test_a_retry_counts_once(members: Payload, stored: int) -> None:
    """Each of the four retries of Flux would count; or a second event would not."""
    log = Log()
    for payload in (flux_event(), flux_event(**members), flux_event()):
        log.append(translate("flux", payload).group)
    assert len(log.events) == stored


def test_a_message_of_39_000_characters_is_cut() -> None:
    """The longest message that Flux sends would be refused five times."""
    (event,) = events_of(translate("flux", flux_event(message='"ü' * 19_500)))
    assert len(event.detail.encode()) <= 4096
    assert details(event)["text"].endswith("…")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({}, "expected a text at /involvedObject/kind, got none"),
        (flux_event(involvedObject="shop"), "expected an object at /involvedObject, got a string"),
        (flux_event(involvedObject={"kind": "x"}), "expected a text at /involvedObject/name, got none"),
        (flux_event(timestamp=None), "expected a text at /timestamp, got none"),
        (flux_event(metadata=["x"]), "expected an object at /metadata, got an array"),
        (flux_event(metadata={"a/b": {}}), "expected a text at /metadata/a~1b, got an object"),
        ([flux_event()], "expected an object at the top, got an array"),
        (b"{", "not JSON: "),
    ],
)
def test_what_is_no_event_of_flux_is_refused(payload: object, text: str) -> None:
    """The operator would not know what is wrong with the sender."""
    with pytest.raises(Refused) as caught:
        translate("flux", payload)
    assert caught.value.text.startswith(text)
