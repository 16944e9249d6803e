"""Flux notification-controller, providers `generic` and `generic-hmac`: one Event of Flux a request."""

from __future__ import annotations

from oneshotd.core.events import Group
from oneshotd.ingest.dialects.fitting import make_event, named
from oneshotd.ingest.dialects.json_objects import read_object
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.times import rfc3339
from oneshotd.ingest.dialects.translation import Context, Message, Translation

NAME = "flux"


def translate(message: Message, context: Context) -> Translation:
    """Translate an event of Flux."""
    body = read_object(message.body)
    regards = body.object("involvedObject")
    kind, namespace, name = regards.needed("kind"), regards.text("namespace"), regards.needed("name")
    # The names of metadata may begin with the group of an API: kustomize.toolkit.fluxcd.io/revision.
    metadata = {key.rpartition("/")[2]: text for key, text in body.object("metadata").texts().items()}
    time, text, revision = body.needed("timestamp"), body.text("message"), metadata.pop("revision", "")
    cluster = metadata.pop("cluster", "")
    # Clusters that follow the same sources have objects of the same names, but not of the same uid.
    identity = (
        regards.text("uid"),
        cluster,
        time,
        body.text("severity"),
        body.text("reason"),
        text,
        revision,
        metadata.get("token", ""),
    )
    event = make_event(
        [
            ("type", "flux"),
            ("severity", body.text("severity")),
            ("reason", body.text("reason")),
            ("kind", kind),
            ("namespace", namespace),
            ("name", name),
            ("component", body.text("reportingController")),
            ("cluster", cluster),
        ],
        [
            ("time", rfc3339(time)),
            ("revision", revision),
            ("text", text),
            *named(metadata, prefix="metadata_", taken=("time", "text", "revision")),
        ],
        rules=context.rules,
        key=event_key(NAME, message.principal, kind, namespace, name, *identity),
    )
    return Translation(group=Group(events=[event], keys_decide=True))
