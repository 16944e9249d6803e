"""`oneshotctl audit` against servers that answer what a test has set."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.audit_servers import (
    GOOD,
    INSTANCE,
    Audit,
    AuditedDaemon,
    events,
    now,
    pair,
    serving,
    store,
    vector,
)
from support.certificates import Authority


def test_a_store_with_each_event_once_is_equal(ran: Audit, stack: ExitStack) -> None:
    daemon, prometheus, words = pair(stack, events().answer, store(GOOD))
    status, out, err = ran(*words)
    assert (status, err) == (0, "")
    assert out.startswith(
        f"equal: 4 events of 3 series were delivered to ann, Prometheus at {prometheus.url}"
    )
    asked = [parameters for _, parameters, _ in prometheus.asked]
    assert [each["query"].partition("[")[0] for each in asked] == [
        'sum_over_time({__name__="m"}',
        'count_over_time({__name__="m"}',
        'sum_over_time({__name__="other"}',
    ]
    assert asked[0]["query"].endswith("[605001ms])")
    assert abs(float(asked[0]["time"]) - time.time()) < 10
    assert all(path != "/metrics" for path, _, _ in daemon.asked)


def test_a_lost_event_fails_and_is_named(ran: Audit, stack: ExitStack) -> None:
    bad = {**GOOD, "sum m": vector(({**INSTANCE, "type": "a"}, 1))}
    lost = events()
    lost.scraper = {"lost": {"label_limit": 1}}
    _, _, words = pair(stack, lost.answer, store(bad))
    status, out, _ = ran(*words)
    assert status == 1
    assert out.startswith("different: ")
    assert 'missing: m{type="a"}: 2 delivered, 1 found; 1 missing' in out
    assert "counted since it knows the scraper: 1 label_limit" in out
    status, out, _ = ran(*words, "--json")
    found = json.loads(out)
    assert status == 1
    assert found["verdict"] == "different" and found["lost"] == {"label_limit": 1}
    assert found["series"] == {"equal": 2, "edge": 0, "mixed": 0, "missing": 1, "surplus": 0}
    assert found["differences"] == [
        {
            "verdict": "missing",
            "metric": "m",
            "labels": {"type": "a"},
            "delivered": 2,
            "possible": 2,
            "found": 1,
            "known": True,
        }
    ]


def test_a_difference_that_vanishes_is_none(ran: Audit, stack: ExitStack) -> None:
    """A store may show a sample some time after it has read it."""
    answers = []

    def late(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        answers.append(path)
        return store(GOOD)(path, parameters) if len(answers) > 3 else (200, vector())

    _, _, words = pair(stack, events().answer, late)
    assert ran(*words, "--wait", "20s")[0] == 0


def test_an_event_that_is_newer_than_the_question_may_be_there(ran: Audit, stack: ExitStack) -> None:
    daemon = events()

    def racing(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        if len(daemon.events) == 4:
            daemon.events.append((now(), "m", {"type": "a"}, None))
            daemon.events.append((now(), "m", {"type": "new"}, None))
        row = vector(({**INSTANCE, "type": "a"}, 3), ({**INSTANCE, "type": "new"}, 1))
        return store({**GOOD, "sum m": row})(path, parameters)

    _, _, words = pair(stack, daemon.answer, racing)
    status, out, _ = ran(*words)
    assert status == 0 and out.startswith("edge: ")
    assert 'edge:    m{type="a"}: 2 delivered, 3 found; up to 3 can be there' in out


def test_a_range_beyond_the_hold_is_refused(ran: Audit, stack: ExitStack) -> None:
    _, prometheus, words = pair(stack, events().answer, store(GOOD))
    status, _, err = ran(*words, "--last", "2h")
    assert status == 2 and "holds events for 3600 s, got 7200 s" in err
    assert prometheus.asked == []


def test_an_unknown_scraper_is_refused_with_those_that_are_known(ran: Audit, stack: ExitStack) -> None:
    _, _, words = pair(stack, events().answer, store(GOOD))
    status, _, err = ran(*words[:-1], "bob")
    assert status == 2 and "there is no scraper 'bob'; known: 'ann'" in err


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ((200, b"<html>hello</html>"), 76, "this is not Prometheus, its answer: '<html>hello</html>'"),
        ((200, {"status": "ok"}), 76, "this is not a store with the query API of Prometheus"),
        ((200, [1]), 76, "this is not Prometheus"),
        ((200, b"[" * 100_000), 76, "this is not Prometheus"),
        ((200, {**vector(), "warnings": ["one store is away"]}), 75, "the answer is not complete"),
        ((200, {**vector(), "isPartial": True}), 75, "the answer is not complete"),
        ((400, {"status": "error", "error": "bad_data: no"}), 76, "refused (400): 'bad_data: no'"),
        ((404, b"404 page not found\n"), 76, "refused (404): '404 page not found'"),
        ((302, b""), 76, "redirects are not followed"),
        ((401, b"Unauthorized"), 77, "sent without a credential"),
        ((403, b"no"), 77, "refused (403)"),
        ((429, b"slow"), 75, "refused (429)"),
        ((503, b"Service Unavailable"), 75, "refused (503): 'Service Unavailable'"),
    ],
)
def test_a_store_that_does_not_count_is_an_error(
    ran: Audit, stack: ExitStack, answer: tuple[int, Any], status: int, text: str
) -> None:
    """A store that is away would look like one that has lost everything."""
    _, prometheus, words = pair(stack, events().answer, lambda path, parameters: answer)
    found, out, err = ran(*words)
    assert (found, out) == (status, "")
    assert text in err and f"Prometheus at {prometheus.url}: " in err


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ((200, {"scrapers": []}), 76, "this is not oneshotd of this version"),
        ((200, {"hold_seconds": 1, "scrapers": [{"name": "ann"}]}), 76, "this is not oneshotd"),
        ((404, b"404 page not found\n"), 76, "refused (404)"),
        ((503, b"busy\n"), 75, "refused (503): 'busy'"),
    ],
)
def test_another_daemon_is_an_error(
    ran: Audit, stack: ExitStack, answer: tuple[int, Any], status: int, text: str
) -> None:
    _, _, words = pair(stack, lambda path, parameters: answer, store(GOOD))
    found, _, err = ran(*words)
    assert found == status and text in err


def test_a_page_that_leads_nowhere_ends(ran: Audit, stack: ExitStack) -> None:
    """A faulty server would keep the command busy for ever."""
    daemon = AuditedDaemon()

    def circle(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        if path == "/api/v1/events":
            return 200, {"events": [], "next": 7}
        return daemon.answer(path, parameters)

    _, _, words = pair(stack, circle, store(GOOD))
    assert ran(*words)[0] == 76


def test_a_closed_port_and_a_silent_server_are_away(ran: Audit, stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        there, _, _ = pair(stack, events().answer, store(GOOD))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        common = ["--daemon", there.url, "--scraper", "ann", "--prometheus", url]
        status, _, err = ran(*common, "--timeout", "200ms")
        assert (status, "no answer within 0.2 s" in err) == (75, True)
    status, _, err = ran(*common)
    assert (status, "Connection refused" in err) == (75, True)


def test_tokens_go_to_their_own_server_only(ran: Audit, stack: ExitStack, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"token-{name}\n")
        (tmp_path / name).chmod(0o600)
    daemon, prometheus, words = pair(stack, events().answer, store(GOOD))
    words += ["--daemon-token-file", str(tmp_path / "one"), "--prometheus-token-file", str(tmp_path / "two")]
    assert ran(*words)[0] == 0
    assert {header for _, _, header in daemon.asked} == {"Bearer token-one"}
    assert {header for _, _, header in prometheus.asked} == {"Bearer token-two"}


def test_tls_has_an_authority_and_a_certificate_of_its_own(
    ran: Audit, stack: ExitStack, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server", sans=("127.0.0.1",)), authority.issue("client")
    client.key.chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert, server.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    daemon = stack.enter_context(serving(events().answer))
    prometheus = stack.enter_context(serving(store(GOOD), context))
    words = ["--daemon", daemon.url, "--scraper", "ann", "--prometheus", prometheus.url]
    status, _, err = ran(*words)
    assert (status, "the server's certificate is not accepted" in err) == (76, True), err
    words += ["--prometheus-ca-file", str(authority.cert)]
    assert ran(*words)[0] in (75, 76, 77)  # by the alert for a missing certificate, or its closed connection
    words += ["--prometheus-cert", str(client.cert), "--prometheus-key", str(client.key)]
    status, out, err = ran(*words)
    assert (status, out[:6], err) == (0, "equal:", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "required: --prometheus, --scraper"),
        (("--prometheus", "udp://h:1", "--scraper", "a"), "expected http:// or https://"),
        (("--prometheus", "http://h", "--scraper", "a", "--last", "10"), "expected a duration"),
        (("--prometheus", "http://h", "--scraper", "a", "--match", 'a="b"} or up{c="'), "expected a label"),
        (("--prometheus", "http://h", "--scraper", "a", "--match", "a=b"), "expected a label matcher"),
        (("--prometheus", "http://h", "--scraper", "a", "--show", "-1"), "--show"),
        (("--prometheus", "http://h", "--scraper", "a", "--prometheus-ca-file", "f"), "expected https://"),
        (("--prometheus", "https://h", "--scraper", "a", "--prometheus-key", "f"), "--prometheus-cert, too"),
        (("--prometheus", "https://h", "--scraper", "a", "--prometheus-ca-file", "/nil"), "ca-file: /nil"),
        (("--prometheus", "http://[::1]", "--scraper", "a", "--prometheus-token-file", "/nil"), "token-file"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(ran: Audit, words: tuple[str, ...], text: str) -> None:
    status, _, err = ran(*words)
    assert (status, text in err, err.count("\n")) == (2, True, 1), err
