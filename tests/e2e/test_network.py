"""Scrapes over a real network that fails: each event arrives once, or is counted as uncertain.

The daemon is on one host, the scraper on another; the line between the two is cut. A failure
of any of these shows as a figure on a dashboard that is too high or too low after an outage.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from support.certificates import Authority
from support.daemon import Daemon
from support.raw_scraper import LONG, SHORT, SMALL_BUFFER, Scraper
from support.veth import Wire, needed_hosts

pytestmark = pytest.mark.e2e

PORT, TLS_PORT = 8090, 8443
NUMBERS = count(1)

#: Events of a kilobyte each: a response of `FEW` always fits into the kernel's buffers, one of
#: `SOME` into the sender's but not into a `SMALL_BUFFER`, one of `MANY` into none of them.
FEW, SOME, MANY = 3, 8, 500

#: Where the scraper is in the middle of a response.
MIDDLE = 100_000


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with needed_hosts() as joined:
        yield joined


@pytest.fixture(scope="module")
def daemon(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # A newcomer sees nothing of what other tests have sent.
    folder = tmp_path_factory.mktemp("daemon")
    pair = Authority(folder / "tls").issue("oneshotd")
    tls = f"--http=ssl:{TLS_PORT}:privateKey={pair.key}:certKey={pair.cert}"
    options = [
        f"--http=tcp:{PORT}",
        tls,
        f"--udp={PORT}",
        "--store=sqlite:oneshotd.sqlite",
        "--newcomers=1ms",
    ]
    with Daemon(folder, options=options, port=PORT, prefix=wire.ours.prefix) as running:
        yield running


@pytest.fixture(params=[None, TLS_PORT], ids=["tcp", "tls"])
def scraper(wire: Wire, daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Scraper]:
    """A scraper that the daemon knows, and a line that is whole again afterwards."""
    made = Scraper(f"scraper-{next(NUMBERS)}", wire, daemon, PORT, request.param)
    assert made.scrape() == 0
    try:
        yield made
    finally:
        wire.join()
        wire.keep_from(wire.ours)
        wire.keep_from(wire.theirs)
        made.close()


def test_a_scraper_that_reads_half_and_resets_gets_all_again(scraper: Scraper) -> None:
    scraper.post(MANY)
    connection = scraper.connect()
    connection.ask()
    connection.read_some(MIDDLE)
    connection.reset()
    scraper.await_figures(returned=MANY)
    assert scraper.scrape() == MANY
    scraper.check(returned=MANY, delivered=MANY)


@pytest.mark.parametrize(
    ("version", "lines"), [("1.1", ()), ("1.1", ("Connection: close",)), ("1.0", ())], ids=str
)
def test_a_scraper_killed_with_the_response_unread_gets_it_again(
    scraper: Scraper, version: str, lines: tuple[str, ...]
) -> None:
    scraper.post(FEW)
    connection = scraper.connect()
    connection.ask(*lines, version=version)
    scraper.await_figures(delivered=FEW)
    with connection.process() as process:
        process.kill()
    scraper.await_figures(delivered=FEW, revoked=FEW)
    assert scraper.scrape() == FEW
    scraper.check(delivered=2 * FEW, revoked=FEW)


def test_a_scraper_that_stops_reading_is_given_up_at_its_deadline(scraper: Scraper) -> None:
    scraper.post(MANY)
    connection = scraper.connect(SMALL_BUFFER)
    connection.ask(timeout=SHORT)
    # Much of the response never left the daemon, so nothing about it is uncertain.
    scraper.await_figures(returned=MANY)
    with pytest.raises(ConnectionError):
        connection.read()
    assert scraper.scrape() == MANY
    scraper.check(returned=MANY, delivered=MANY)


def test_a_line_that_is_back_before_the_deadline_costs_nothing(scraper: Scraper, wire: Wire) -> None:
    scraper.post(MANY)
    connection = scraper.connect()
    connection.ask()
    connection.read_some(MIDDLE)
    wire.cut()
    connection.read_what_came()
    wire.join()
    assert connection.read() == MANY
    connection.close()
    scraper.check(delivered=MANY)


def test_a_line_that_is_back_after_the_deadline_brings_all_again(scraper: Scraper, wire: Wire) -> None:
    scraper.post(MANY)
    connection = scraper.connect()
    connection.ask(timeout=SHORT)
    connection.read_some(MIDDLE)
    wire.cut()
    scraper.await_figures(returned=MANY)
    wire.join()
    connection.reset()
    assert scraper.scrape() == MANY
    scraper.check(returned=MANY, delivered=MANY)


def test_a_whole_response_in_the_kernel_is_uncertain_when_the_line_stays_cut(
    scraper: Scraper, wire: Wire
) -> None:
    """The daemon cannot know that the scraper did not get it, and says so."""
    scraper.post(SOME)
    connection = scraper.connect(SMALL_BUFFER)
    with scraper.until_sent():
        connection.ask(timeout=SHORT)
    wire.cut()
    scraper.await_figures(returned=SOME, uncertain=SOME)
    wire.join()
    connection.reset()
    assert scraper.scrape() == SOME
    scraper.check(returned=SOME, uncertain=SOME, delivered=SOME)


@pytest.mark.parametrize("recovers", [True, False], ids=["before the deadline", "after it"])
def test_lost_acknowledgements_are_the_one_way_to_get_an_event_twice(
    scraper: Scraper, wire: Wire, recovers: bool
) -> None:
    """What was read twice is exactly what is counted as uncertain (docs/semantics.md, (b))."""
    scraper.post(FEW, size=1)
    connection = scraper.connect(limit=2 * FEW)  # one packet, which is repeated whole
    wire.lose_from(wire.ours)
    with scraper.until_sent():
        connection.ask(timeout=LONG if recovers else SHORT)
    wire.lose_from(wire.theirs)
    wire.keep_from(wire.ours)
    assert connection.read() == FEW
    if recovers:
        wire.keep_from(wire.theirs)
        scraper.check(delivered=FEW)
    else:
        scraper.await_figures(returned=FEW, uncertain=FEW)
        wire.keep_from(wire.theirs)
        connection.close()
        assert scraper.scrape() == FEW
        scraper.check(returned=FEW, uncertain=FEW, delivered=FEW, twice=FEW)


def test_a_scraper_that_ends_its_side_in_the_middle_gets_the_rest(scraper: Scraper) -> None:
    scraper.post(MANY)
    connection = scraper.connect()
    connection.ask()
    connection.read_some(MIDDLE)
    connection.finish()
    if scraper.tls_port is not None:  # a FIN ends TLS as a whole
        scraper.await_figures(returned=MANY)
        assert scraper.scrape() == MANY
        scraper.check(returned=MANY, delivered=MANY)
        return
    assert connection.read() == MANY
    assert connection.is_ended()
    scraper.check(delivered=MANY)


@pytest.mark.parametrize("events", [SOME, MANY], ids=["all in the kernel", "half in the kernel"])
def test_a_scraper_that_closes_in_the_middle_gets_all_again_at_once(
    scraper: Scraper, wire: Wire, events: int
) -> None:
    """It has read what came, so its kernel sends a FIN first, and the reset when more comes."""
    scraper.post(events)
    connection = scraper.connect(SMALL_BUFFER)
    with scraper.until_sent():
        connection.ask()
    connection.read_some(1)
    wire.lose_from(wire.ours)
    connection.read_what_came()
    connection.close()
    wire.keep_from(wire.ours)
    scraper.await_figures(returned=events)  # long before the scrape's timeout
    assert scraper.scrape() == events
    scraper.check(returned=events, delivered=events)


@pytest.mark.parametrize("events", [FEW, MANY])
@pytest.mark.parametrize(("version", "lines"), [("1.1", ("Connection: close",)), ("1.0", ())], ids=str)
def test_a_connection_that_the_daemon_closes_brings_everything_before(
    scraper: Scraper, version: str, lines: tuple[str, ...], events: int
) -> None:
    scraper.post(events)
    connection = scraper.connect(SMALL_BUFFER)
    connection.ask(*lines, version=version)
    assert connection.read() == events
    assert connection.is_ended()
    connection.close()
    scraper.check(delivered=events)


@pytest.mark.parametrize("events", [FEW, MANY])
def test_pipelined_scrapes_get_the_events_with_the_first_response(scraper: Scraper, events: int) -> None:
    scraper.post(events)
    connection = scraper.connect()
    connection.ask(times=3)
    assert [connection.read() for _ in range(3)] == [events, 0, 0]
    connection.close()
    scraper.check(delivered=events)


def test_the_next_request_on_a_connection_makes_the_response_before_final(scraper: Scraper) -> None:
    """A reset takes back the response that it left unread, not those that were read before."""
    connection = scraper.connect()
    for number in range(1, 4):
        scraper.post(FEW)
        connection.ask()
        scraper.await_figures(delivered=number * FEW)
        if number < 3:
            assert connection.read() == FEW
    connection.reset()
    scraper.await_figures(delivered=3 * FEW, revoked=FEW)
    assert scraper.scrape() == FEW
    scraper.check(delivered=4 * FEW, revoked=FEW)


@pytest.mark.parametrize("reset_arrives", [True, False])
def test_a_scrape_repeated_because_its_connection_died_gets_the_events(
    scraper: Scraper, wire: Wire, reset_arrives: bool
) -> None:
    """Go's client does so by itself when a connection that it had kept dies under its request."""
    connection = scraper.connect()
    connection.ask()
    assert connection.read() == 0
    scraper.post(FEW)
    wire.lose_from(wire.ours)
    with scraper.until_sent():
        connection.ask()
    if not reset_arrives:
        wire.lose_from(wire.theirs)
    connection.reset()
    wire.keep_from(wire.theirs)
    if reset_arrives:
        scraper.await_figures(returned=FEW)
    wire.keep_from(wire.ours)
    again = scraper.connect()
    again.ask()
    # Without the reset the first response counts as under way, until its repetition is answered.
    assert again.read() == FEW if reset_arrives else again.read() in (0, FEW)
    again.close()
    got = sum(scraper.got.values())
    scraper.await_figures(returned=FEW, delivered=got)
    assert scraper.scrape() == FEW - got
    scraper.check(returned=FEW, delivered=FEW)


def test_a_scrape_repeated_while_the_first_is_under_way_brings_no_event(scraper: Scraper) -> None:
    """Else what the first response brings in the end would have come twice."""
    scraper.post(SOME)
    connection = scraper.connect(SMALL_BUFFER)
    with scraper.until_sent():
        connection.ask()
    assert scraper.scrape() == 0
    assert connection.read() == SOME
    connection.close()
    scraper.check(delivered=SOME)
