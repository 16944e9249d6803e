"""docs/security.md and docs/hardening.md say what the code does, and their files are what it reads."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.lock_files import DIGEST, HASH
from support.security_pages import (
    CLIENT,
    HARDENING,
    REPOSITORY,
    SECURITY,
    TARGET,
    Asked,
    asked,
    block,
    heredoc,
)

from oneshotd.access.access_file import read_access_file
from oneshotd.access.findings import udp_takes, unknown_users, unreachable
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.access.web_config import read_web_config
from oneshotd.core.networks import Networks
from oneshotd.daemon.config import Config
from oneshotd.daemon.config_sources import configure
from oneshotd.web.routes.guard import OPEN, ROLES

PAGE = SECURITY.read_text(encoding="utf-8")

#: Route -> how the row of its door begins.
DOORS: Mapping[str, str] = {
    "event": "send",
    "events": "send",
    "hook": "send",
    "hook_handshake": "send",
    "try_hook": "try",
    "annotate": "send",
    "annotate_graphite": "send",
    "graphite_events": "send",
    "annotation_by_number": "send",
    "annotations": "look",
    "ping": "ping",
    "telemetry": "ping",
    "metrics": "scrape",
    "daemon_metrics": "look",
    "front": "look",
    "live": "look",
    "asset": "look",
    "held_events": "look",
    "known_scrapers": "look",
    "backup": "back up: `POST",
    "healthz": "`GET /healthz`",
    "readyz": "`GET /healthz`",
}

ADDRESS, OTHER = "192.0.2.7", "198.51.100.1"


def door(start: str) -> dict[str, str]:
    """Return a row of the table of doors: lock -> who may."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    (head,) = [cells for cells in lines if cells[0] == "door"]
    (row,) = [cells for cells in lines if cells[0].startswith(start)]
    return dict(zip(head, row, strict=True))


@pytest.mark.parametrize("route", ROLES)
def test_each_route_has_a_door_with_its_roles(route: str) -> None:
    """A route would be open to others than the threat model says."""
    row = door(DOORS[route])
    named = set(re.findall(r"`(emit|scrape|look|admin)`", row["access file"]))
    if ROLES[route] == OPEN:
        assert set(row.values()) - {row["door"]} == {"every client"}
    elif route == "metrics":  # look takes nothing
        assert named == {Role.SCRAPE.value}
    else:
        assert named == {role.value for role in ROLES[route] if role is not None}


@pytest.mark.parametrize(
    ("start", "role", "every", "option"),
    [
        ("send", Role.EMIT, "every client", "allow-emit"),
        ("scrape", Role.SCRAPE, "every client", "allow-scrape"),
        ("look", Role.LOOK, "every client", "allow-scrape"),
        ("UDP", Role.EMIT, "every sender", "allow-emit"),
    ],
)
def test_the_table_says_what_the_policy_decides(start: str, role: Role, every: str, option: str) -> None:
    """Somebody would rely on a lock that does not close this door."""
    row, stranger = door(start), Client(address=ADDRESS)
    assert row["no lock"].startswith(every) and row["TLS alone"].startswith(every)
    assert AccessPolicy().rule(role, stranger) is not None
    networks = Networks.parse([OTHER])
    assert f"addresses in `{option}`" in row["networks"]
    assert AccessPolicy(emit=networks, scrape=networks).rule(role, stranger) is None
    policy = AccessPolicy()
    policy.update(rules=None, has_users=True)
    user = Client(address=ADDRESS, user="ann")
    if start == "UDP":
        assert f"addresses in `{option}`" in row["users, no access file"] and policy.takes_datagrams
    else:
        assert row["users, no access file"].startswith("each user")
        assert policy.rule(role, stranger) is None and policy.rule(role, user) is not None
    policy.update(rules=[Rule(number=1, role=role, user="bob")], has_users=True)
    assert policy.rule(role, user) is None, "a user in no rule may do nothing"


# The configuration to copy


