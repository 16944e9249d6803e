"""Blocks of headers that the fast path knows, and the rules of access that were found for them.

A block is examined once. Which rule lets its client send events depends on its Authorization header, on the
address and the certificate of the connection, and on the version of the policy. A rule is remembered for all
of these together, and for nothing else. That no rule fits is not remembered: the routes may verify the
credential in a moment.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.web.transport.request import is_host

#: Blocks that are remembered, and rules that were found for them; clients may invent headers.
MAX_BLOCKS, MAX_RULES = 1024, 8192

NO_SANS: frozenset[str] = frozenset()

#: The other end of a connection: its address as the socket has it, and the subject alternative names of its
#: verified certificate.
Caller = tuple[str, frozenset[str]]

#: Returns the client of an Authorization header (None: there is none), an address, and the names of a
#: certificate; None if the credential has not been verified yet. Does not block.
Known = Callable[[bytes | None, str, frozenset[str]], Client | None]

_VALUE = bytes(range(0x20, 0x7F))

#: Headers that change nothing about the answer to a POST of an event.
_HARMLESS = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"content-type",
        b"pragma",
        b"user-agent",
    )
)


@frozen(eq=False)
class Block:
    """A block of headers that changes nothing about the answer but by its client and by its end.

    :param closes: it asks for a close of the connection.
    :param authorization: the value of its Authorization header.
    """

    closes: bool
    authorization: bytes | None


class KnownBlocks:
    """Remembers blocks and rules.

    :param access: which client may send events; the routes ask it, too.
    :param known: finds the client of a request.
    :ivar is_open: whether an address alone decides, so that `rule` need not be asked.
    """

    def __init__(self, access: AccessPolicy, known: Known) -> None:
        self._access = access
        self._known = known
        self._blocks: dict[bytes, Block | None] = {}
        self._rules: dict[tuple[Block, Caller], Rule | None] = {}
        self.renew()

    def renew(self) -> None:
        """Forget all rules: those of another version of the policy do not hold."""
        self._rules.clear()
        self.version = self._access.version
        self.is_open = self._access.is_open

    def find(self, text: bytes) -> Block | None:
        """Return the block of this text, the headers with their line ends; None: it is for the routes."""
        if text in self._blocks:
            return self._blocks[text]
        if len(self._blocks) >= MAX_BLOCKS:
            self._blocks.clear()
            self._rules.clear()
        block = self._blocks[text] = _judge(text)
        return block

    def rule(self, block: Block, caller: Caller) -> Rule | None:
        """Return the rule by which the events of a request are stored as they are.

        :returns: None if the routes have to see the request: no rule fits, the credential is not verified,
            or the rule changes or limits the events themselves.
        """
        try:
            return self._rules[block, caller]
        except KeyError:
            return self._search(block, caller)

    def _search(self, block: Block, caller: Caller) -> Rule | None:
        address, sans = caller
        client = self._known(block.authorization, address, sans)
        rule = None if client is None else self._access.rule(Role.EMIT, client)
        if client is None or rule is None:
            return None
        # What the routes say to a credential that the rule does not ask for is their own business.
        is_asked_for = client.user is not None or rule.token_sha256 is not None
        fit = None if rule.changes_events or (block.authorization and not is_asked_for) else rule
        if len(self._rules) >= MAX_RULES:
            self._rules.clear()
        self._rules[block, caller] = fit
        return fit


def without_users(authorization: bytes | None, address: str, sans: frozenset[str]) -> Client | None:
    """Find the client of a request as `Known` does, where no credential is verified."""
    return Client(address=address, sans=sans) if authorization is None else None


def _judge(text: bytes) -> Block | None:
    """Return None unless each header is well-formed, known, and changes nothing about the answer."""
    hosts = 0
    closes = False
    authorization = None
    for line in text.removesuffix(b"\r\n").split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" ")
        if not colon or value.translate(None, _VALUE):
            return None
        if name == b"host" and is_host(value):
            hosts += 1
        elif name == b"connection" and value.lower() == b"close":
            closes = True
        elif name == b"authorization" and value and authorization is None:
            authorization = value
        elif not (
            name in _HARMLESS
            or (name == b"connection" and value.lower() == b"keep-alive")
            or (name == b"content-length" and value == b"0")
        ):
            return None
    lowered = text.lower()
    if hosts != 1 or lowered.count(b"content-length:") > 1 or lowered.count(b"connection:") > 1:
        return None
    return Block(closes, authorization)
