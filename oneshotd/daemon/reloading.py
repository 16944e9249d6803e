"""Make the configuration files that the daemon reads at its start, and again when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from oneshotd.access.reload import InThread, ReloadedFile
from oneshotd.metrics.registry import Telemetry
from oneshotd.metrics.reloads import ReloadState

T = TypeVar("T")


def thread_runner(reactor: Any) -> InThread:
    """Return a function that runs another one in a thread of the reactor's pool."""

    def in_thread(call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), call, *arguments)

    return in_thread


def reloaded_file(
    option: str,
    path: Path,
    load: Callable[[], tuple[T, Iterable[Path]]],
    take: Callable[[T], str],
    *,
    reactor: Any,
    telemetry: Telemetry,
    now: Callable[[], float],
) -> ReloadedFile[T]:
    """Return the file of an option; the metrics say whether its last reading was taken.

    :param option: without the dashes in front; see `metrics.reloads.FILES`.
    :param load, take, now: see `ReloadedFile`.
    """
    file = ReloadedFile(
        what=f"{option} {path}",
        path=path,
        load=load,
        take=take,
        clock=reactor,
        in_thread=thread_runner(reactor),
        now=now,
    )
    telemetry.reloads.watch(
        option.replace("-", "_"),
        lambda: ReloadState(successful=file.problem is None, succeeded_at=file.taken_at),
    )
    return file
