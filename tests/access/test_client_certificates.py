"""Certificates of clients: who has to show one, which are let in, and whose names count as an identity."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from OpenSSL import SSL
from support.certificates import Authority, Pair
from support.tls_in_memory import Transport, client_context, connect, server_tls, tls_settings

from oneshotd.access.tls import ServerTLS, make_context

NAMES = ("client.example", "192.0.2.7", "2001:db8::7", "ci@example.org", "spiffe://example.org/ci")
UNKNOWN_CA = "TLSV1_ALERT_UNKNOWN_CA"
REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
EXPIRED = "SSLV3_ALERT_CERTIFICATE_EXPIRED"


@frozen(kw_only=True)
class Certificates:
    """An authority, its server, and certificates that clients may show.

    :ivar clients: among them "foreign", of an authority that the server does not know, and "forged", of one
        that has the name of the server's.
    """

    folder: Path
    authority: Authority
    server: Pair
    clients: dict[str, Pair | None]

    def connect(self, name: str, tls: ServerTLS) -> tuple[str | None, frozenset[str]]:
        outcome = connect(tls, client_context(self.authority.cert, self.clients[name]))
        return outcome.error, outcome.sans

    def tls(self, **keys: Any) -> ServerTLS:
        return server_tls(self.folder, self.server, **keys)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    authority = Authority(tmp_path / "ca")
    clients: dict[str, Pair | None] = {
        "none": None,
        "known": authority.issue("known", NAMES),
        "ended": authority.issue("ended", NAMES, timedelta(days=-1)),
        "foreign": Authority(tmp_path / "foreign", "another").issue("foreign", NAMES),
        "forged": Authority(tmp_path / "forged").issue("forged", NAMES),
    }
    return Certificates(
        folder=tmp_path, authority=authority, server=authority.issue("server"), clients=clients
    )


VERIFIED = frozenset(NAMES)
NOBODY: frozenset[str] = frozenset()

#: Policy -> client -> the alert, or the names that count.
POLICIES: dict[str, dict[str, str | frozenset[str]]] = {
    "": {"none": NOBODY, "known": NOBODY, "ended": NOBODY, "foreign": NOBODY, "forged": NOBODY},
    "NoClientCert": {"none": NOBODY, "known": NOBODY, "ended": NOBODY, "foreign": NOBODY, "forged": NOBODY},
    "RequestClientCert": {
        "none": NOBODY,
        "known": NOBODY,
        "ended": NOBODY,
        "foreign": NOBODY,
        "forged": NOBODY,
    },
    "RequireAnyClientCert": {
        "none": REQUIRED,
        "known": NOBODY,
        "ended": NOBODY,
        "foreign": NOBODY,
        "forged": NOBODY,
    },
    "RequireClientCert": {
        "none": REQUIRED,
        "known": NOBODY,
        "ended": NOBODY,
        "foreign": NOBODY,
        "forged": NOBODY,
    },
    "VerifyClientCertIfGiven": {
        "none": NOBODY,
        "known": VERIFIED,
        "ended": EXPIRED,
        "foreign": UNKNOWN_CA,
        "forged": UNKNOWN_CA,
    },
    "RequireAndVerifyClientCert": {
        "none": REQUIRED,
        "known": VERIFIED,
        "ended": EXPIRED,
        "foreign": UNKNOWN_CA,
        "forged": UNKNOWN_CA,
    },
}


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_has_the_meaning_that_go_gives_it(certificates: Certificates, policy: str) -> None:
    """A client with a certificate of its own making would be taken for one of the authority's."""
    keys = {"client_auth_type": policy}
    if "Verify" in policy:
        keys["client_ca_file"] = str(certificates.authority.cert)
    tls = certificates.tls(**keys)
    seen = {}
    for name in certificates.clients:
        error, sans = certificates.connect(name, tls)
        assert error is None or sans == NOBODY
        seen[name] = error or sans
    assert seen == POLICIES[policy]


def test_a_ca_does_not_make_a_policy_verify_that_does_not(certificates: Certificates) -> None:
    """The names in a certificate of anybody's making would count where it was only asked for."""
    ca = str(certificates.authority.cert)
    tls = certificates.tls(client_auth_type="RequireAnyClientCert", client_ca_file=ca)
    # Also of a valid one: whether it is valid has not been asked.
    assert certificates.connect("known", tls) == (None, NOBODY)
    assert certificates.connect("foreign", tls) == (None, NOBODY)


@pytest.mark.parametrize(
    ("allowed", "let_in"),
    [
        *((name, True) for name in NAMES),
        ("2001:0db8:0000::7", True),
        ("Client.example", False),
        ("*.example", False),
        ("example", False),
        ("client.example.", False),
        ("spiffe://example.org/", False),
        ("192.0.2.0/24", False),
        ("known", False),
    ],
)
def test_one_allowed_name_is_matched_exactly(certificates: Certificates, allowed: str, let_in: bool) -> None:
    """A certificate with a similar name, or with the name as its subject only, would be let in."""
    keys = {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(certificates.authority.cert),
    }
    tls = certificates.tls(**keys, client_allowed_sans=["other.example", allowed])
    error, sans = certificates.connect("known", tls)
    assert (error is None) is let_in
    assert sans == (VERIFIED if let_in else NOBODY)
    # The names do not replace the verification.
    assert certificates.connect("foreign", tls) == (UNKNOWN_CA, NOBODY)
    assert certificates.connect("none", tls) == (REQUIRED, NOBODY)


