"""The access rules on the status page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from attrs import define, evolve, field
from support.status_examples import NOW
from support.web_fakes import FakeServer
from twisted.internet.defer import Deferred

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role, Rule
from oneshotd.access.usage import RuleUse
from oneshotd.core.events import NewEvent
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.grammar import Rules
from oneshotd.errors import Refused
from oneshotd.web.status import page
from oneshotd.web.status.cache import MAX_RULES_SHOWN, Status

TOKEN = "5e88" + 60 * "0"


@define(eq=False, slots=False)
class RuledServer(FakeServer):
    policy: AccessPolicy = field(factory=AccessPolicy)

    @property
    def access(self) -> AccessPolicy:
        return self.policy


def rows(html: str) -> list[list[str]]:
    """The cells of each rule's row, as text."""
    found = re.findall(r'<tr [^>]*data-key="rule-\d+"[^>]*>(.*?)</tr>', html, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in found
    ]


def status(rules: Sequence[RuleUse]) -> Status:
    return Status(
        now=NOW,
        problem=None,
        warnings=(),
        scrapers=(),
        unlisted=0,
        events=(),
        hour=None,
        rules=tuple(rules),
    )


def render(rules: Sequence[RuleUse]) -> str:
    done: list[bytes] = []
    Deferred.fromCoroutine(page.render_live(status(rules))).addCallback(done.append)
    return done[0].decode()


def test_without_an_access_file_there_is_no_table() -> None:
    """The page of most daemons would have an empty part that means nothing to its reader."""
    assert "Access rules" not in FakeServer().ask("GET /live").text
    server = RuledServer()
    server.policy.update(rules=None, has_users=False)
    assert "Access rules" not in server.ask("GET /live").text


def test_each_rule_has_a_row_with_its_use() -> None:
    """An operator could not see which rule's sender has too many series, or is too fast."""
    policy = AccessPolicy()
    network = Networks.parse(["192.0.2.0/24", "unix"])
    sender = Rule(number=1, role=Role.EMIT, user="ci", series_per_day=2, events_per_second=2000.0)
    rules = [
        sender,
        Rule(number=2, role=Role.SCRAPE, token_sha256=TOKEN, network=network),
        Rule(number=3, role=Role.EMIT, san="<b>&\u202eci", types=("a",)),
    ]
    policy.update(rules=rules, has_users=True)
    bounds = EventBounds(access=policy, limits=Rules(), seconds=lambda: 0.0)
    for body in (["a"] * 1233 + ["b"], ["c"], ["a"] * 800, ["a"]):
        with suppress(Refused), bounds.admitted(sender, [NewEvent(series) for series in body]):
            pass
    with suppress(Refused), bounds.admitted(rules[2], [NewEvent("a")]):
        pass
    html = render(bounds.report())
    assert rows(html) == [
        ["1", "emit", "user ci", "2,034", "2 (1 limit, 1 rate)", "2 of 2", "at most 2000/s"],
        ["2", "scrape", "token 5e880000…, network 192.0.2.0/24, unix", "–", "–", "–", "–"],
        ["3", "emit", "SAN &lt;b&gt;&amp;\\u202eci", "0", "1 (forbidden)", "–", "–"],
    ]
    assert TOKEN not in html
    assert html.count("number warn") == 3


def test_the_page_changes_with_the_use() -> None:
    """A browser would be told that nothing has changed while a sender is refused."""
    rule = Rule(number=1, role=Role.EMIT, user="ci")
    before = RuleUse(rule=rule, accepted=1, refused=(), series=None)
    after = RuleUse(rule=rule, accepted=1, refused=(("rate", 1),), series=None)
    assert status([before]).etag != status([after]).etag


def test_the_table_is_bounded_and_follows_the_file() -> None:
    """A file of a thousand rules would make each answer of the page some hundred kilobytes."""
    server = RuledServer()
    rules = [Rule(number=n, role=Role.LOOK, user=f"user{n}") for n in range(1, MAX_RULES_SHOWN + 3)]
    server.policy.update(rules=rules, has_users=True)
    network = Networks.parse(["192.0.2.7"])
    server.policy.update(
        rules=[Rule(number=1, role=Role.SCRAPE, network=network), *rules[1:]], has_users=True
    )
    text = server.ask("GET /live").text
    shown = rows(text)
    assert len(shown) == MAX_RULES_SHOWN
    assert shown[0][:3] == ["1", "scrape", "network 192.0.2.7/32"]
    assert "And 2 rules more." in text


def test_the_page_says_where_the_events_are_if_that_is_not_plain() -> None:
    """An operator of a cluster would believe in a standby that is not there."""
    done: list[bytes] = []
    for meaning in ("is on the disk of the database server and of no standby", ""):
        shown = evolve(status(()), durability=meaning)
        Deferred.fromCoroutine(page.render_live(shown)).addCallback(done.append)
    assert b"An event that was answered with 200 is on the disk of the database server" in done[0]
    assert b"answered with 200" not in done[1]
