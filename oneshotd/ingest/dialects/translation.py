"""What a dialect gets, and what it returns.

A dialect is a pure function from a `Message` to a `Translation`; `registry.py` has all of them. It raises
`Refused` for what it cannot read, and returns no event for what it leaves out on purpose: a sender must not
repeat that for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from oneshotd.core.events import Group
from oneshotd.core.parsing.formats import Rules

if TYPE_CHECKING:
    # The child process that translates large bodies starts without Twisted.
    from oneshotd.store.interface import Stored


@frozen(kw_only=True)
class Message:
    """A request, or a datagram, as its sender has sent it.

    :param body: without content coding; `raw` is the body as it was sent, which a signature is over.
    :param headers: lower-case name -> value; lines of one name are joined by ``, ``.
    :param query: the part of the target after the ``?``.
    :param path: the part of the path after the dialect's own, decoded; no ``/`` at its beginning.
    :param principal: who sends, by the access rule that lets it; empty where no rule is needed.
    """

    body: bytes = b""
    raw: bytes = b""
    headers: Mapping[str, str] = {}
    method: str = "POST"
    query: bytes = b""
    path: str = ""
    principal: str = ""


@frozen(kw_only=True)
class Context:
    """What a dialect knows of the daemon.

    :param hold: seconds for which events and keys are kept.
    :param now: Unix seconds.
    """

    rules: Rules
    hold: float
    now: float


@frozen(kw_only=True)
class Answer:
    """A response that a sender expects in its own form.

    :param headers: further ones, by name.
    """

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = {}


@frozen(kw_only=True)
class Translation:
    """The events of a message.

    :param group: stored as a whole or not at all; None: there is nothing to store. With `keys_decide`.
    :param ignored: how many parts of the message were left out.
    :param answer: makes the response, of what was stored; None: the one of all hooks, JSON with the numbers
        ``stored``, ``duplicates`` and ``ignored``.
    """

    group: Group | None = None
    ignored: int = 0
    answer: Callable[[Stored], Answer] | None = None


class Translate(Protocol):
    """A dialect."""

    def __call__(self, message: Message, context: Context) -> Translation:
        """Translate a message.

        :raises Refused: says what was expected, and what came instead.
        """


class Handshake(Protocol):
    """Answers a request with the method OPTIONS, by which a sender asks before it sends."""

    def __call__(self, message: Message) -> Answer:
        """Return the answer.

        :raises Refused: the sender asks for what cannot be.
        """
