"""Both functions over TLS: who is trusted, who is told a secret, and what is not tried again."""

from __future__ import annotations

import ssl
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from support.certificates import Authority, Pair
from support.emit_server import STORED, Server, answer, endless
from support.emit_ways import WAYS, Way, later
from twisted.logger import Logger, capturedLogs, eventAsText
from twisted.python.failure import Failure

from oneshotd.emit import EmitDenied, EmitRefused
from oneshotd.emit.settings import Credentials, Settings, SettingsError, target
from oneshotd.emit.transport import HttpSender

#: Seconds in which a test would notice a useless retry: the server is asked again, or the error is another.
RETRY = 10

UNTRUSTED = r"^the server's certificate is not accepted: .*"


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> Way:
    send: Way = request.param
    return send


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "another authority")


@pytest.fixture(scope="module")
def site(authority: Authority) -> Pair:
    return authority.issue("site")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return private(authority.issue("client"))


def private(pair: Pair) -> Pair:
    pair.key.chmod(0o600)
    return pair


@pytest.fixture
def token(tmp_path: Path) -> Path:
    return written(tmp_path / "token", "s3cret-token\n")


def written(file: Path, text: str) -> Path:
    file.touch(0o600)
    file.write_text(text)
    return file


def serving(
    pair: Pair, clients: Authority | None = None, newest: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A server's context; with `clients` it asks for a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients is not None:
        context.load_verify_locations(clients.cert)
        context.verify_mode = ssl.CERT_REQUIRED
    if newest is not None:
        context.maximum_version = newest
    return context


def https(server: Server, host: str = "127.0.0.1") -> str:
    return f"https://{host}:{server.port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest_twisted.ensureDeferred
async def test_a_token_goes_to_a_daemon_of_the_named_authority(
    way: Way, authority: Authority, site: Pair, token: Path, host: str
) -> None:
    """No event would arrive at a daemon with a certificate of its own."""
    with Server(tls=serving(site)) as server:
        await way(url=https(server, host), ca_file=authority.cert, token_file=token)
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer s3cret-token"
    assert asked.body == b"a=1"


@pytest_twisted.ensureDeferred
async def test_the_systems_authorities_are_not_trusted_beside_the_named_one(
    way: Way, authority: Authority, stranger: Authority, site: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of a hundred authorities could make a certificate for the daemon's name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    with Server(tls=serving(site)) as server:
        await way(url=https(server))
        with pytest.raises(EmitRefused, match=UNTRUSTED):
            await way(url=https(server), ca_file=stranger.cert)
    assert len(server.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_stranger_is_told_nothing_and_is_not_tried_again(
    way: Way, authority: Authority, stranger: Authority, token: Path
) -> None:
    """The token would be told to anybody in the way; or a cron job would try for the whole of `retry`."""
    cases = (
        (stranger.issue("site"), "(?i)self.signed|local issuer|not trusted"),
        (authority.issue("ended", valid=timedelta(hours=-1)), "expired|ended"),
        (authority.issue("other", sans=["other.example"]), r"not valid for '127\.0\.0\.1'|another host"),
    )
    for pair, why in cases:
        with Server(tls=serving(pair)) as server, pytest.raises(EmitRefused, match=UNTRUSTED) as caught:
            await way(url=https(server), ca_file=authority.cert, token_file=token, retry=RETRY)
        assert not isinstance(caught.value, EmitDenied)
        assert caught.match(why)
        assert str(authority.cert) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert server.asked == []


@pytest_twisted.ensureDeferred
async def test_without_the_authority_the_option_is_named(way: Way, site: Pair) -> None:
    """Nobody would know what to do about it."""
    with Server(tls=serving(site)) as server, pytest.raises(EmitRefused, match=f"{UNTRUSTED}ca-file"):
        await way(url=https(server), retry=RETRY)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_a_certificate_is_shown_to_a_daemon_that_asks(
    way: Way, authority: Authority, stranger: Authority, site: Pair, client: Pair, newest: ssl.TLSVersion
) -> None:
    """A daemon that knows clients by certificates could not be reached, or its refusal not be understood."""
    both = written(client.cert.with_name("both.pem"), client.cert.read_text() + client.key.read_text())
    with Server(tls=serving(site, authority, newest)) as server:
        words = {"url": https(server), "ca_file": authority.cert, "retry": RETRY}
        await way(**words, cert_file=client.cert, key_file=client.key)
        await way(**words, cert_file=both)
        with pytest.raises(EmitDenied, match="asks for a certificate"):
            await way(**words)
        strange = private(stranger.issue("client"))
        with pytest.raises(EmitDenied, match=f"refuses the certificate of {strange.cert} .*authority"):
            await way(**words, cert_file=strange.cert, key_file=strange.key)
        ended = private(authority.issue("gone", valid=timedelta(hours=-1)))
        with pytest.raises(EmitDenied, match=f"refuses the certificate of {ended.cert} .*ended"):
            await way(**words, cert_file=ended.cert, key_file=ended.key)
    assert len(server.asked) == 2


def test_the_refusal_of_a_large_batch_is_read(authority: Authority, site: Pair) -> None:
    """TLS 1.3 refuses a certificate while the batch is sent; it would look like a cut, and be tried again."""
    with Server(tls=serving(site, authority)) as server:
        where = Settings(target(https(server)), 10.0, 0.0, Credentials(ca_file=str(authority.cert)))
        for _ in range(5):
            sender = HttpSender(where)
            with pytest.raises(EmitDenied, match="asks for a certificate"):
                sender.lines([b"a=" + b"x" * 1000] * 1000)
            sender.close()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"ca_file": "none.pem"}, "ca-file: none.pem: No such file"),
        ({"ca_file": "words"}, "ca-file: words: there is no certificate in PEM form in it"),
        ({"ca_file": "broken"}, "ca-file: broken: OpenSSL cannot use it"),
        ({"ca_file": "key"}, "ca-file: key: there is no certificate"),
        ({"ca_file": "."}, "ca-file: .: Is a directory"),
        ({"ca_file": "/dev/zero"}, "ca-file: /dev/zero: longer than"),
        ({"cert_file": "none.pem"}, "cert: none.pem: No such file"),
        ({"cert_file": "cert"}, "cert: cert: there is no key in PEM form in it"),
        ({"cert_file": "cert", "key_file": "none.pem"}, "key: none.pem: No such file"),
        ({"cert_file": "cert", "key_file": "cert"}, "key: cert: there is no key"),
        ({"cert_file": "cert", "key_file": "locked"}, "key: locked: the key is encrypted"),
        ({"cert_file": "cert", "key_file": "other"}, "key: other: not the key of the certificate cert"),
        ({"cert_file": "broken", "key_file": "key"}, "cert: broken.*: OpenSSL cannot use it"),
        ({"cert_file": "key", "key_file": "key"}, "cert: key: there is no certificate"),
        ({"key_file": "key"}, "key: expected cert as well"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_used_is_one_line(
    way: Way,
    authority: Authority,
    client: Pair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    why: str,
) -> None:
    """OpenSSL would say "PEM lib (_ssl.c:3927)", or ask for a password on the terminal of a cron job."""
    monkeypatch.chdir(tmp_path)
    key = load_pem_private_key(client.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret"))
    written(tmp_path / "cert", client.cert.read_text())
    written(tmp_path / "key", client.key.read_text())
    written(tmp_path / "other", authority.issue("different").key.read_text())
    written(tmp_path / "locked", locked.decode())
    written(tmp_path / "words", "no certificate\n")
    written(tmp_path / "broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with Server(tls=serving(client)) as server, pytest.raises(SettingsError, match=f"^{why}") as caught:
        await way(url=https(server), retry=RETRY, **files)
    assert "\n" not in str(caught.value)
    assert server.asked == []


@pytest_twisted.ensureDeferred
async def test_files_are_read_for_each_event(
    way: Way, authority: Authority, stranger: Authority, site: Pair, token: Path, tmp_path: Path
) -> None:
    """A program would have to be restarted whenever a certificate or a token is renewed."""
    trusted = written(tmp_path / "ca.pem", stranger.cert.read_text())
    with Server(tls=serving(site)) as server:
        with pytest.raises(EmitRefused, match=UNTRUSTED):
            await way(url=https(server), ca_file=trusted, token_file=token)
        trusted.write_text(authority.cert.read_text())
        token.write_text("other")
        await way(url=https(server), ca_file=trusted, token_file=token)
    assert server.asked[0].headers["authorization"] == "Bearer other"


@pytest_twisted.ensureDeferred
async def test_a_file_of_several_authorities_trusts_each(
    way: Way, authority: Authority, stranger: Authority, site: Pair, tmp_path: Path
) -> None:
    """During a change of the authority, one half of the daemons could not be reached."""
    bundle = written(
        tmp_path / "ca.pem", f"# ü: several\n{stranger.cert.read_text()}\n{authority.cert.read_text()}"
    )
    with Server(tls=serving(site)) as server:
        await way(url=https(server), ca_file=bundle)
    assert len(server.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_port_without_tls_is_told(way: Way) -> None:
    """It would look like a network that cuts connections, for the whole of `retry`."""
    told = pytest.raises(EmitRefused, match="the server does not speak TLS there, expected http://")
    with endless(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x") as (url, _), told:
        await way(url=url.replace("http:", "https:"), retry=RETRY)


@pytest_twisted.ensureDeferred
async def test_https_without_its_packages_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Twisted program would get an ImportError, and nobody know which package is missing."""
    monkeypatch.delitem(sys.modules, "oneshotd.emit.deferred_tls", raising=False)
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    with pytest.raises(SettingsError, match=r"pyOpenSSL.*python3-openssl"):
        await later(url="https://127.0.0.1:1", retry=RETRY)


@pytest_twisted.ensureDeferred
async def test_a_secret_is_in_no_log(way: Way, authority: Authority, site: Pair, token: Path) -> None:
    """Whoever reads a program's log could emit in its name; Twisted's client logs what it connects."""
    with Server(STORED, answer(401, b"no\n"), tls=serving(site)) as server, capturedLogs() as events:
        await way(url=https(server), ca_file=authority.cert, token_file=token)
        with pytest.raises(EmitDenied) as caught:
            await way(url=https(server), ca_file=authority.cert, token_file=token)
        Logger().failure("not reported", Failure(caught.value))
    lines = "\n".join(map(eventAsText, events))
    assert "EmitDenied" in lines
    assert "s3cret" not in lines
