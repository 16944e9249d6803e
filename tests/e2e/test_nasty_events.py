"""The oddest events that the door lets in, scraped by real Prometheus servers and queried back equal.

What would be noticed if this failed: one tool reports an odd text, and every scrape fails from
then on, or a label on a dashboard says something else than the tool did.
"""

from __future__ import annotations

import json
import random
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.processes import until
from support.prometheus import Prometheus, scrape_config
from support.strategies import kept, written

pytestmark = pytest.mark.e2e

#: Suite, what its configuration says beside the usual, and so what it asks for: OpenMetrics,
#: text 0.0.4 (which can be had since 2.49 only), and OpenMetrics with UTF-8 names if we like.
SERVERS = {
    "bookworm": "",
    "trixie": "    scrape_protocols: [PrometheusText0.0.4]\n",
    "sid": "",
}

#: What a format, a lexer, a query string or a terminal may stumble over.
AWKWARD = [
    *('\\', '"', "\n", "\r", "\r\n", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ufeff"),
    *("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f"),
    *("\ufffe", "\uffff", "\ufffd", "\U0001f600", "\U0010ffff", "é", "e\u0301", "\u202e", "\u200b"),
    *("{", "}", "=", ",", "#", "# EOF", "&", "%", "%00", "+", ";", "'", "`", "\\n", '\\"', "\\\\"),
    *("\xa0", " ", "# TYPE", "\\x00", "\\u0041", "$(x)", "<b>", "NaN", "0", "1 2", '"} 1', "\n# EOF\n", "a"),
    *("\\\n", '\\"\n'),
]  # fmt: skip

METRICS = [
    *("odd", "odd_total", "odd_created", "odd_info", "odd_bucket", "odd_count", "odd_sum", "odd_gsum"),
    *("a:b", ":", "_", "NaN", "Inf", "e1", "HELP", "TYPE", "EOF", "le", "target_info", "summary", "x" * 128),
]  # fmt: skip

LABELS = [
    *("le", "quantile", "job", "instance", "exported_job", "exported_instance", "Value", "_", "a", "b", "c"),
    *("1st", "a-b", "a.b", "ä", "x/y", "name", "NaN", "HELP", "exemplar", "l" * 128, "x:y", "größe"),
    *("o\u0308", "x\u0663"),
]  # fmt: skip

VALUES = [
    *("0", "-0", "1", "37.5", "NaN", "+Inf", "-Inf", "5e-324", "-1.7976931348623157e308", "1e-400", ".5"),
    *("5.", "1E3", "9007199254740993", "123456789012345678901234567890", "0.1", "1e22", "1e21", "-0.0001"),
]  # fmt: skip


JSON, TEXT, FORM = "application/json", "text/plain", "application/x-www-form-urlencoded"

Labels = frozenset[tuple[str, str]]


@frozen
class Odd:
    """An event as its client sends it."""

    metric: str
    labels: dict[str, str]
    value: str

    def as_json(self) -> str:
        return json.dumps({"__name__": self.metric, "value": self.value, **self.labels})

    def as_line(self) -> str:
        pairs = {"__name__": self.metric, "value": self.value, **self.labels}
        return urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote)

    def as_queried(self) -> tuple[Labels, str]:
        """The labels and the value that Prometheus has to show."""
        labels = {written(name): kept(text) for name, text in self.labels.items() if text}
        # What it sets itself goes before; a conflicting label gets a prefix, as often as it takes.
        for name in ("job", "instance"):
            if name in labels:
                text, other = labels.pop(name), f"exported_{name}"
                while other in labels:
                    other = f"exported_{other}"
                labels[other] = text
        return frozenset({"__name__": self.metric, **labels}.items()), canonical_value(self.value)


def canonical_value(text: str) -> str:
    """A number as text, the same for the same float64."""
    return repr(float(text))


