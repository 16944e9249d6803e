"""`oneshotctl check-config`: what is wrong is told with its place, and what is good in plain lines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.lock_files import ACCESS, BAD, BOTH, DIGEST, HASH, RULES, TLS, USERS, WEB
from twisted.internet.task import Clock

from oneshotd.core.parsing.formats import Rules
from oneshotd.ctl import daemon_sources
from oneshotd.ctl.command import run
from oneshotd.daemon.config import Config
from oneshotd.daemon.config_sources import configure
from oneshotd.daemon.locks import Locks
from oneshotd.daemon.sockets import speaks_tls
from oneshotd.errors import ConfigError
from oneshotd.metrics.registry import Telemetry

REPOSITORY = Path(__file__).resolve().parents[2]

#: The fixture of conftest.py: returns status, standard output and standard error.
Check = Callable[..., tuple[int, list[str], list[str]]]


@pytest.mark.parametrize(("files", "errors"), BAD)
def test_each_error_is_a_line_with_its_place(
    check: Check, files: Mapping[str, str | bytes], errors: list[str]
) -> None:
    """A restart after a change would end the daemon, or the operator would look in the wrong place."""
    for words in ((), ("--quiet",), ("--strict",)):
        status, out, err = check(files, *words)
        assert (status, out) == (1, []), err
        assert len(err) == len(errors), err
        for found, wanted in zip(err, errors, strict=True):
            assert found.startswith(wanted)
            assert HASH[10:] not in found


@pytest.mark.parametrize(("files", "errors"), [row for row in BAD if "web.yml" in row[0]])
def test_the_daemon_refuses_the_same_files(
    check: Check, tmp_path: Path, files: Mapping[str, str | bytes], errors: list[str]
) -> None:
    """A file would be called wrong with which the daemon works."""
    check(files)
    config = configure({}, {}, str(tmp_path / "d.toml"))
    with pytest.raises(ConfigError):
        begin(config)


def begin(config: Config) -> None:
    """Read what the daemon reads at its start, after its options.

    :raises ConfigError: the daemon would not start.
    """
    limits = Rules(max_labels=config.max_labels, max_value=config.max_label_value)
    Locks(Clock(), config, Telemetry()).read(limits)
    for where in config.http:
        speaks_tls(where)


def test_a_missing_package_is_named(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would not start on a machine on which the check was good."""
    files = {"d.toml": BOTH, "web.yml": USERS, "access.toml": RULES}
    assert check(files)[0] == 0
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    status, _, err = check(files)
    assert status == 1
    assert err == [
        "web-config needs the package bcrypt: pip install 'oneshotd[auth]', or Debian's python3-bcrypt"
    ]


@pytest.mark.parametrize(
    ("words", "environ", "why"),
    [
        (("--hold", "5"), {}, "--hold: expected a duration"),
        ((), {"LOG_LEVEL": "loud"}, "$LOG_LEVEL: expected one of"),
    ],
)
def test_options_and_environment_are_checked_too(
    check: Check, words: tuple[str, ...], environ: dict[str, str], why: str
) -> None:
    """The file alone would be good, and the daemon would not start."""
    status, out, (err,) = check({"d.toml": 'hold = "1h"'}, *words, environ=environ)
    assert (status, out) == (1, []) and err.startswith(why)


