"""The daemon as a process with the files of --web-config and --access: refused, lost, and replaced ones."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import subprocess
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.certificates import Authority, Pair
from support.daemon import TWISTD, Daemon, browser, environment
from support.locked_daemon import Locked, basic, replace, serial_of, token
from support.processes import until

pytestmark = pytest.mark.e2e

#: Makes Python find none of the packages of the extra `auth`.
WITHOUT_PACKAGES = """\
import sys
for name in ("bcrypt", "OpenSSL", "yaml"):
    sys.modules[name] = None
"""

_DAC = "-dac_override,-dac_read_search"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that has not the packages of the extra `auth`."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT_PACKAGES)
    path = environment().get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), path]))}


def failed_start(folder: Path, *words: str, variables: dict[str, str] | None = None) -> str:
    """Return what `twistd -n oneshot` says before it ends with status 1."""
    command = [*TWISTD, "oneshot", "--http=localhost:0", "--udp=localhost:0", *words]
    env = {**environment(), **(variables or {})}
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1 and "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if "cannot start" in line]
    assert not list(folder.glob("*.sqlite")), "the store was touched"
    return line


def test_without_the_packages_the_daemon_works_and_the_option_says_what_to_install(
    tmp_path: Path, bare: dict[str, str]
) -> None:
    """An installation without locks would need three more packages; or the error would be a traceback."""
    (tmp_path / "web.yml").write_text("http_server_config: {}\n")
    said = failed_start(tmp_path, "--web-config=web.yml", variables=bare)
    assert "oneshotd[auth]" in said and "python3-yaml" in said
    with Daemon(tmp_path / "daemon", variables=bare) as daemon:
        assert daemon.get("/readyz") == "ok\n"
        assert daemon.errors() == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("web.yml", "basic_auth_users:\n  ann: secret\n", "web.yml:2: basic_auth_users"),
        ("web.yml", "\n\ntls_config: {}\n", "web.yml:3: tls_config"),
        ("access.toml", '[[allow]]\nrole = "read"\nnetwork = "::/0"\n', "access.toml: allow 1: role"),
    ],
)
def test_a_bad_file_is_named_with_line_and_key(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """The daemon would start without the lock, or its owner would have to search for the fault."""
    (tmp_path / name).write_text(text)
    option = "--web-config" if name == "web.yml" else "--access"
    said = failed_start(tmp_path, f"{option}={name}")
    assert reason in said and "secret" not in said


@contextmanager
def connected(locked: Locked) -> Iterator[http.client.HTTPSConnection]:
    """A connection that stays open."""
    context = ssl.create_default_context(cafile=str(locked.authority.cert))
    line = http.client.HTTPSConnection("localhost", locked.daemon.port, timeout=10, context=context)
    try:
        line.connect()
        sock = line.sock
        yield line
        assert line.sock is sock, "it was another connection"
    finally:
        line.close()


def ask(line: http.client.HTTPSConnection, method: str, path: str, credential: str) -> int:
    line.request(method, path, headers={"Authorization": credential})
    with line.getresponse() as answer:
        answer.read()
        return answer.status


def test_who_is_removed_is_refused_on_open_connections_too(tmp_path: Path) -> None:
    """A revoked token, or a changed password, would work until the client disconnects."""
    locked = Locked(tmp_path)
    ann, emitter = basic("ann", locked.passwords["ann"]), f"Bearer {token('emitter')}"
    log = locked.daemon.process
    with locked.daemon, connected(locked) as line:
        assert ask(line, "GET", "/metrics?scraper=x/basic", ann) == 200
        for _ in range(3):  # the fast path remembers the headers
            assert ask(line, "POST", "/event?type=test", emitter) == 200
        locked.passwords["ann"] = "another password"
        locked.write_web()
        locked.renew()
        log.await_text("ann with another password")
        assert ask(line, "GET", "/metrics?scraper=x/basic", ann) == 401
        assert ask(line, "POST", "/event?type=test", emitter) == 200
        rules = locked.access.read_text()
        replace(locked.access, rules[rules.index("[[allow]]", 1) :])
        log.await_text("rules: 0 added, 1 removed")
        assert ask(line, "POST", "/event?type=test", emitter) in (401, 403)
        assert "Traceback" not in log.log_text()


def test_a_key_that_cannot_be_read_any_more_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    """The daemon would stop, or serve nobody, when a renewal writes the key for root alone."""
    locked = Locked(tmp_path)
    daemon, key = locked.daemon, tmp_path / "server.key"
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root reads every file, and there is no setpriv")
        drop = ("setpriv", f"--bounding-set={_DAC}", f"--inh-caps={_DAC}")
        daemon.process.command = (*drop, *daemon.process.command)
    with daemon:
        served = locked.serial
        locked.renew()
        if os.geteuid() == 0:
            os.chown(key, 65534, 65534)
        key.chmod(0 if os.geteuid() else 0o600)
        locked.hang_up()
        daemon.process.await_text("stays in force")
        assert "server.key" in daemon.process.log_text() and "Permission denied" in daemon.process.log_text()
        assert "warning: " in daemon.get("/readyz")
        assert locked.serves() == served
        key.chmod(0o644)
        daemon.process.await_text("valid until")
        assert locked.serves() == locked.serial
        assert daemon.get("/readyz") == "ok\n"


def test_a_person_without_a_credential_learns_nothing_and_probes_work(tmp_path: Path) -> None:
    """A stranger would read events, rules or paths; or a load balancer would need a password."""
    locked = Locked(tmp_path)
    stranger = ssl.create_default_context(cafile=str(locked.authority.cert))
    with locked.daemon:
        for path in ("/", "/metrics", "/live", "/api/v1/events", "/api/v1/scrapers", "/nowhere"):
            line = http.client.HTTPSConnection("localhost", locked.daemon.port, timeout=10, context=stranger)
            line.request("GET", path)
            with line.getresponse() as answer:
                assert answer.status == 401, path
                assert answer.headers["WWW-Authenticate"]
            line.close()
        assert locked.daemon.get("/healthz") == "ok\n"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            locked.emitter.open(f"{locked.daemon.url}/metrics", timeout=10)


def scrape_with(locked: Locked, pair: Pair) -> int | None:
    """Return the answer to a scrape on a new connection with this certificate; None: no connection."""
    try:
        with browser(locked.authority.cert, pair=pair).open(
            f"{locked.daemon.url}/metrics?scraper=x/certificate", timeout=10
        ) as answer:
            return int(answer.status)
    except OSError:
        return None


def has_taken(locked: Locked, before: str) -> bool:
    """Return whether the daemon has logged, since this text, that other authorities are in force."""
    return "ca.pem, the certificate" in locked.daemon.process.log_text().removeprefix(before)


def test_the_authority_of_clients_is_replaced_without_a_gap(tmp_path: Path) -> None:
    """Scrapers with new certificates would be refused until a restart, or old ones accepted for ever."""
    locked = Locked(tmp_path)
    second = Authority(tmp_path / "second", "second authority")
    newer, log = second.issue("client", sans=("scraper.example",)), locked.daemon.process
    with locked.daemon:
        answers = [(scrape_with(locked, locked.client), scrape_with(locked, newer))]
        both = locked.authority.cert.read_bytes() + second.cert.read_bytes()
        for authorities in (both, second.cert.read_bytes()):
            before = log.log_text()
            replace(tmp_path / "ca.pem", authorities)
            until(partial(has_taken, locked, before), 15, "new authorities")
            answers.append((scrape_with(locked, locked.client), scrape_with(locked, newer)))
        assert answers == [(200, None), (200, 200), (None, 200)]
        assert "TLS handshake: " in log.log_text()


def test_files_in_a_folder_that_is_swapped_as_a_whole_are_read_again(tmp_path: Path) -> None:
    """Kubernetes replaces a secret by one symbolic link, which is not the one to the file itself."""
    locked = Locked(tmp_path)
    names = ("web.yml", "server.pem", "server.key", "ca.pem")

    def mount(version: str) -> None:
        (tmp_path / version).mkdir()
        for name in names:
            shutil.copy((tmp_path / name).resolve(), tmp_path / version / name)
        (tmp_path / "next").symlink_to(version)

    mount("..first")
    (tmp_path / "next").rename(tmp_path / "..data")
    for name in names:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(f"..data/{name}")
    with locked.daemon:
        assert locked.serves() == locked.serial
        mount("..second")
        made = locked.authority.issue("renewed")
        shutil.copy(made.cert, tmp_path / "..second" / "server.pem")
        shutil.copy(made.key, tmp_path / "..second" / "server.key")
        (tmp_path / "next").rename(tmp_path / "..data")
        until(lambda: locked.serves() == serial_of(made), 15, "the certificate of the new secret")
        assert "stays in force" not in locked.daemon.process.log_text()
