"""The web configuration and the access file: read at the start, put in force, and read again.

Without both options there is nothing to read, and the policy has the networks of --allow-emit and
--allow-scrape only. Both files, and the packages that they need, are read before a port is opened. What is
read again replaces the users, rules and certificates in the objects that routes, fast path and UDP use; open
connections stay open. Two changes need a restart: to turn TLS on or off, and to have no user any more where
users are the only lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.logger import Logger

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.reload import ReloadedFile
from oneshotd.access.rules import Rule
from oneshotd.access.token_bucket import TokenBucket
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config import Config
from oneshotd.daemon.reloading import T, reloaded_file
from oneshotd.errors import ConfigError
from oneshotd.metrics.registry import Telemetry
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.transport.site import Site

if TYPE_CHECKING:
    from OpenSSL.SSL import Context

    from oneshotd.access.check_queue import PasswordThreads
    from oneshotd.access.passwords import Authenticator
    from oneshotd.access.tls import ServerTLS
    from oneshotd.access.web_config import RateLimit, WebConfig


@frozen
class _Web:
    """A web configuration and what was made of the files that it names.

    :param context: of its certificate; None: no TLS.
    :param contents: path of each such file -> SHA-256 of what is in it.
    """

    config: WebConfig
    context: Context | None
    contents: Mapping[str, bytes]


@frozen
class _Access:
    """The rules of an access file, and a line for each of them that never decides."""

    rules: Sequence[Rule]
    unreachable: Sequence[str]


class Locks:
    """The content of both files, in force.

    :param now: returns Unix seconds.
    :ivar policy: which client may do what.
    :ivar tls: makes the server's side of a TLS connection; None: no TLS.
    :ivar authenticator: finds the client of a request; None: there is neither file.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, config: Config, telemetry: Telemetry, now: Callable[[], float] = time.time
    ) -> None:
        self._reactor = reactor
        self._telemetry = telemetry
        self._now = now
        self._web_path = None if config.web_config is None else Path(config.web_config)
        self._access_path = None if config.access is None else Path(config.access)
        self._files: list[ReloadedFile[Any]] = []
        self._web: _Web | None = None
        self._access: _Access | None = None
        self._limits: Rules | None = None
        self.policy = AccessPolicy(emit=config.allow_emit, scrape=config.allow_scrape)
        self.tls: ServerTLS | None = None
        self.authenticator: Authenticator | None = None
        self._threads: PasswordThreads | None = None
        self._site: Site | None = None
        self._matcher: RequestMatcher | None = None
        self._rate: RateLimit | None = None

    @property
    def _rules(self) -> Sequence[Rule] | None:
        return None if self._access is None else self._access.rules

    @property
    def _users(self) -> Mapping[str, bytes]:
        return {} if self._web is None else self._web.config.users

    # The start

    def read(self, limits: Rules | None = None) -> None:
        """Read both files for the start, and put them in force.

        :param limits: of events, which the labels of access rules have to keep, too.
        :raises ConfigError: file, line, key and reason, or the package that is missing.
        """
        self._limits = limits
        if self._web_path is not None:
            web = self._file("web-config", self._web_path, self._load_web, self._take_web)
            self._web = web.first()
            if self._web.config.tls is not None:
                from oneshotd.access.tls import ServerTLS

                assert self._web.context is not None
                self.tls = ServerTLS(self._web.context, self._web.config.tls)
                self._telemetry.reloads.certificate_end = self._certificate_end
        if self._access_path is not None:
            access = self._file("access", self._access_path, self._load_access, self._take_access)
            self._access = access.first()
        if self._files:
            from oneshotd.access.check_queue import PasswordThreads
            from oneshotd.access.passwords import Authenticator

            self._threads = PasswordThreads(self._reactor)
            self.authenticator = Authenticator(
                self._users, self._threads, self._reactor, has_token=self.policy.has_token
            )
        self._update()

    def _file(
        self, option: str, path: Path, load: Callable[[], tuple[T, Iterable[Path]]], take: Callable[[T], str]
    ) -> ReloadedFile[T]:
        file = reloaded_file(
            option, path, load, take, reactor=self._reactor, telemetry=self._telemetry, now=self._now
        )
        self._files.append(file)
        return file

    def peer_sans(self, transport: Any) -> frozenset[str]:
        """Return the subject alternative names of the verified certificate of a TLS transport's client."""
        return frozenset() if self.tls is None else self.tls.peer_sans(transport)

    def serve(self, site: Site, matcher: RequestMatcher | None) -> None:
        """Put headers and rate limit in force at a site, now and after each change.

        :param matcher: of the fast path; not used with a limit or with headers, which it does not know.
        """
        self._site, self._matcher = site, matcher
        self._update_site()

    def start(self) -> None:
        """Begin to look for changes, as the user that the daemon stays."""
        for file in self._files:
            file.start()
            for path in file.files:
                if not os.access(path, os.R_OK):
                    self._log.warn(
                        "{path} cannot be read by the user of the daemon: a change of it will not be in force"
                        " without a restart",
                        path=str(path),
                    )

    def stop(self) -> None:
        """Look for no more changes, and check no more passwords."""
        for file in self._files:
            file.stop()
        if self._threads is not None:
            self._threads.stop()

    def log_summary(self, has_udp: bool) -> None:
        """Log what is locked, what looks odd, and what UDP takes."""
        if not self._files:
            return
        from oneshotd.access.findings import udp_takes
        from oneshotd.access.summaries import rules_summary, web_summary

        if self._web is not None:
            locked = web_summary(self._web.config, self._certificate_end())
            self._log.info("web-config {path}: {locked}", path=str(self._web_path), locked=locked)
            for note in self._web.config.notes:
                self._log.info("web-config: {note}", note=note)
            self._log_end()
        if self._rules is not None:
            locked = rules_summary(self._rules)
            self._log.info("access {path}: {locked}", path=str(self._access_path), locked=locked)
        udp = udp_takes(self._rules, has_users=bool(self._users)) if has_udp else None
        if udp is not None and self._rules is None:
            self._log.warn("{udp}", udp=udp)
        elif udp is not None:
            self._log.info("{udp}", udp=udp)
        self._log_findings()

    def _log_end(self) -> None:
        """Log that the certificate has ended, if it has: it is used all the same."""
        if self.tls is not None and self._has_ended():
            from oneshotd.access.summaries import date

            self._log.warn(
                "web-config {path}: the certificate ended at {end}; no client that verifies it connects",
                path=str(self._web_path),
                end=date(self.tls.not_after),
            )

    def _log_findings(self) -> None:
        """Log rules that are valid and cannot be what was meant."""
        if self._access is None:
            return
        from oneshotd.access.findings import unknown_users

        for finding in (*unknown_users(self._access.rules, self._users), *self._access.unreachable):
            self._log.warn("access {path}: {finding}", path=str(self._access_path), finding=finding)

    # Later

    def reload(self) -> None:
        """Read both files again now."""
        for file in self._files:
            file.ask()

    def warnings(self) -> list[str]:
        """Return what is wrong with the files, without a name or a path: every client may read it."""
        found = [
            f"the file of --{file.what.partition(' ')[0]} has changed and is not used; the log has the reason"
            for file in self._files
            if file.problem is not None
        ]
        if self._has_ended():
            found.append("the certificate of --web-config has ended")
        return found

    def _load_web(self) -> tuple[_Web, Iterable[Path]]:
        from oneshotd.access.small_files import read_small
        from oneshotd.access.tls import make_context
        from oneshotd.access.web_config import read_web_config

        assert self._web_path is not None
        config = read_web_config(self._web_path)
        context = None if config.tls is None else make_context(config.tls)
        named = [path for path in config.files if path != self._web_path]
        contents = {str(path): sha256(read_small(path, where=str(path))).digest() for path in named}
        return _Web(config, context, contents), (self._web_path, *named)

    def _take_web(self, web: _Web) -> str:
        from oneshotd.access.summaries import date, replaced, web_changes

        known, config = self._web, web.config
        assert known is not None and self.authenticator is not None
        if (config.tls is None) is not (known.config.tls is None):
            raise ConfigError(f"TLS is turned {'on' if config.tls else 'off'} by a restart only")
        if known.config.users and not config.users and self._rules is None:
            raise ConfigError("no users are left, and everyone would be let in: that takes a restart")
        changes = list(web_changes(known.config, config))
        self.authenticator.replace(config.users)  # raises if bcrypt is missing: nothing has changed then
        self._web = web
        self._update()
        if self.tls is not None and config.tls is not None and web.context is not None:
            self.tls.replace(web.context, config.tls)
            if names := replaced(known.contents, web.contents):
                changes.append(
                    f"new {', '.join(names)}, the certificate is valid until {date(self.tls.not_after)}"
                )
                self._log_end()
        if config.users.keys() != known.config.users.keys():
            self._log_findings()
        return "; ".join(changes)

    def _load_access(self) -> tuple[_Access, Iterable[Path]]:
        from oneshotd.access.access_file import read_access_file
        from oneshotd.access.findings import unreachable

        assert self._access_path is not None
        rules = read_access_file(self._access_path, self._limits)
        # A thousand rules are compared with each other, so this is done here, in a thread.
        return _Access(rules, unreachable(rules)), (self._access_path,)

    def _take_access(self, access: _Access) -> str:
        from oneshotd.access.summaries import rule_changes

        assert self._access is not None
        changes = list(rule_changes(self._access.rules, access.rules))
        self._access = access
        self._update()
        self._log_findings()
        return "; ".join(changes)

    def _update(self) -> None:
        """Put rules and users in force; what was remembered of earlier ones does not hold any more."""
        self.policy.update(rules=self._rules, has_users=bool(self._users))
        self._update_site()

    def _update_site(self) -> None:
        site, web = self._site, None if self._web is None else self._web.config
        if site is None:
            return
        headers = {} if web is None else web.headers
        site.headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        rate = None if web is None else web.rate_limit
        if rate != self._rate:  # a new bucket is full
            self._rate = rate
            site.limit = None if rate is None else TokenBucket(rate=1 / rate.interval, burst=rate.burst)
        site.matcher = None if site.headers or site.limit is not None else self._matcher

    def _has_ended(self) -> bool:
        """Return whether the certificate in force has ended."""
        return self.tls is not None and self.tls.not_after <= self._now()

    def _certificate_end(self) -> float | None:
        return None if self.tls is None else self.tls.not_after