def test_a_certificate_without_names_is_refused_where_names_are_asked_for(certificates: Certificates) -> None:
    """A certificate of the authority without any name would pass the list of names."""
    certificates.clients["nameless"] = certificates.authority.issue("nameless", ())
    keys = {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(certificates.authority.cert),
    }
    assert certificates.connect("nameless", certificates.tls(**keys)) == (None, NOBODY)
    error, _ = certificates.connect("nameless", certificates.tls(**keys, client_allowed_sans=["known"]))
    assert error is not None


def test_the_authority_may_be_inline_or_an_intermediate(certificates: Certificates) -> None:
    """A configuration of exporter-toolkit with `client_ca`, or with a part of the chain, would not work."""
    middle = Authority(certificates.folder / "middle", "middle", issuer=certificates.authority)
    certificates.clients["of middle"] = middle.issue("client", NAMES)
    tls = certificates.tls(client_auth_type="RequireAndVerifyClientCert", client_ca=middle.cert.read_text())
    assert certificates.connect("of middle", tls) == (None, VERIFIED)
    assert certificates.connect("known", tls) == (UNKNOWN_CA, NOBODY)


def test_a_certificate_for_servers_only_is_no_clients(certificates: Certificates) -> None:
    """Who has got a web server's certificate could act as a client (Go asks for the same usage)."""
    pair = certificates.authority.issue("web", NAMES, client=False)
    certificates.clients["web"] = pair
    keys = {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(certificates.authority.cert),
    }
    error, sans = certificates.connect("web", certificates.tls(**keys))
    assert (error, sans) == ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", NOBODY)


def steps(pair: Pair | None, connection: SSL.Connection) -> Iterator[None]:
    """Shake hands with a client that shows this certificate; yield after each step of the server."""
    assert pair is not None
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate_file(str(pair.cert))
    context.use_privatekey_file(str(pair.key))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    for _ in range(4):
        for one, other in ((client, connection), (connection, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(2**16))
        yield


def test_names_count_by_the_policy_of_their_own_connection(certificates: Certificates) -> None:
    """After a reload, the names of a connection that was never verified would count."""
    tls = certificates.tls(client_auth_type="RequestClientCert")
    connection = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
    for _ in steps(certificates.clients["foreign"], connection):
        pass
    assert connection.get_peer_certificate() is not None
    settings = tls_settings(
        certificates.folder,
        cert_file=str(certificates.server.cert),
        key_file=str(certificates.server.key),
        client_auth_type="RequireAndVerifyClientCert",
        client_ca_file=str(certificates.authority.cert),
    )
    tls.replace(make_context(settings), settings)
    assert tls.peer_sans(Transport(connection)) == NOBODY


def test_names_count_from_the_end_of_the_handshake_on(certificates: Certificates) -> None:
    """A copy of a certificate, without its key, would do for a moment; or an early question for ever."""
    ca = str(certificates.authority.cert)
    tls = certificates.tls(client_auth_type="RequireAndVerifyClientCert", client_ca_file=ca)
    connection = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
    seen = [tls.peer_sans(Transport(connection))]
    for _ in steps(certificates.clients["known"], connection):
        seen.append(tls.peer_sans(Transport(connection)))
    assert seen[0] == seen[1] == NOBODY
    assert seen[-1] == VERIFIED


def test_a_transport_without_tls_has_no_names(certificates: Certificates) -> None:
    """A request over a UNIX socket or plain TCP beside TLS would fail."""
    tls = certificates.tls()
    assert tls.peer_sans(object()) == NOBODY
    assert tls.peer_sans(Transport(None)) == NOBODY  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("client", "keys", "reason"),
    [
        ("ended", {}, "has ended"),
        ("foreign", {}, "is of an authority that is not in client_ca_file"),
        ("server", {}, "is not for clients (extended key usage)"),
        (
            "known",
            {"client_allowed_sans": ["a"]},
            "has no name of client_allowed_sans",
        ),
        ("none", {}, None),
    ],
)
def test_the_reason_of_a_refusal_is_known(
    certificates: Certificates, client: str, keys: dict[str, Any], reason: str | None
) -> None:
    """The log would say that the verification failed, and an operator not know which certificate to renew."""
    ca = str(certificates.authority.cert)
    tls = certificates.tls(client_auth_type="RequireAndVerifyClientCert", client_ca_file=ca, **keys)
    certificates.clients["server"] = certificates.authority.issue("only", NAMES, client=False)
    outcome = connect(tls, client_context(certificates.authority.cert, certificates.clients[client]))
    assert outcome.error is not None
    assert outcome.refusal == (reason and f"the client's certificate {reason}")