@pytest.mark.parametrize("words", ["--htpt=1", "--quiet=1", "--config", "d.toml"])
def test_a_slip_is_status_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell a typing error from a wrong configuration."""
    assert run(["check-config", words], {}) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_any_file_everybody_may_do_all(check: Check) -> None:
    """The operator would believe that the daemon is locked."""
    assert check({}) == (
        0,
        [
            "configuration: no file, the defaults",
            "HTTP: port 8090 of every address, without TLS",
            "UDP: port 8090 of every address",
            "store: oneshotd.sqlite in the working directory of the daemon, events are held for 1h",
            "access: every client may send events",
            "access: every client may scrape and look",
        ],
        [],
    )


def test_networks_store_and_backups_are_told(check: Check) -> None:
    """The operator could not see which file, which ports and which clients there are."""
    text = """
        http = ["localhost:1", "unix:/run/http", "systemd:domain=INET:index=0", "tcp:2:interface=127.0.0.1"]
        udp = ["192.0.2.7:3", "localhost:4", "[2001:db8::7]:5", "unix:/run/d:mode=660", "systemd:d.socket"]
        hold = "90m"
        allow-emit = ["192.0.2.0/24", "198.51.100.1", "unix"]
        trusted-proxy = ["unix", "10.0.0.0/8"]
        backup-dir = "/copies"
        backup-socket = "/run/backup"
    """
    assert check({"d.toml": text}, environ={"STATE_DIRECTORY": "/var/lib/x"}) == (
        0,
        [
            "configuration: DIR/d.toml",
            "HTTP: port 1 of this machine only, without TLS",
            "HTTP: unix:/run/http, without TLS",
            "HTTP: systemd:domain=INET:index=0, without TLS",
            "HTTP: tcp:2:interface=127.0.0.1, without TLS",
            "UDP: port 3 of 192.0.2.7",
            "UDP: port 4 of this machine only",
            "UDP: port 5 of 2001:db8::7",
            "UDP: unix:/run/d, with the permissions 660",
            "UDP: the socket d.socket of systemd",
            "store: /var/lib/x/oneshotd.sqlite, events are held for 90m",
            "backups: in /copies, asked for at /run/backup",
            "access: only 192.0.2.0/24, 198.51.100.1, unix may send events (--allow-emit)",
            "access: every client may scrape and look",
            "access: the address of a client behind unix, 10.0.0.0/8 is in X-Forwarded-For (--trusted-proxy)",
        ],
        [],
    )
    assert "UDP: no address" in check({"d.toml": "udp = []"})[1]


def test_the_locks_are_told_without_a_secret(check: Check) -> None:
    """The operator would have to read three files side by side; or a hash would be in a terminal's log."""
    status, out, err = check({"d.toml": BOTH, "web.yml": WEB, "access.toml": ACCESS})
    assert (status, err) == (0, [])
    assert [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", line) for line in out] == [
        "configuration: DIR/d.toml",
        "HTTP: port 8090 of this machine only, with TLS",
        "UDP: port 8090 of every address",
        "UDP takes only what these rules of the access file allow: rule 3 (emit, network 198.51.100.1/32)",
        "store: oneshotd.sqlite in the working directory of the daemon, events are held for 1h",
        "web configuration: DIR/web.yml",
        "TLS: 1.3",
        "certificate: in DIR/server.pem, for 127.0.0.1, ::1, localhost",
        "certificate: ends DATE, in 60 days",
        "client certificates: are required and verified, by the authorities in DIR/ca.pem",
        "client certificates: only those for a.example, b.example",
        "users: ci",
        "headers: X-Frame-Options",
        "rate limit: a request each 500ms, 7 at once, of all clients together",
        "access: DIR/access.toml, 4 rules, of which the first that fits decides",
        'rule 1 (emit, user ci): labels team="shop", a="b"; metrics shop_*; types deploy, sale;'
        " 2.5 events a second; 100 series a day",
        "rule 2 (scrape, token 5e884898…, network 192.0.2.0/24, unix): scraper prometheus-a",
        "rule 3 (emit, network 198.51.100.1/32)",
        "rule 4 (look, SAN a.example)",
        "note: DIR/web.yml:9: http_server_config.http2: without effect, the daemon speaks HTTP/1.1",
    ]
    for secret in (HASH[7:], DIGEST[9:]):
        assert not any(secret in line for line in out)


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"web.yml": TLS.replace("server.", "ended.")}, "DIR/ended.pem: the certificate has ended "),
        ({"web.yml": TLS.replace("server.", "soon.")}, "DIR/soon.pem: the certificate ends in 2 days"),
        ({"web.yml": TLS.replace("server.", "unnamed.")}, "DIR/unnamed.pem: the certificate has no subject"),
        (
            {"web.yml": TLS.replace("server.", "open.")},
            "DIR/open.key: every user of this machine may read the",
        ),
        ({"access.toml": RULES.replace('"ci"', '"cj"')}, "rule 1 (emit, user cj) fits nobody: "),
        ({"access.toml": RULES + RULES}, "rule 3 (emit, user ci) never decides: rule 1 "),
        ({"access.toml": RULES}, "UDP takes nothing: no rule of the access file has the role emit"),
        ({"access.toml": RULES[: RULES.rindex("[[")]}, "no rule has the role scrape: no client may scrape"),
        ({"d.toml": BOTH.replace("localhost:", "")}, "HTTP 8090: without TLS, passwords and tokens can be"),
    ],
)
def test_what_has_no_effect_or_will_go_wrong_is_a_note(
    check: Check, tmp_path: Path, files: dict[str, str], note: str
) -> None:
    """The operator would find out by a client that is refused."""
    for name in ("open.pem", "open.key"):
        (tmp_path / name).write_bytes((tmp_path / name.replace("open", "server")).read_bytes())
    given = {"d.toml": BOTH, "web.yml": USERS, "access.toml": RULES, **files}
    status, out, err = check(given)
    assert (status, err) == (0, [])
    (found,) = [line for line in out if note in line]
    assert found.startswith("note: ")
    status, out, err = check(given, "--strict", "--quiet")
    assert (status, out) == (1, []) and found in err
    assert check(given, "--quiet") == (0, [], [])


