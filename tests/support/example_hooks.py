"""Hooks for tests of the door: their dialects do nothing but what the test looks at."""

from __future__ import annotations

from collections.abc import Mapping

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.formats import parse_lines
from oneshotd.core.parsing.grammar import event
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Answer, Context, Message, Translation
from oneshotd.ingest.hooks.hooks import Hook
from oneshotd.store.interface import Stored


def lines(message: Message, context: Context) -> Translation:
    """Translate lines as ``/events`` takes them; a comment is left out."""
    given = message.body.split(b"\n")
    kept = [line for line in given if not line.startswith(b"#")]
    ignored = len(given) - len(kept)
    if not kept:
        return Translation(ignored=ignored)
    events = parse_lines(b"\n".join(kept), rules=context.rules)
    return Translation(group=Group(events=list(events), keys_decide=True), ignored=ignored)


def echo(message: Message, context: Context) -> Translation:
    """Make one event of all that the message says of itself."""
    pairs = {
        "body": message.body.decode("latin-1")[:1000],
        "size": str(len(message.body)),
        "sent": str(len(message.raw)),
        "method": message.method,
        "query": message.query.decode("latin-1"),
        "path": message.path,
        "x_test": message.headers.get("x-test", ""),
        "principal": message.principal,
        "hold": f"{context.hold:g}",
        "now": f"{context.now:g}",
    }
    key = event_key("echo", message.principal, message.body.decode("latin-1"))
    made = event(pairs.items(), context.rules)._replace(key=key)
    return Translation(group=Group(events=[made], keys_decide=True))


def own_answer(message: Message, context: Context) -> Translation:
    """Answer in a form of its own."""

    def made(stored: Stored) -> Answer:
        body = b"%d taken" % stored.stored
        return Answer(body=body, content_type="text/x-own", status=202, headers={"X-Own": "yes"})

    return Translation(group=Group(events=[NewEvent("own")]), answer=made)


def asks(message: Message) -> Answer:
    """Answer OPTIONS."""
    origin = message.headers.get("x-origin", "*")
    if origin == "nobody":
        raise Refused("X-Origin: expected another one", reason="syntax")
    return Answer(body=b"", content_type="text/plain", headers={"X-Allowed": origin})


def signed(message: Message) -> None:
    """Verify that the message has the header of this hook."""
    if message.headers.get("x-signature") != str(len(message.raw)):
        raise Refused("X-Signature: expected the length of the body", reason="unauthorized", status=401)


def failing(message: Message, context: Context) -> Translation:
    """Fail by a bug."""
    raise ZeroDivisionError


BUILD = Recipe.parse(
    "build",
    {"each": "/builds", "key": "{/id}", "value": "/seconds", "labels": {"type": "=build", "ref": "^/ref"}},
)

EXAMPLES: Mapping[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook(name="lines", translate=lines),
        Hook(name="echo", translate=echo),
        Hook(name="own", translate=own_answer),
        Hook(name="asks", translate=lines, handshake=asks),
        Hook(name="signed", translate=lines, verify=signed),
        Hook(name="failing", translate=failing),
        Hook.of(BUILD, signed),
    )
}
