"""Messages of hooks, and what they are translated with."""

from __future__ import annotations

import json
from collections.abc import Mapping

from oneshotd.core.parsing.formats import Rules
from oneshotd.ingest.dialects.translation import Context, Message

CONTEXT = Context(rules=Rules(), hold=3600.0, now=1_700_000_000.0)

#: The example of docs/dialects.md.
CI = """
each = "/builds"
when = [{ pointer = "/state", in = ["finished", "failed"] }]
key = "{/id}-{/state}"
value = "/seconds"
[labels]
type = "=build"
result = "/state"
branch = "^/ref"
"""


def build(number: int, state: str = "finished", seconds: object = 12.5) -> dict[str, object]:
    """A build of `CI`."""
    return {"id": number, "state": state, "seconds": seconds}


def message(body: object, headers: Mapping[str, str] | None = None, principal: str = "") -> Message:
    """A message with a body of JSON, or of these bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(body=data, raw=data, headers=headers or {}, principal=principal)
