"""The real daemon as a process of its own, `twistd -n oneshot`, on ports of its own."""

from __future__ import annotations

import functools
import http.client
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from support.processes import Process, free_port

if TYPE_CHECKING:
    from support.certificates import Pair

REPOSITORY = Path(__file__).resolve().parents[2]
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")

#: What would change the daemon's options behind a test's back.
FOREIGN_VARIABLES = (
    *("LOG_LEVEL", "STATE_DIRECTORY", "JOURNAL_STREAM", "http_proxy", "HTTP_PROXY"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
)

#: No proxy, whatever the environment says: everything is on this machine.
BROWSER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def browser(
    ca: Path | None = None, credential: str | None = None, pair: Pair | None = None
) -> urllib.request.OpenerDirector:
    """Return an opener that trusts one authority, and sends a credential or a certificate of its own."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if ca is not None:
        context = ssl.create_default_context(cafile=str(ca))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    made = urllib.request.build_opener(*handlers)
    if credential is not None:
        made.addheaders = [*made.addheaders, ("Authorization", credential)]
    return made


@functools.cache
def environment() -> dict[str, str]:
    """Return the environment of a daemon.

    If the package is not installed, or installed with ``-e``, twistd finds the plugin through the path.
    """
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    with tempfile.TemporaryDirectory() as elsewhere:
        found = subprocess.run(
            [sys.executable, "-c", "import oneshotd, twisted.plugins.oneshot_plugin"],
            cwd=elsewhere,
            env=env,
            capture_output=True,
            timeout=60,
        )
    if found.returncode != 0:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), env.get("PYTHONPATH")]))
    return env


class Daemon:
    """One daemon with its folder, port (the same for HTTP and UDP) and store, over restarts.

    As a context manager it starts, and at the end kills what still runs.

    :param folder: working directory; the store and the log are in it.
    :param options: of ``twistd oneshot``; None for one port on 127.0.0.1 and a store in `folder`.
    :param more: further options.
    :param port: where `options` make it listen, else a free one is chosen.
    :param prefix: a command that runs a command elsewhere (``nsenter …``).
    :param variables: more of its environment.
    :param ca: its HTTP ports speak TLS; the authority that has signed its certificate, as a file.
    :param credential: the header Authorization of this object's own requests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        options: Sequence[str] | None = None,
        more: Sequence[str] = (),
        port: int | None = None,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        ca: Path | None = None,
        credential: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"{'http' if ca is None else 'https'}://127.0.0.1:{self.port}"
        self.browser = BROWSER if ca is None and credential is None else browser(ca, credential)
        self._tls = None if ca is None else ssl.create_default_context(cafile=str(ca))
        self.prefix = tuple(prefix)
        if options is None:
            options = (
                f"--http=localhost:{self.port}",
                f"--udp=127.0.0.1:{self.port}",
                f"--store=sqlite:{folder / 'oneshotd.sqlite'}",
            )
        env = {**environment(), **(variables or {})}
        self.process = Process("oneshotd", (*prefix, *TWISTD, "oneshot", *options, *more), folder, env)

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def start(self) -> None:
        """Start the daemon, on the same port and store, and wait for ``/readyz``."""
        self.process.start(self.is_ready)

    def stop(self) -> None:
        """Stop by SIGTERM; every accepted event is on disk afterwards."""
        self.process.stop()

    def kill(self) -> None:
        """``kill -9``."""
        self.process.check()
        self.process.kill()

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def is_ready(self) -> bool:
        """Return whether ``/readyz`` answers 200."""
        if self.prefix:
            curl = ("curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "5", f"{self.url}/readyz")
            return subprocess.run((*self.prefix, *curl), capture_output=True, timeout=30).returncode == 0
        try:
            with self.browser.open(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet; `timeout` in seconds."""
        if self._tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self._tls)

    def get(self, path: str, accept: str = "*/*") -> str:
        """The body of a GET (its User-Agent makes a scrape one of Python-urllib's).

        :raises urllib.error.HTTPError: any status but 2xx.
        """
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        with self.browser.open(request, timeout=10) as answer:
            return str(answer.read().decode())

    def look(self) -> str:
        """Return ``/metrics`` as a look: it consumes nothing and creates no scraper."""
        return self.get("/metrics?look")

    def errors(self) -> list[str]:
        """Return the log lines that a healthy daemon never writes."""
        marks = ("Traceback", "Unhandled", "[critical", "#critical", "#error")
        return [line for line in self.process.log_text().splitlines() if any(mark in line for mark in marks)]