def odd_events(count: int) -> Iterator[Odd]:
    """Every awkward text, name and number by itself, then mixed at random, then as large as may be."""
    chance = random.Random(7)
    number = iter(range(10**6))

    def made(metric: str = "odd", value: str = "1", **labels: str) -> Odd:
        return Odd(metric, {"id": str(next(number)), **labels}, value)

    for text in AWKWARD:
        for around in ("{}", "x{}", "{}x", "{0}{0}"):
            yield made(text=around.format(text))
    for metric in METRICS:
        for value in VALUES:
            yield made(metric, value)
    for label in LABELS:
        yield made(**{label: "x"})
    yield made(**{"job": "j", "exported_job": "ej", "instance": "i", "exported_instance": "ei"})
    largest = {f"l{n}": chance.choice(AWKWARD) + "y" * 4000 for n in range(63)}
    yield made(**largest)
    yield made(**{f"{n:{'x'}>128}": "\0" * 4096 for n in range(63)})
    yield made(text='"' * 4096)
    yield made(text="\n" * 4096)
    yield made(text="\U0010ffff" * 1024)
    while next(number) < count:
        labels = {
            chance.choice(LABELS): "".join(chance.choices(AWKWARD, k=chance.randrange(0, 12)))
            for _ in range(chance.randrange(0, 6))
        }
        if len({written(label) for label in labels}) == len(labels):
            yield made(chance.choice(METRICS), chance.choice(VALUES), **labels)


def send(daemon: Daemon, events: Sequence[Odd]) -> None:
    """Through all the doors."""
    bulk: dict[str, list[str]] = {JSON: [], TEXT: []}
    datagrams = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for number, odd in enumerate(events):
            line = odd.as_line()
            if len(line) > 50_000:
                post(daemon, "/events", line, TEXT)
            elif number % 40 == 0:
                post(daemon, "/event", line, FORM)
            elif number % 40 == 1:
                udp.sendto(line.encode(), ("127.0.0.1", daemon.port))
                datagrams += 1
            elif number % 2:
                bulk[JSON].append(odd.as_json())
            else:
                bulk[TEXT].append(line)
    for start in range(0, len(events), 50):
        if some := bulk[JSON][start : start + 50]:
            post(daemon, "/events", "[" + ",".join(some) + "]", JSON)
        if some := bulk[TEXT][start : start + 50]:
            post(daemon, "/events", "\n".join(some), TEXT)
    assert datagrams
    stored = f'oneshotd_events_accepted_total{{source="udp"}} {float(datagrams)}\n'
    until(lambda: stored in daemon.look(), 20, f"{datagrams} datagrams stored")


def post(daemon: Daemon, path: str, body: str, media: str) -> None:
    request = urllib.request.Request(daemon.url + path, body.encode(), {"Content-Type": media})
    with BROWSER.open(request, timeout=30) as answer:
        assert answer.status == 200


def test_odd_events_reach_every_prometheus_as_they_were_sent(tmp_path: Path) -> None:
    events = list(odd_events(5000))
    expected = dict(odd.as_queried() for odd in events)
    assert len(expected) == len(events) > 2500
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(tmp_path / "daemon"))
        send(daemon, events)
        servers = []
        for suite, more in SERVERS.items():
            binary = fetch("prometheus", suite) / "usr/bin/prometheus"
            config = scrape_config(suite, f"127.0.0.1:{daemon.port}").replace(" 1s", " 3s") + more
            servers.append(stack.enter_context(Prometheus(binary, tmp_path / suite, config, name=suite)))
        for server in servers:
            server.await_scrapes(2)
            name = server.process.name
            assert server.unhealthy_targets() == [], name
            assert server.value("min_over_time(up[10m])") == 1, name
            found = {}
            for row in server.query('last_over_time({id!=""}[10m])'):
                labels = {
                    name: text for name, text in row["metric"].items() if name not in ("job", "instance")
                }
                found[frozenset(labels.items())] = canonical_value(row["value"][1])
            assert found.keys() == expected.keys(), difference(found, expected)
            assert found == expected, difference(found, expected)
            assert server.discarded() == {}, name
        assert daemon.errors() == []


def difference(found: Mapping[Labels, str], expected: Mapping[Labels, str]) -> str:
    """A few of those that are not the same, for a failure."""
    some = [(sorted(labels), value) for labels, value in set(expected.items()) - set(found.items())]
    others = [(sorted(labels), value) for labels, value in set(found.items()) - set(expected.items())]
    return f"sent: {str(some)[:2000]}\nfound: {str(others)[:2000]}"
