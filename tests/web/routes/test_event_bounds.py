"""Requests with events under an access rule: what is stored, and what is answered."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field
from support.web_fakes import Answer, Connection, FakeServer
from twisted.internet.defer import Deferred

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.errors import Refused
from oneshotd.web.transport.request import OneshotRequest

ANYONE = Networks.parse(["0.0.0.0/0"])


@define(eq=False, slots=False)
class RuledServer(FakeServer):
    """Routes whose requests have an access rule, as if the guard had found it."""

    rule: Rule = field(kw_only=True)
    policy: AccessPolicy = field(factory=AccessPolicy, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.policy.update(rules=[self.rule], has_users=False)
        self.one_site = self.site()

    @property
    def access(self) -> AccessPolicy:
        return self.policy

    def make_request(self, *args: Any) -> OneshotRequest:
        made = super().make_request(*args)
        made.rule = self.rule
        return made

    def post(self, path: str, *headers: str, body: bytes = b"") -> Answer:
        return self.connect(self.one_site).ask(f"POST {path}", *headers, body=body)

    def stored(self) -> list[str]:
        found = [event.series for group, _ in self.ingest.groups for event in group.events]
        self.ingest.groups.clear()
        return [series.removeprefix("events_to_metrics") for series in found]


def ruled(**given: Any) -> RuledServer:
    return RuledServer(rule=Rule(number=1, role=Role.EMIT, network=ANYONE, **given))


def test_the_events_of_all_forms_get_the_labels() -> None:
    """A sender could leave its team out by the form of its body."""
    server = ruled(labels={"team": "shop"})
    json_type = "Content-Type: application/json"
    for path, headers, body in [
        ("/event?type=a", (), b""),
        ("/event", (), b"type=a"),
        ("/event", (json_type,), b'{"type": "a"}'),
        ("/events", (), b"type=a\ntype=a&team=shop\n"),
        ("/events", (json_type,), b'[{"type": "a"}]'),
        ("/events", ("Content-Type: application/x-ndjson",), b'{"type": "a"}\n'),
    ]:
        assert server.post(path, *headers, body=body).status == 200
        assert set(server.stored()) == {'{team="shop",type="a"}'}


def test_a_refusal_names_rule_and_event_and_stores_nothing() -> None:
    """A part of a refused body would be stored, and stored again when it is sent again."""
    server = ruled(labels={"team": "shop"})
    answer = server.post("/events", body=b"type=a\n\nteam=toys\n")
    assert answer.status == 403
    assert answer.text == (
        "event 2 of 2: rule 1 (emit, network 0.0.0.0/0) sets the label 'team' to 'shop',"
        " the event has 'toys'\n"
    )
    assert server.stored() == []
    assert server.telemetry.refusals == {"forbidden": 1}
    answer = server.post("/event?team=toys", "Accept: application/json")
    assert json.loads(answer.body)["error"].startswith("rule 1 (emit")


def test_a_label_explosion_is_refused_by_name() -> None:
    """A label with a number in each event would fill every scraper's memory."""
    server = ruled(series_per_day=10)
    for n in range(20):
        answer = server.post(f"/event?type=a&request={n}")
        assert answer.status == (200 if n < 10 else 400)
    assert "the label 'request' has the most values, 11" in answer.text
    assert server.post("/event?type=a&request=3").status == 200
    assert len(server.stored()) == 11


def test_the_rate_is_refused_with_429() -> None:
    """A sender in a loop would not hear that it is too fast."""
    server = ruled(events_per_second=2.0)
    assert server.post("/events", body=b"type=a\n" * 5).status == 200
    answer = server.post("/event?type=a")
    assert (answer.status, answer.phrase) == (429, "Too Many Requests")
    server.clock.advance(2.0)
    assert server.post("/event?type=a").status == 200


def test_what_the_store_refuses_is_not_taken_from_the_rate() -> None:
    """A disk that was full for a minute would cost its senders the events of the next minute."""
    server = ruled(events_per_second=1.0)
    server.ingest.outcome = Refused("the disk is full", reason="store", status=503)
    for _ in range(3):
        assert server.post("/event?type=a").status == 503
    server.ingest.outcome = None
    assert server.post("/event?type=a", 'Idempotency-Key: ""').status == 400
    assert server.post("/event?type=a").status == 200
    assert server.post("/event?type=a").status == 429


def test_a_client_that_hangs_up_has_used_its_rate() -> None:
    """A sender that never waits for an answer could send as much as it likes."""
    server = ruled(events_per_second=1.0)
    server.ingest.waiting = Deferred()
    connection: Connection = server.connect(server.one_site)
    connection.protocol.dataReceived(b"POST /event?type=a HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.hang_up()
    server.ingest.waiting = None
    assert server.post("/event?type=a").status == 429


def test_a_malformed_key_uses_up_no_series() -> None:
    """A sender with a fault in its keys would be refused for a day after it is mended."""
    server = ruled(series_per_day=1)
    assert server.post("/event?type=a", 'Idempotency-Key: ""').status == 400
    assert server.post("/events", 'Idempotency-Key: ""', body=b"type=b").status == 400
    assert server.post("/event?type=c").status == 200
