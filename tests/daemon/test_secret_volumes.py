"""Files in the volume of a Secret of Kubernetes are read, and read again after a change of the Secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from support.certificates import Authority
from support.hook_messages import CI
from support.locks_driver import ANN, BOB, SENDERS, Inline, may
from support.secret_volume import SecretVolume

from oneshotd.access.reload import LOOK_SECONDS
from oneshotd.access.rules import Role
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config import Config
from oneshotd.daemon.hooks import HookParts
from oneshotd.daemon.locks import Locks
from oneshotd.daemon.pings import PingParts
from oneshotd.daemon.reloading import reloaded_file
from oneshotd.delivery.remote_write.destination import ConfiguredReceiver
from oneshotd.delivery.remote_write.receivers_file import read_receivers_file
from oneshotd.errors import ConfigError
from oneshotd.metrics.registry import Telemetry

SIGNED = CI + '[verify]\nby = "token"\nheader = "X-Token"\nsecret_files = ["token"]\n'
CHECK = '[[check]]\nname = "{}"\nuuid = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"\n'
RECEIVER = """
[[receiver]]
name = "a"
url = "http://127.0.0.1:9/write"
instance = "i"
user = "u"
password-file = "password"
"""


def look(reactor: Inline) -> None:
    """Let the daemon find a change."""
    reactor.advance(LOOK_SECONDS)
    reactor.advance(LOOK_SECONDS)


def locks(reactor: Inline, config: Config) -> Locks:
    made = Locks(reactor, config, Telemetry())
    made.read()
    made.start()
    return made


def test_users_and_certificate_change_with_the_secret(tmp_path: Path) -> None:
    """A renewed certificate, or a removed user, would wait for a restart of the pod."""

    def keys(days: int) -> Mapping[str, str | bytes]:
        made = Authority(tmp_path / "authority").issue("server", valid=timedelta(days=days))
        return {"tls.crt": made.cert.read_bytes(), "tls.key": made.key.read_bytes()}

    web = "tls_server_config: {{cert_file: {0}, key_file: tls.key}}\n"
    volume = SecretVolume(tmp_path / "web", {"web.yml": web.format("tls.crt") + ANN, **keys(1)})
    reactor = Inline()
    made = locks(reactor, Config(web_config=str(volume.path("web.yml"))))
    assert made.tls is not None
    end = made.tls.not_after
    volume.change({"web.yml": web.format("tls.crt") + ANN + BOB, **keys(9)})
    look(reactor)
    assert made.warnings() == []
    assert made.tls.not_after > end + 86400
    version = made.policy.version
    volume.change({"web.yml": web.format("gone.crt"), **keys(9)})
    look(reactor)
    assert (made.policy.version, len(made.warnings())) == (version, 1), "a bad file is not used"
    made.stop()


def test_the_certificate_of_another_secret_is_read_again(tmp_path: Path) -> None:
    """cert-manager renews a Secret of its own; the web configuration names its files."""
    first, second = (
        Authority(tmp_path / f"authority-{days}").issue("server", valid=timedelta(days=days))
        for days in (1, 9)
    )
    tls = SecretVolume(
        tmp_path / "tls", {"tls.crt": first.cert.read_bytes(), "tls.key": first.key.read_bytes()}
    )
    config = f"tls_server_config: {{cert_file: {tls.path('tls.crt')}, key_file: {tls.path('tls.key')}}}\n"
    web = SecretVolume(tmp_path / "web", {"web.yml": config})
    reactor = Inline()
    made = locks(reactor, Config(web_config=str(web.path("web.yml"))))
    assert made.tls is not None
    end = made.tls.not_after
    tls.change({"tls.crt": second.cert.read_bytes(), "tls.key": second.key.read_bytes()})
    look(reactor)
    assert made.tls.not_after > end + 86400
    made.stop()


def test_rules_change_with_the_secret(tmp_path: Path) -> None:
    """A client that was removed from the rules could still send."""
    volume = SecretVolume(tmp_path / "access", {"access.toml": SENDERS})
    reactor = Inline()
    made = locks(reactor, Config(access=str(volume.path("access.toml"))))
    assert may(made, Role.EMIT, address="192.0.2.1")
    volume.change({"access.toml": SENDERS.replace("192.0.2.0/24", "198.51.100.0/24")})
    look(reactor)
    assert not may(made, Role.EMIT, address="192.0.2.1") and may(made, Role.EMIT, address="198.51.100.1")
    made.stop()


def test_hooks_come_and_go_with_the_keys_of_the_secret(tmp_path: Path) -> None:
    """A hook would be missing, or the links of the volume be taken for hooks."""
    volume = SecretVolume(tmp_path / "hooks", {"ci.toml": SIGNED, "token": "a-secret-of-the-sender"})
    reactor = Inline()
    made = HookParts(reactor, Config(hooks=str(volume.folder)), Telemetry())
    made.read(Rules())
    made.start()
    own = {"ci", "cd"}
    assert (own & {*made.hooks.names}, made.warnings()) == ({"ci"}, [])
    volume.change({"ci.toml": SIGNED, "cd.toml": CI, "token": "a-secret-of-the-sender"})
    look(reactor)
    assert (own & {*made.hooks.names}, made.warnings()) == ({"ci", "cd"}, [])
    volume.change({"cd.toml": CI})
    look(reactor)
    assert (own & {*made.hooks.names}, made.warnings()) == ({"cd"}, [])
    made.stop()


def test_checks_change_with_the_secret(tmp_path: Path) -> None:
    """A URL that was withdrawn would still be a credential."""
    volume = SecretVolume(tmp_path / "pings", {"pings.toml": CHECK.format("backup")})
    reactor = Inline()
    made = PingParts(reactor, Config(pings=str(volume.path("pings.toml"))), Telemetry())
    made.read(Rules())
    made.start()
    volume.change({"pings.toml": CHECK.format("report")})
    look(reactor)
    assert list(made.checks.names) == ["report"]
    made.stop()


def test_a_receiver_s_password_changes_with_the_secret(tmp_path: Path) -> None:
    """After a new password the store would refuse all events."""
    volume = SecretVolume(tmp_path / "receivers", {"receivers.toml": RECEIVER, "password": "first"})
    path = volume.path("receivers.toml")
    reactor, telemetry = Inline(), Telemetry()
    taken: list[Sequence[ConfiguredReceiver]] = []

    def take(receivers: Sequence[ConfiguredReceiver]) -> str:
        taken.append(receivers)
        return "changed"

    file = reloaded_file(
        "receivers",
        path,
        lambda: read_receivers_file(path),
        take,
        reactor=reactor,
        telemetry=telemetry,
        now=lambda: 1e9,
    )
    before = file.first()
    file.start()
    volume.change({"receivers.toml": RECEIVER, "password": "second"})
    look(reactor)
    assert [found != before for found in taken] == [True]
    file.stop()


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The default mode of a Secret's volume is 0644: with it, the chart's daemon would not start."""
    volume = SecretVolume(tmp_path / "receivers", {"receivers.toml": RECEIVER, "password": "x"}, mode)
    with pytest.raises(ConfigError, match=rf"others may not read, got mode {mode:04o}"):
        read_receivers_file(volume.path("receivers.toml"))
