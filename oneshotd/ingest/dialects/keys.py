"""Keys of dialects. No sender can make the key of another one; a client cannot send such a key itself."""

from __future__ import annotations

from hashlib import sha256

from oneshotd.core.parsing.grammar import OWN_KEYS


def event_key(name: str, principal: str, *parts: str) -> str:
    """Return the idempotency key of an event.

    :param name: of the dialect or hook.
    :param principal: `Message.principal`.
    :param parts: what identifies the event for its sender.
    """
    return _digest("event", name, principal, *parts)


def state_key(name: str, principal: str, *parts: str) -> str:
    """Return the key of a state; see `core.events.StateChange`."""
    return _digest("state", name, principal, *parts)


def _digest(*parts: str) -> str:
    digest = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
    return f"{OWN_KEYS}{digest.hexdigest()}"
