"""The container blocks of docs/install.md, and the files in etc/containers.

What the lines do is tried by `make image-test`, which runs them.
"""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from support.container_lines import Mount, Run, commands, parse_run

from oneshotd import __version__
from oneshotd.daemon.config import Config
from oneshotd.daemon.config_sources import configure
from oneshotd.daemon.tap import Options

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "etc" / "containers"
INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
CHAPTER = INSTALL.partition("\n## Containers\n")[2].partition("\n## ")[0]

IMAGE = f"localhost/oneshotd:{__version__}"
ARCHIVE = f"dist/oneshotd-{__version__}.oci.tar"

#: Keys of a service in the compose specification that the page may use, and the type of each.
SERVICE = {
    "image": str,
    "restart": str,
    "read_only": bool,
    "user": str,
    "cap_drop": list,
    "security_opt": list,
    "stop_grace_period": str,
    "ports": list,
    "volumes": list,
    "command": list,
    "healthcheck": dict,
}
#: Keys of podman-systemd.unit(5) that the unit may use; podman's generator reads it in `make image-test`.
CONTAINER = {
    *("Image", "ContainerName", "User", "Group", "ReadOnly", "DropCapability", "NoNewPrivileges"),
    *("PublishPort", "Volume", "Exec", "HealthCmd", "HealthInterval", "HealthTimeout", "HealthStartPeriod"),
    "PodmanArgs",
}


def blocks(language: str) -> list[str]:
    """Return the chapter's fenced blocks in this language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", CHAPTER)


def run_lines() -> list[Run]:
    lines = [words for block in blocks("sh") for words in commands(block)]
    return [parse_run(words) for words in lines if words[1] == "run"]


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def test_the_lines_run_the_image_as_its_user_without_rights() -> None:
    """A user would run it with more rights than it needs, or lose the events with the container."""
    plain, whole = run_lines()
    for line in (plain, whole):
        assert (line.image, line.user, line.restart) == (IMAGE, "65532:65532", "unless-stopped")
        assert line.read_only and line.drops_capabilities and line.no_new_privileges and line.detach
        assert line.publish == [(8090, 8090, "tcp"), (8090, 8090, "udp")]
        assert Mount("oneshotd", "/data") in line.mounts
        assert line.stop_timeout == 60
    config = Mount("/etc/oneshotd/oneshotd.toml", "/etc/oneshotd/oneshotd.toml", True)
    assert config in whole.mounts
    assert (plain.arguments, plain.health) == ([], {})


@pytest.mark.parametrize("line", run_lines(), ids=lambda line: " ".join(line.arguments) or "plain")
def test_the_words_after_the_image_are_options_of_the_daemon(line: Run) -> None:
    """The container would end with an error."""
    options = Options()
    options.parseOptions(line.arguments)
    assert (options.config == Config()) == (line.arguments == [])


def test_the_other_lines_name_the_archive_that_is_built() -> None:
    """A line would load a file that is not there."""
    others = [words for block in blocks("sh") for words in commands(block) if words[1] != "run"]
    load = ["load", "--input", ARCHIVE]
    assert others == [
        ["podman", *load],
        ["docker", *load],
        ["skopeo", "copy", f"oci-archive:{ARCHIVE}", f"docker://registry.example.net/oneshotd:{__version__}"],
    ]


def test_the_compose_file_says_what_the_line_says() -> None:
    """Another way to start it would have other rights, ports or places."""
    (block,) = blocks("yaml")
    assert block == (FILES / "compose.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(block)
    assert set(document) == {"services", "volumes"}
    service = document["services"]["oneshotd"]
    for key, value in service.items():
        assert isinstance(value, SERVICE[key]), key
    assert set(document["volumes"]) == {"oneshotd"}
    line = Run("podman", service["image"], service["command"], name="oneshotd", detach=True)
    line.user, line.restart, line.read_only = service["user"], service["restart"], service["read_only"]
    line.drops_capabilities = service["cap_drop"] == ["ALL"]
    line.no_new_privileges = service["security_opt"] == ["no-new-privileges:true"]
    line.stop_timeout = seconds(service["stop_grace_period"])
    for port in service["ports"]:
        outer, inner, kind = re.fullmatch(r"(\d+):(\d+)(?:/(udp))?", port).groups()  # type: ignore[union-attr]
        line.publish.append((int(outer), int(inner), kind or "tcp"))
    line.mounts = [Mount.parse(text) for text in service["volumes"]]
    check = service["healthcheck"]
    # Without a shell in the image, CMD-SHELL would always fail.
    assert check["test"][0] == "CMD"
    line.health = {
        "cmd": "[" + ", ".join(f'"{word}"' for word in check["test"][1:]) + "]",
        **{key.replace("_", "-"): check[key] for key in ("interval", "timeout", "start_period")},
    }
    _, whole = run_lines()
    own = Mount("./oneshotd.toml", "/etc/oneshotd/oneshotd.toml", True)
    mounts = [own if mount.read_only else mount for mount in whole.mounts]
    assert line == attrs.evolve(whole, mounts=mounts)


def test_the_unit_has_keys_that_podman_knows() -> None:
    """systemd would have no such service, and a line of the journal that nobody reads would say why."""
    (block,) = blocks("ini")
    text = (FILES / "oneshotd.container").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if not row.startswith("#")]
    assert block.splitlines() == "\n".join(rows).strip().splitlines()
    assert set(re.findall(r"(?m)^\[(.+)\]$", block)) == {"Unit", "Container", "Service", "Install"}
    section = block.partition("[Container]\n")[2].partition("\n[")[0]
    assert set(re.findall(r"(?m)^(\w+)=", section)) == CONTAINER
    parser = ConfigParser(strict=False, interpolation=None)
    parser.read_string(block)
    assert parser["Container"]["Image"] == IMAGE
    # Longer than podman waits, or systemd would kill it first.
    assert int(parser["Service"]["TimeoutStopSec"]) > int(parser["Container"]["PodmanArgs"].partition("=")[2])


def test_the_configuration_in_the_image_sets_nothing(tmp_path: Path) -> None:
    """A container would listen where no port is published, or a line of the file would not be taken."""
    text = (FILES / "oneshotd.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {}
    (tmp_path / "oneshotd.toml").write_text(re.sub(r"(?m)^#(?=[a-z-]+ = )", "", text))
    config = configure({}, {}, str(tmp_path / "oneshotd.toml"))
    assert (config.web_config, config.access) == ("/etc/oneshotd/web.yml", "/etc/oneshotd/access.toml")


@pytest.mark.parametrize(
    "words",
    ["podman run --privileged x", "podman ps x", "podman run -p 80 x", "podman run -v a:b x", "podman run"],
)
def test_an_option_that_no_test_tries_is_refused(words: str) -> None:
    """A document could show an option that does not work."""
    with pytest.raises(ValueError, match=r"expected|unknown|there is no|unpack"):
        parse_run(words.split())
