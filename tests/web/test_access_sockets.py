"""Every route and every kind of client over sockets: plain and with TLS, with and without the fast path."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen
from support.access_matrix import KINDS, NETWORK, ROLES, SAN, TOKEN, USERS, Case, Kind, cases, rules
from support.bare_scraper import PATIENCE
from support.certificates import Authority, Pair
from support.credentials import bearer, token_hash
from support.memory_site import MemoryServer, open_server, reactor
from twisted.internet.threads import deferToThread

from oneshotd.access.check_queue import PasswordThreads
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role, Rule
from oneshotd.access.tls import ServerTLS, make_context
from oneshotd.access.tls_names import ClientAuth
from oneshotd.access.tls_settings import PEM, TLSSettings
from oneshotd.backups import Backup
from oneshotd.core.networks import Networks
from oneshotd.ingest.pipeline import Ingest
from oneshotd.web.app import HTTPApi


class Backups:
    """Makes backups that are no files."""

    async def make(self) -> Backup:
        return Backup(file="/backups/one.sqlite", size=1, seconds=0.1)


@frozen
class Door:
    """A way to the daemon.

    :param context: for clients without a certificate; None: plain HTTP.
    :param certified: for clients with one.
    """

    server: MemoryServer
    context: ssl.SSLContext | None
    certified: ssl.SSLContext | None

    @contextmanager
    def connect(self, kind: Kind) -> Iterator[HTTPConnection]:
        """Return a connection from the address of this kind of client."""
        here: Any = self.server.port.getHost()
        port, source = here.port, (kind.address, 0)
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=source)
        if self.context is not None:
            context = self.certified if kind.has_certificate else self.context
            connection = HTTPSConnection(
                "127.0.0.1", port, timeout=PATIENCE, source_address=source, context=context
            )
        try:
            yield connection
        finally:
            connection.close()

    def statuses(self, kind: Kind, asked: Sequence[Case]) -> dict[str, int]:
        """Return the statuses of the answers to all requests, over one connection, and closing one."""
        found = {}
        posts = [case for case in asked if case.method == "POST"]
        headers = {} if kind.authorization is None else {"Authorization": kind.authorization.decode()}
        with self.connect(kind) as connection:
            for case in asked:
                found[str(case)] = ask(connection, case, headers)
            for case in posts:  # now that its password is known, it may take another way
                assert ask(connection, case, headers) == found[str(case)], f"{case}, again"
        # Without TLS, the fast path has a listener of its own for requests that end their connection.
        for case in posts if self.context is None else ():
            with self.connect(kind) as connection:
                status = ask(connection, case, {**headers, "Connection": "close"})
            assert status == found[str(case)], f"{case} with Connection: close"
        return found


def ask(connection: HTTPConnection, case: Case, headers: Mapping[str, str]) -> int:
    connection.request(case.method, case.route.path, case.route.body or None, dict(headers))
    response = connection.getresponse()
    response.read()
    return response.status


def settings(authority: Authority, server: Pair) -> TLSSettings:
    return TLSSettings(
        where="tls",
        cert=PEM(where="cert", path=server.cert),
        key=PEM(where="key", path=server.key),
        client_auth=ClientAuth.VERIFY_IF_GIVEN,
        client_ca=PEM(where="ca", path=authority.cert),
    )


@asynccontextmanager
async def open_door(folder: Path, *, is_tls: bool, has_fast_path: bool) -> AsyncIterator[Door]:
    """Serve all routes; the rules are set by the test."""
    policy = AccessPolicy()
    policy.update(rules=[], has_users=True)
    threads = PasswordThreads(reactor)
    authenticator = Authenticator(USERS, threads, reactor, has_token=policy.has_token)
    tls = context = certified = None
    if is_tls:
        authority = Authority(folder / "ca")
        made = settings(authority, authority.issue("server"))
        tls = ServerTLS(make_context(made), made)
        context, certified = (ssl.create_default_context(cafile=str(authority.cert)) for _ in range(2))
        own = authority.issue("client", sans=(SAN,))
        certified.load_cert_chain(own.cert, own.key)
    try:
        async with open_server(
            folder,
            access=policy,
            authenticator=authenticator,
            tls=tls,
            has_fast_path=has_fast_path,
            backups=Backups(),
        ) as server:
            yield Door(server, context, certified)
    finally:
        threads.stop()


@pytest.fixture
def fast_events(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the events that bypass the routes."""
    count: Counter[str] = Counter()
    submit = Ingest.submit_series

    def counted(self: Ingest, series: Sequence[str], waiting: Any) -> bool:
        count["events"] += len(series)
        return submit(self, series, waiting)

    monkeypatch.setattr(Ingest, "submit_series", counted)
    return count


