"""The metrics of files that are read again: only of files that there are."""

from __future__ import annotations

import pytest

from oneshotd.metrics.reloads import ReloadMetrics, ReloadState


def shown(metrics: ReloadMetrics) -> dict[str, float]:
    return {sample.name: sample.value for family in metrics.collect() for sample in family.samples}


def test_without_files_there_are_no_samples() -> None:
    """An alert about a reload would be about a file that nobody has."""
    assert shown(ReloadMetrics()) == {}
    assert all(family.documentation for family in ReloadMetrics().collect())


def test_each_file_has_its_state_and_the_certificate_its_end() -> None:
    """No alert would fire when a new file is refused, or before a certificate ends."""
    metrics = ReloadMetrics()
    metrics.watch("web_config", lambda: ReloadState(successful=False, succeeded_at=5.0))
    metrics.watch("access", lambda: ReloadState(successful=True, succeeded_at=7.0))
    metrics.certificate_end = lambda: 9.0
    assert shown(metrics) == {
        "oneshotd_web_config_last_reload_successful": 0,
        "oneshotd_web_config_last_reload_success_timestamp_seconds": 5,
        "oneshotd_access_last_reload_successful": 1,
        "oneshotd_access_last_reload_success_timestamp_seconds": 7,
        "oneshotd_web_config_certificate_expiry_timestamp_seconds": 9,
    }


def test_another_file_is_refused() -> None:
    with pytest.raises(KeyError):
        ReloadMetrics().watch("other", lambda: ReloadState(successful=True, succeeded_at=0.0))
