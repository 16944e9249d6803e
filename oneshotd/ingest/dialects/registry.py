"""All dialects that have a door of their own: ``POST /hook/NAME`` for each name.

To add one, write `ingest/dialects/NAME.py` with a function that is a `Translate`, its table of tests in
`tests/ingest/dialects/test_NAME.py`, its line here, and its chapter in docs/dialects.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from oneshotd.ingest.dialects import alertmanager, cloudevents, flux, github, gitlab, kubernetes
from oneshotd.ingest.dialects.translation import Handshake, Translate

#: Name -> dialect.
PRESETS: Mapping[str, Translate] = {
    "alertmanager": alertmanager.translate,
    "cloudevents": cloudevents.translate,
    "flux": flux.translate,
    "github": github.translate,
    "gitlab": gitlab.translate,
    "kubernetes": kubernetes.translate,
}

#: Name -> answers OPTIONS; the others answer it as every path does.
HANDSHAKES: Mapping[str, Handshake] = {
    "cloudevents": cloudevents.handshake,
}

#: Media type of a request to ``/event`` or ``/events`` -> the hook that takes it.
MEDIA_TYPES: Mapping[str, str] = {
    "application/cloudevents+json": "cloudevents",
    "application/cloudevents-batch+json": "cloudevents",
}

#: Header that tells such a request whatever its media type -> the hook.
TELLING_HEADERS: Mapping[str, str] = {"ce-specversion": "cloudevents"}
