"""The files of the Debian package and the examples of docs/install.md fit this daemon."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from oneshotd import __version__
from oneshotd.daemon.config import OPTIONS, Config
from oneshotd.daemon.config_sources import configure
from oneshotd.daemon.option_values import UdpAddress

ROOT = Path(__file__).resolve().parents[1]
CONFFILE = ROOT / "debian" / "oneshotd.toml"
UNIT = ROOT / "etc" / "systemd" / "oneshotd.service"
DROP_INS = ROOT / "etc" / "systemd" / "oneshotd.service.d"
INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")

_SETTING = re.compile(r"(?m)^#(?=[a-z-]+ = )")


def blocks(language: str) -> list[str]:
    """The page's fenced blocks in this language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", INSTALL)


def configured(folder: Path, text: str) -> Config:
    (folder / "oneshotd.toml").write_text(text, encoding="utf-8")
    return configure({}, {}, str(folder / "oneshotd.toml"))


def settings(text: str) -> list[str]:
    """The lines of a unit that are neither comment nor empty."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_package_s_version_is_the_program_s() -> None:
    """apt would show a version that the daemon does not have."""
    changelog = (ROOT / "debian" / "changelog").read_text(encoding="utf-8")
    assert changelog.startswith(f"oneshotd ({__version__}-")


def test_the_package_depends_on_what_the_program_needs() -> None:
    """The package would be installed beside a Twisted that is too old."""
    control = (ROOT / "debian" / "control").read_text(encoding="utf-8")
    (needed,) = re.findall(r"install_requires=\[(.*)\]", (ROOT / "setup.py").read_text(encoding="utf-8"))
    names = {"attrs": "attr", "prometheus_client": "prometheus-client"}
    for name, least in re.findall(r'"(\w+)>=([\d.]+)"', needed):
        assert control.count(f" python3-{names.get(name, name)} (>= {least}),\n") == 2, name


def test_the_installed_configuration_serves_this_machine_alone(tmp_path: Path) -> None:
    """After `apt install` every host of the network could send events and scrape."""
    config = configured(tmp_path, CONFFILE.read_text(encoding="utf-8"))
    assert config.http == ("localhost:8090",)
    assert config.udp == (UdpAddress(host="localhost", port=8090),)
    loopback = Config(http=config.http, udp=config.udp)
    assert config == loopback


def test_the_installed_configuration_shows_the_other_options_with_their_defaults(tmp_path: Path) -> None:
    """Uncommenting a line would change the behaviour, or an option would be missing."""
    text = CONFFILE.read_text(encoding="utf-8")
    choice, rest = text.split("# ---- Everything else")
    assert configured(tmp_path, _SETTING.sub("", "#" + rest)) == Config()
    known = {*tomllib.loads(choice), *tomllib.loads(_SETTING.sub("", "#" + rest))}
    assert known | {"allow-emit", "allow-scrape", "web-config", "access", "hooks", "store"} == set(OPTIONS)


def test_the_choice_in_the_installed_configuration_works(tmp_path: Path) -> None:
    """The daemon would not start with the lines of the comment, or admit all clients."""
    choice = CONFFILE.read_text(encoding="utf-8").partition("# ---- Everything else")[0]
    swapped = re.sub(r"(?m)^(#?)(?=[a-z-]+ = )", lambda found: "" if found[1] else "#", choice)
    config = configured(tmp_path, swapped)
    assert (config.http, config.udp) == (("8090",), (UdpAddress(host=None, port=8090),))
    assert "192.0.2.77" in config.allow_emit and "198.51.100.1" not in config.allow_emit
    assert "192.0.2.7" in config.allow_scrape and "192.0.2.77" not in config.allow_scrape
    assert "::1" in config.allow_emit and "::1" in config.allow_scrape
    assert (config.web_config, config.access) == ("/etc/oneshotd/web.yml", "/etc/oneshotd/access.toml")
    assert config.hooks == "/etc/oneshotd/hooks"
    assert (ROOT / "debian" / "oneshotd.dirs").read_text(encoding="utf-8") == "etc/oneshotd/hooks\n"


@pytest.mark.parametrize("text", blocks("toml"))
def test_the_page_s_configurations_are_taken(tmp_path: Path, text: str) -> None:
    configured(tmp_path, text)


def test_the_page_s_unit_is_the_package_s_but_for_the_place() -> None:
    """The unit of the page would differ from that of the package."""
    (unit,) = [text for text in blocks("systemd") if "[Install]" in text and "[Service]" in text]
    theirs, ours = settings(unit), settings(UNIT.read_text(encoding="utf-8"))
    (start,) = set(theirs) - set(ours)
    twistd = "ExecStart=/opt/oneshotd/bin/twistd --nodaemon --pidfile="
    assert start == f"{twistd} oneshot --config /etc/oneshotd/oneshotd.toml"
    assert [line for line in ours if line in theirs] == [line for line in theirs if line != start]


@pytest.mark.parametrize("name", ["harden.conf", "port.conf"])
def test_the_page_shows_the_drop_ins_that_are_installed(name: str) -> None:
    lines = "\n".join(settings((DROP_INS / name).read_text(encoding="utf-8"))) + "\n"
    assert lines in blocks("systemd")