@pytest.mark.parametrize("has_fast_path", [False, True], ids=["routes", "fast path"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
@pytest_twisted.ensureDeferred
async def test_each_client_may_do_what_its_rule_says(
    tmp_path: Path, is_tls: bool, has_fast_path: bool, fast_events: Counter[str]
) -> None:
    """A client would get by the fast path, or by TLS, what it may not have, or not what it may."""
    async with open_door(tmp_path, is_tls=is_tls, has_fast_path=has_fast_path) as door:
        for name, kind in KINDS.items():
            for role in ROLES:
                door.server.doors.access.update(rules=rules(kind, role), has_users=True)
                fast_events.clear()
                asked = list(cases(HTTPApi.app.url_map, kind, role, is_tls=is_tls))
                found = await deferToThread(door.statuses, kind, asked)
                assert found == {str(case): case.status for case in asked}, f"{name}, rule for {role}"
                fits = kind.fits and (is_tls or not kind.has_certificate)
                if role is not Role.EMIT or not fits or not has_fast_path:
                    assert not fast_events, f"{name}, rule for {role}"
                else:
                    assert fast_events, f"{name}: the fast path has not been tried"


@pytest.mark.parametrize("has_fast_path", [False, True], ids=["routes", "fast path"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
@pytest_twisted.ensureDeferred
async def test_requests_that_differ_in_their_token_only_are_told_apart(
    tmp_path: Path, is_tls: bool, has_fast_path: bool
) -> None:
    """What is remembered for one client's block of headers would let another one in."""
    tokens = [f"{number:04}" for number in range(50)]
    valid = {TOKEN, *tokens[::5]}
    rules = [
        Rule(number=number, role=Role.EMIT, token_sha256=token_hash(token), network=NETWORK)
        for number, token in enumerate(sorted(valid), 1)
    ]
    kind = Kind(rule={})

    def statuses(door: Door) -> dict[str, int]:
        found: dict[str, int] = {}
        with door.connect(kind) as connection:
            for token in [TOKEN, *tokens, *reversed(tokens), TOKEN]:
                connection.request("POST", "/event?a=b", headers={"Authorization": bearer(token).decode()})
                response = connection.getresponse()
                response.read()
                assert found.setdefault(token, response.status) == response.status or response.status == 429
        return found

    async with open_door(tmp_path, is_tls=is_tls, has_fast_path=has_fast_path) as door:
        door.server.doors.access.update(rules=rules, has_users=True)
        found = await deferToThread(statuses, door)
        assert {token for token, status in found.items() if status == 200} == valid
        assert set(found.values()) <= {200, 401, 429}
        door.server.doors.access.update(rules=[], has_users=True)
        withdrawn = await deferToThread(statuses, door)
        assert set(withdrawn.values()) <= {401, 429}, "rules that were withdrawn still hold"


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_has_its_own_network(tmp_path: Path) -> None:
    """Local processes would need a password, or strangers would be taken for them."""
    policy = AccessPolicy()
    authenticator = Authenticator({}, PasswordThreads(reactor), reactor, has_token=policy.has_token)
    where = tmp_path / "http.sock"
    request = b"POST /event?a=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    def status() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(where))
            sock.sendall(request)
            with sock.makefile("rb") as file:
                return file.read()[9:12]

    async with open_server(tmp_path, f"unix:{where}", access=policy, authenticator=authenticator):
        for members, expected in ((["unix"], b"200"), (["127.0.0.0/8", "0.0.0.0/0"], b"403")):
            networks = Networks.parse(members)
            policy.update(rules=[Rule(number=1, role=Role.EMIT, network=networks)], has_users=False)
            assert await deferToThread(status) == expected