def test_users_alone_may_do_all(check: Check) -> None:
    """The operator would miss that UDP is shut, and that each user may scrape."""
    status, out, _ = check({"d.toml": BOTH.replace("access", "#"), "web.yml": USERS})
    assert status == 0
    assert "access: no file, so each user may do all" in out
    assert any(line.startswith("note: UDP asks no password") for line in out)


def test_the_service_is_checked_where_it_is_installed(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without options, another configuration would be checked than that of the service."""
    monkeypatch.setattr(daemon_sources, "CONFIG", str(tmp_path / "oneshotd.toml"))
    monkeypatch.setattr(daemon_sources, "DEFAULTS", str(tmp_path / "default"))
    files = {"oneshotd.toml": 'http = ["localhost:1"]', "default": 'ONESHOTD_OPTS="--http localhost:2"'}
    status, out, _ = check(files)
    assert out[:3] == [
        "configuration: DIR/oneshotd.toml",
        "environment: DIR/default",
        "HTTP: port 2 of this machine only, without TLS",
    ]
    assert f"store: {daemon_sources.STATE}/oneshotd.sqlite, events are held for 1h" in out
    assert (status, check(files, "--http", "localhost:3")[1][2]) == (
        0,
        "HTTP: port 3 of this machine only, without TLS",
    )


def test_paths_on_the_command_line_start_at_the_caller(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new access file would be looked for in the folder of the service's data."""
    monkeypatch.setattr(daemon_sources, "CONFIG", str(tmp_path / "oneshotd.toml"))
    monkeypatch.setattr(daemon_sources, "DEFAULTS", str(tmp_path / "default"))
    monkeypatch.setattr(daemon_sources, "STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "web.yml").write_text(USERS)
    files = {"oneshotd.toml": 'web-config = "web.yml"\naccess = "access.toml"\n', "new.toml": RULES}
    status, _, err = check(files)
    assert (status, err) == (1, ["DIR/state/access.toml: No such file or directory"])
    status, out, err = check(files, "--access", "new.toml")
    assert (status, err) == (0, [])
    assert "access: DIR/new.toml, 2 rules, of which the first that fits decides" in out
    status, out, err = check(files, "--access=")
    assert (status, err) == (0, []) and "access: no file, so each user may do all" in out


def test_the_installed_configuration_is_good_without_the_optional_packages() -> None:
    """A fresh installation would fail its own check."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('yaml', 'bcrypt', 'OpenSSL', 'cryptography')))\n"
        "from oneshotd.ctl.command import run; sys.exit(run(sys.argv[1:], {}))"
    )
    command = (sys.executable, "-c", code, "check-config", "--strict", "--config", "debian/oneshotd.toml")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "HTTP: port 8090 of this machine only, without TLS" in done.stdout.splitlines()


def test_the_file_of_checks_is_read(check: Check) -> None:
    """The daemon would not start after a change of it, or the operator would miss a check."""
    files = {"d.toml": 'pings = "DIR/pings.toml"', "pings.toml": ""}
    assert "pings: no check" in check(files)[1]
    uuid = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
    files["pings.toml"] = f'[[check]]\nname = "backup"\nuuid = "{uuid}"\n'
    assert "pings: backup" in check(files)[1]
    files["pings.toml"] += "keep = 5"
    status, out, err = check(files)
    assert (status, out) == (1, [])
    assert err == ["DIR/pings.toml: check 1: keep: expected a time such as 90m, at most 7d, got 5"]
    assert check({"d.toml": ""}, "--pings", "none.toml")[0] == 1


def test_the_file_of_receivers(check: Check) -> None:
    """A wrong URL, or a missing secret, would be found when the daemon is restarted."""
    files = {"d.toml": 'receivers = "DIR/r.toml"', "r.toml": ""}
    assert "receivers: none" in check(files)[1]
    files["r.toml"] = '[[receiver]]\nname = "a"\nurl = "http://localhost:9090/api/v1/write"\ninstance = "i"\n'
    assert "receivers: a (http://localhost:9090/api/v1/write)" in check(files)[1]
    files["r.toml"] += 'token-file = "token"\n'
    status, _, err = check(files)
    assert status == 1
    assert err == ["DIR/r.toml: receiver 1: token-file: DIR/token: No such file or directory"]
