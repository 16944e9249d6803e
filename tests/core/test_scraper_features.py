"""What a scraper can take: if these fail, it drops samples, or series queue that need not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.scraper_features import Timestamps, takes_several, timestamps_mode
from oneshotd.errors import Refused


@pytest.mark.parametrize(
    ("user_agent", "several"),
    [
        # run against the real ones
        (b"Prometheus/2.42.0+ds", True),
        (b"Prometheus/2.53.3", True),
        (b"Prometheus/3.5.3+ds1", True),
        # before 2.42 never tried
        (b"Prometheus/2.41.0", False),
        (b"Prometheus/2.9.0", False),
        (b"Prometheus/1.8.2", False),
        # keeps the first only, from 2.52.0 until it was mended
        (b"Prometheus/2.51.2", True),
        (b"Prometheus/2.51.0+dedupelabels", True),
        (b"Prometheus/2.52.0-rc.0", False),
        (b"Prometheus/2.52.0", False),
        (b"Prometheus/2.53.0", False),
        (b"Prometheus/2.53.1", False),
        (b"Prometheus/2.53.2", False),
        (b"Prometheus/2.53.5", True),
        (b"Prometheus/2.54.0-rc.1", False),
        (b"Prometheus/2.54.0+dedupelabels", False),
        (b"Prometheus/2.54.0", False),
        (b"Prometheus/2.54.1", True),
        (b"Prometheus/2.55.0-rc.0", True),
        (b"Prometheus/3.0.0-beta.0", True),
        (b"Prometheus/3.0.0-rc.1", True),
        (b"Prometheus/3.0.0~rc.1+ds", True),
        (b"Prometheus/3.14.0", True),
        (b"Prometheus/10.0.0", True),
        (b" Prometheus/3.5.0 ", True),
        (b"Prometheus/3.5.0 (linux)", True),
        # no version, half of one, somebody's own
        (b"Prometheus/", False),
        (b"Prometheus", False),
        (b"Prometheus/3", False),
        (b"Prometheus/3.5", False),
        (b"Prometheus/3.5.x", False),
        (b"Prometheus/3.5.0.1", False),
        (b"Prometheus/3.5.0junk", False),
        (b"Prometheus/2.45.3-gmp.5", False),
        (b"Prometheus/99999.0.0", False),
        (b"prometheus/3.5.0", False),
        (b"X Prometheus/3.5.0", False),
        (b"notPrometheus/3.5.0", False),
        # others
        (b"vm_promscrape", False),
        (b"otelcol/0.119.0", False),
        (b"otelcol-contrib/0.119.0", False),
        (b"GrafanaAgent/v0.40.2 (flow; linux; binary)", False),
        (b"Alloy/v1.5.1 (linux; deb)", False),
        (b"Telegraf/1.33.0 Go/1.23.3", False),
        (b"Datadog Agent/7.60.0", False),
        (b"curl/8.5.0", False),
        (b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", False),
        (b"\xff\xfe", False),
        (b"", False),
        (None, False),
    ],
)
def test_who_takes_several_samples_of_a_series(user_agent: bytes | None, several: bool) -> None:
    """A scraper that keeps only the first sample would lose the others; so would an unknown one."""
    assert takes_several(user_agent) is several


@given(st.binary(max_size=80))
def test_no_user_agent_is_an_error(user_agent: bytes) -> None:
    """Whatever a client writes, it gets an answer."""
    assert takes_several(b"Prometheus/" + user_agent) in (True, False)
    assert takes_several(user_agent) in (True, False)


@pytest.mark.parametrize(
    ("text", "mode"), [(None, None), ("event", Timestamps.EVENT), ("scrape", Timestamps.SCRAPE)]
)
def test_a_mode(text: str | None, mode: Timestamps | None) -> None:
    """`?timestamps=` decides for this scraper; without it the daemon's default does."""
    assert timestamps_mode(text) is mode


@pytest.mark.parametrize("text", ["", "Event", "events", " event", "true", "1", "x" * 9999, "\ud800\n"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    """A typing error is said; samples in the wrong mode would stay wrong in the scraper's store."""
    with pytest.raises(Refused) as caught:
        timestamps_mode(text)
    assert (caught.value.reason, caught.value.status) == ("query", 400)
    assert caught.value.text.startswith("timestamps: expected event or scrape, got ")
    assert len(caught.value.text) < 200 and caught.value.text.isprintable()
