"""The doors on the status page, and the box in which an admin tries a webhook."""

from __future__ import annotations

import re

import pytest
from attrs import evolve
from support.status_examples import NOW
from support.web_fakes import FakeServer
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.metrics.doors import DoorUse, LastRefusal
from oneshotd.web.status import page
from oneshotd.web.status.cache import MAX_DOORS_SHOWN, Status

BROWSER = "Accept: text/html"
PLAIN = (DoorUse(source="http", accepted=1234), DoorUse(source="http_bulk", accepted=0))
HERE = Networks.parse(["192.0.2.7"])
STATUS = Status(
    now=NOW, problem=None, warnings=(), scrapers=(), unlisted=0, events=(), hour=None, doors=PLAIN
)


def refused(text: str, source: str = "hook/ci") -> DoorUse:
    return DoorUse(source=source, accepted=0, refusal=LastRefusal(text=text, at=NOW - 60_000))


def render(*doors: DoorUse, daemon: str | None = None) -> str:
    done: list[bytes] = []
    status = evolve(STATUS, doors=(*PLAIN, *doors), daemon=daemon)
    Deferred.fromCoroutine(page.render_live(status)).addCallback(done.append)
    return done[0].decode().partition('id="doors"')[2].partition("</section>")[0]


def rows(html: str) -> list[list[str]]:
    """The cells of each door's row, as text."""
    found = re.findall(r'<tr [^>]*data-key="door-[^"]*"[^>]*>(.*?)</tr>', html, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in found
    ]


def test_each_door_has_a_row_with_its_events_and_its_last_refusal() -> None:
    """An operator could not see why a tool's events do not arrive."""
    html = render(DoorUse(source="udp", accepted=3), DoorUse(source="hook/gitlab", accepted=5), refused("no"))
    assert rows(html) == [
        ["POST /event", "1,234", "–"],
        ["POST /events", "0", "–"],
        ["UDP", "3", "–"],
        ["POST /hook/gitlab", "5", "–"],
        ["POST /hook/ci", "0", "60 s ago no"],
    ]
    assert "Not used so far" not in html


def test_hooks_that_nobody_uses_take_no_space() -> None:
    """Each daemon has presets, and most need none of them."""
    html = render(*(DoorUse(source=f"hook/{name}", accepted=0) for name in ("github", "gitlab")))
    assert len(rows(html)) == 2
    assert "Not used so far: /hook/ github, gitlab." in html
    many = render(*(DoorUse(source=f"hook/h{number}", accepted=0) for number in range(50)))
    assert "h29 and 20 more." in many and "h30" not in many


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\u202edetrevni", "\\u202edetrevni"),
        ("a\nb", "a\\nb"),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_what_a_client_has_sent_is_shown_and_never_obeyed(text: str, seen: str) -> None:
    html = render(refused(text))
    assert rows(html)[-1] == ["POST /hook/ci", "0", f"60 s ago {seen}"] and "<script>" not in html


def test_the_counts_are_of_one_daemon() -> None:
    """Somebody would look for events that another daemon has taken."""
    assert "at this daemon" in render(daemon="one") and "at this daemon" not in render()


def test_the_page_changes_with_a_refusal() -> None:
    """A browser would be told that nothing has changed."""
    assert (
        evolve(STATUS, doors=(*PLAIN, refused("a"))).etag != evolve(STATUS, doors=(*PLAIN, refused("b"))).etag
    )


def test_a_refusal_of_a_request_comes_to_the_page() -> None:
    """Whatever part of the daemon refuses it."""
    server = FakeServer(now=1_700_000_060_000)
    site = server.site()
    for lines, body in (
        (["POST /event?value=x"], b""),
        (["POST /events", "Content-Type: text/x-odd"], b"a"),
        (["POST /hook/signed"], b"a=b"),
        (["POST /hook/lines", "Content-Length: 99999999"], b""),
        (["POST /hook/invented"], b"a=b"),
    ):
        server.connect(site).ask(*lines, body=body)
    html = server.connect(site).ask("GET /live", BROWSER).text
    found = {row[0]: row[2] for row in rows(html)}
    assert set(found) == {"POST /event", "POST /events", "UDP", "POST /hook/signed", "POST /hook/lines"}
    assert "value: &#39;x&#39;" in found["POST /event"] or "value: 'x'" in found["POST /event"]
    assert "got text/x-odd" in found["POST /events"] and "X-Signature" in found["POST /hook/signed"]
    assert "expected at most 26214400 bytes" in found["POST /hook/lines"]


def test_a_refusal_by_an_access_rule_comes_to_the_page() -> None:
    """The most frequent one: the sender has no right credential."""
    server = FakeServer(rules=[Rule(number=1, role=Role.LOOK, network=HERE)])
    site = server.site()
    assert server.connect(site).ask("POST /hook/lines", body=b"a=b").status == 403
    assert "gives it the role emit" in server.connect(site).ask("GET /live", BROWSER).text


def test_without_udp_there_is_no_row_for_it() -> None:
    assert "door-udp" not in FakeServer(udp_port=None).ask("GET /live", BROWSER).text


def test_the_table_is_bounded() -> None:
    server = FakeServer()
    site = server.site()
    names = [f"h{number}" for number in range(2 * MAX_DOORS_SHOWN)]
    server.telemetry.doors.hooks = lambda: names
    for name in names:
        server.telemetry.doors.accept(f"hook/{name}", 1)
    assert (
        MAX_DOORS_SHOWN - 5
        < len(rows(server.connect(site).ask("GET /live", BROWSER).text))
        <= MAX_DOORS_SHOWN
    )


# The box


def front(*rules: Rule, hooks: Hooks | None = None) -> str:
    server = FakeServer(rules=rules or None, peer=IPv4Address("TCP", "192.0.2.7", 40000))
    if hooks is not None:
        server.hooks = hooks
    return server.ask("GET /", BROWSER).text


LOOK = Rule(number=1, role=Role.LOOK, network=HERE)
ADMIN = Rule(number=2, role=Role.ADMIN, network=HERE)


def test_an_admin_gets_the_box_and_nobody_else_does() -> None:
    """Others would try, and be refused."""
    assert 'data-hooks="asks build echo' in front(LOOK, ADMIN)
    assert "/api/v1/try-hook/NAME" in front(LOOK, ADMIN)
    for html in (front(), front(LOOK), front(LOOK, evolve(ADMIN, network=Networks.parse(["::1"])))):
        assert 'id="try"' not in html and "try-hook" not in html
    assert 'id="try"' not in front(LOOK, ADMIN, hooks=Hooks({}))


def test_the_command_has_the_credential_of_an_admin() -> None:
    """It would be refused as it stands."""
    by_token = Rule(number=3, role=Role.ADMIN, token_sha256="0" * 64)
    assert 'curl -H "Authorization: Bearer $TOKEN" --data-binary @payload.json' in front(
        LOOK, ADMIN, by_token
    ).replace("&quot;", '"')
