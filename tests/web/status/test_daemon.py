"""Which of several daemons the status page names, and which figures it says are that daemon's."""

from __future__ import annotations

from attrs import evolve
from support.status_examples import NOW
from twisted.internet.defer import Deferred

from oneshotd.access.rules import Role, Rule
from oneshotd.access.usage import RuleUse
from oneshotd.web.status import page
from oneshotd.web.status.cache import Status

ALONE = Status(
    now=NOW,
    problem=None,
    warnings=(),
    scrapers=(),
    unlisted=0,
    events=(),
    hour=None,
    rules=(RuleUse(rule=Rule(number=1, role=Role.EMIT), accepted=1, refused=(), series=None),),
)


def render(status: Status) -> str:
    done: list[bytes] = []
    Deferred.fromCoroutine(page.render_live(status)).addCallback(done.append)
    [html] = done
    return html.decode()


def test_one_of_several_daemons_says_its_name() -> None:
    """Behind a load balancer nobody could tell which of them has answered."""
    html = render(evolve(ALONE, daemon="<host-a> tcp:8090"))
    assert "Answered by the daemon <bdi>&lt;host-a&gt; tcp:8090</bdi>" in html
    assert "those of all daemons" in html


def test_counts_of_rules_are_said_to_be_this_daemons() -> None:
    """They would be taken for those of all daemons."""
    assert "at this daemon since the start" in render(evolve(ALONE, daemon="a"))


def test_a_daemon_alone_has_no_name() -> None:
    html = render(ALONE)
    assert "Answered by" not in html and "at this daemon" not in html


def test_another_daemons_answer_is_another_page() -> None:
    """A browser would keep the name of the daemon before."""
    assert len({evolve(ALONE, daemon=name).etag for name in (None, "a", "b")}) == 3
