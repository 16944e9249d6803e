"""`oneshotctl audit` against servers that answer what a test has set."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.audit_servers import Answers, AuditedDaemon, FakeServer, serving, vector
from support.certificates import Authority

from oneshotd.ctl.command import run

#: Runs the command; returns status, standard output and standard error.
Audit = Callable[..., tuple[int, str, str]]

INSTANCE = {"job": "oneshotd", "instance": "edge-1:8090"}


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Audit:
    def audit(*words: str) -> tuple[int, str, str]:
        status = run(["audit", "--wait", "0s", "--timeout", "10s", *words], {})
        out, err = capsys.readouterr()
        return status, out, err

    return audit


@pytest.fixture
def stack() -> Any:
    with ExitStack() as found:
        yield found


def now() -> int:
    return int(time.time() * 1000)


def pair(stack: ExitStack, daemon: Answers, store: Answers) -> tuple[FakeServer, FakeServer, list[str]]:
    there, other = stack.enter_context(serving(daemon)), stack.enter_context(serving(store))
    return there, other, ["--daemon", there.url, "--prometheus", other.url, "--scraper", "ann"]


def events() -> AuditedDaemon:
    at = now() - 60_000
    return AuditedDaemon(
        events=[
            (at, "m", {"type": "a"}, None),
            (at + 1, "m", {"type": "a"}, None),
            (at + 2, "m", {"type": "b"}, "3.5"),
            (at + 3, "other", {"job": "x"}, None),
        ],
        page=2,
    )


def store(numbers: Mapping[str, dict[str, Any]]) -> Answers:
    """A store that knows these expressions, by the function and the metric."""

    def answer(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        assert path == "/api/v1/query"
        for begin, found in numbers.items():
            function, metric = begin.split()
            if parameters["query"].startswith(f'{function}_over_time({{__name__="{metric}"'):
                return 200, found
        return 200, vector()

    return answer


GOOD = {
    "sum m": vector(({**INSTANCE, "type": "a"}, 2), ({**INSTANCE, "type": "b"}, 3.5)),
    "count m": vector(({**INSTANCE, "type": "a"}, 1), ({**INSTANCE, "type": "b"}, 1)),
    "sum other": vector(({**INSTANCE, "exported_job": "x"}, 1)),
}


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


@pytest.mark.parametrize(
    ("said", "option"), [("push", ()), (None, ("--way", "push")), ("scrape", ("--way", "push"))]
)
def test_pushed_events_are_counted_by_their_samples(
    ran: Audit, stack: ExitStack, said: str | None, option: tuple[str, ...]
) -> None:
    """The daemon says that this scraper is a receiver; the option goes before."""
    daemon = events()
    daemon.scraper = {"way": said}
    pushed = {
        "count m": vector(({**INSTANCE, "type": "a"}, 2), ({**INSTANCE, "type": "b"}, 1)),
        "count other": vector(({**INSTANCE, "exported_job": "x"}, 1)),
    }
    _, prometheus, words = pair(stack, daemon.answer, store(pushed))
    status, out, _ = ran(*words, *option, "--match", 'instance="edge-1:8090"')
    assert status == 0 and out.startswith("equal: 4 events")
    assert "\nway:     push (remote write" in out
    assert ("--way is push, the daemon says scrape" in out) is (said == "scrape")
    assert {parameters["query"] for _, parameters, _ in prometheus.asked} == {
        f'count_over_time({{__name__="{metric}",instance="edge-1:8090"}}[600001ms])'
        for metric in ("m", "other")
    }


@pytest.mark.parametrize(
    ("row", "way", "assumed"),
    [({}, "scrape", False), ({"way": "event"}, "event", False), ({"way": None}, "scrape", True)],
)
def test_the_way_is_named_and_so_is_that_it_was_assumed(
    ran: Audit, stack: ExitStack, row: dict[str, Any], way: str, assumed: bool
) -> None:
    daemon = events()
    daemon.scraper = row
    _, _, words = pair(stack, daemon.answer, store(GOOD))
    found = json.loads(ran(*words, "--json")[1])
    assert (found["verdict"], found["way"]) == ("equal", way)
    assert ["scrape is assumed, see --way" in note for note in found["notes"]] == [True] * assumed
    lines = ran(*words)[1].splitlines()
    assert lines[1].startswith(f"way:     {way} (")


def test_a_daemon_without_the_field_is_an_older_one(ran: Audit, stack: ExitStack) -> None:
    daemon = events()

    def older(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        status, found = daemon.answer(path, parameters)
        if path == "/api/v1/scrapers":
            del found["scrapers"][0]["way"]
        return status, found

    _, _, words = pair(stack, older, store(GOOD))
    status, out, _ = ran(*words)
    assert status == 0 and "scrape is assumed, see --way" in out
    daemon.scraper = {"way": "telepathy"}
    _, _, words = pair(stack, daemon.answer, store(GOOD))
    status, _, err = ran(*words)
    assert status == 76 and "this is not oneshotd of this version" in err


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


@pytest.mark.parametrize("since", [None, 30_000], ids=["database", "restart"])
@pytest.mark.parametrize(
    ("older", "found", "status", "text"),
    [
        (False, 1, 1, 'missing: m{type="a"}: 2 delivered, 1 found; 1 missing'),
        (False, 2, 0, "equal: "),
        (False, 3, 1, 'surplus: m{type="a"}: 2 delivered, 3 found; 1 too many'),
        (True, 3, 0, 'edge:    m{type="a"}: 2 delivered, 3 found; up to 3 can be there'),
        (True, 4, 1, 'surplus: m{type="a"}: 2 delivered, 4 found; 1 too many'),
    ],
)
def test_without_a_lag_a_loss_is_found_and_mostly_a_repetition(
    ran: Audit, stack: ExitStack, since: int | None, older: bool, found: int, status: int, text: str
) -> None:
    """After a restart of the daemon, and where daemons share a database, the lag is not known."""
    daemon = events()
    daemon.scraper = {"lag_since_at": None, "longest_lag_seconds": None}
    if since is not None:
        daemon.scraper = {"lag_since_at": now() - since}
    if older:  # its sample may have come in the range
        daemon.events.insert(0, (now() - 900_000, "m", {"type": "a"}, None))
    row = vector(({**INSTANCE, "type": "a"}, found), ({**INSTANCE, "type": "b"}, 3.5))
    _, _, words = pair(stack, daemon.answer, store({**GOOD, "sum m": row}))
    got, out, _ = ran(*words)
    assert (got, text in out) == (status, True), out
    assert "the daemon does not know the longest lag" in out


def test_without_a_lag_of_the_whole_range_a_note_says_so(ran: Audit, stack: ExitStack) -> None:
    daemon = events()
    daemon.scraper = {"lag_since_at": now() - 30_000}
    _, prometheus, words = pair(stack, daemon.answer, store(GOOD))
    status, out, _ = ran(*words)
    assert status == 0 and "the daemon does not know the longest lag" in out
    assert "since" not in prometheus.asked[0][1]
    assert "does not know" not in ran(*words, "--lag", "30s")[1]


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