@pytest.fixture
def rules(tmp_path: Path) -> list[Rule]:
    """The rules of the access file that the page makes, with one digest for all tokens."""
    text = re.sub(r"\$\(token [\w-]+\)", f'"{DIGEST}"', heredoc(block(HARDENING, "files"), "access.toml"))
    file = tmp_path / "access.toml"
    file.write_text(text)
    return list(read_access_file(file))


def test_the_page_s_files_are_read_and_leave_nothing_out(tmp_path: Path, rules: list[Rule]) -> None:
    """The daemon would not start with them, or a rule would fit nobody."""
    pytest.importorskip("yaml")
    file = tmp_path / "web.yml"
    file.write_text(re.sub(r"\$\(password \w+\)", HASH, heredoc(block(HARDENING, "files"), "web.yml")))
    web = read_web_config(file)
    assert web.tls is not None and web.tls.client_auth.verifies and web.notes == ()
    assert unknown_users(rules, web.users) == [] and unreachable(rules) == []
    assert {rule.user for rule in rules if rule.user} == set(web.users)
    assert udp_takes(rules, has_users=True) is not None


def test_the_page_s_configuration_is_taken_and_has_all_locks(tmp_path: Path) -> None:
    """The daemon would not start with it, or be open to all."""
    file = tmp_path / "oneshotd.toml"
    file.write_text(block(HARDENING, "daemon"))
    config: Config = configure({}, {}, str(file))
    assert config.udp == ()
    for lock in (config.web_config, config.access, config.allow_emit, config.allow_scrape):
        assert lock


@pytest.mark.parametrize("one", asked(), ids=lambda one: f"{one.program} {one.scraper}")
def test_each_scraper_has_files_that_the_page_makes_and_a_rule(one: Asked, rules: list[Rule]) -> None:
    """A configuration would name a file that nobody has made, or a name that belongs to another."""
    commands = block(HARDENING, "keys") + block(HARDENING, "files")
    (loop,) = re.findall(r"^for name in (.*); do$", commands, re.MULTILINE)
    made = {f"{name}.token" for name in [*re.findall(r"\$\(token ([\w-]+)\)", commands), *loop.split()]}
    made |= {f"{name}.password" for name in re.findall(r"\$\(password ([\w-]+)\)", commands)}
    for name in re.findall(r"^certificate ([\w-]+) ", commands, re.MULTILINE):
        made |= {f"{name}.pem", f"{name}.key"}
    for path in one.files.values():
        folder, _, name = path.rpartition("/")
        assert folder == CLIENT and name in made | {"ca.pem"}
    assert one.target == f"https://{TARGET}"
    bound = [rule for rule in rules if rule.binds(one.scraper)]
    if one.scraper in loop.split():
        assert bound == [] and one.files["token"] == f"{CLIENT}/{one.scraper}.token"
    else:
        (rule,) = bound
        assert rule.scraper == one.scraper and rule.user == one.user
        assert (rule.san is not None) == ("cert" in one.files)
        assert (rule.token_sha256 is not None) == ("token" in one.files)


def test_all_scrapers_of_the_other_page_are_here() -> None:
    """Who has one of them would not find how it sends a credential."""
    assert {one.program for one in asked()} == {
        *("prometheus", "victoriametrics", "otel", "alloy", "telegraf", "datadog")
    }
    assert len({one.scraper for one in asked()}) == len(asked()) == 7


def test_the_installed_configuration_leads_to_the_pages() -> None:
    """After `apt install` nobody would find how to lock the daemon before it is opened to others."""
    text = (REPOSITORY / "debian" / "oneshotd.toml").read_text(encoding="utf-8")
    first = text.partition("# ---- Everything else")[0]
    assert tomllib.loads(text)["http"] == ["localhost:8090"]
    named = re.findall(r"zless /usr/share/doc/oneshotd/(\S+)\.gz", first)
    assert named == [SECURITY.name, HARDENING.name]
    # dh_compress(1) compresses what has more than 4 KiB.
    assert all((REPOSITORY / "docs" / name).stat().st_size > 4096 for name in named)
