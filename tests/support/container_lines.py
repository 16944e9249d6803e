"""`podman run` and `docker run` lines, read to what a runtime would do.

Only options that `make image-test` carries out are known: a document cannot show one that nothing tries.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from attrs import define, field, frozen


@frozen
class Mount:
    """A volume or a file of the host.

    :param source: a name, or an absolute path.
    """

    source: str
    target: str
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Parse ``SOURCE:TARGET[:OPTIONS]``.

        :raises ValueError: it is another form, or an option is not known.
        """
        source, target, *rest = text.split(":")
        options = set(",".join(rest).split(",")) - {""}
        # z, Z: labels of SELinux. U: the volume becomes the user's.
        if unknown := options - {"ro", "rw", "z", "Z", "U"}:
            raise ValueError(f"unknown options of a volume: {unknown}")
        if not target.startswith("/"):
            raise ValueError(f"expected SOURCE:/TARGET, got {text!r}")
        return cls(source, target, "ro" in options)


@define
class Run:
    """What a line asks for.

    :ivar arguments: what comes after the image's name: the daemon's options.
    """

    program: str
    image: str = ""
    arguments: list[str] = field(factory=list)
    name: str | None = None
    user: str | None = None
    restart: str | None = None
    read_only: bool = False
    detach: bool = False
    remove: bool = False
    drops_capabilities: bool = False
    no_new_privileges: bool = False
    stop_timeout: int = 10
    publish: list[tuple[int, int, str]] = field(factory=list)
    mounts: list[Mount] = field(factory=list)
    environment: dict[str, str] = field(factory=dict)
    health: dict[str, str] = field(factory=dict)
    network: str | None = None


_SWITCHES = {"--read-only": "read_only", "--detach": "detach", "-d": "detach", "--rm": "remove"}
_TEXTS = {"--name": "name", "--user": "user", "--restart": "restart", "--network": "network"}
_HEALTH = ("cmd", "interval", "timeout", "retries", "start-period")
_PORT = re.compile(r"(?:(?:[0-9.]+|\[[0-9a-f:]+\]):)?(\d+):(\d+)(?:/(tcp|udp))?")


def commands(text: str) -> list[list[str]]:
    """Return the words of each command of a shell block, comments left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words for words in found if words]


def parse_run(words: Sequence[str]) -> Run:
    """Read the words of one ``podman run`` or ``docker run``.

    :raises ValueError: an option is not known, or a value is not as expected.
    """
    program, verb, *rest = words
    if program not in ("podman", "docker") or verb != "run":
        raise ValueError(f"expected podman run or docker run, got {program} {verb}")
    found = Run(program)
    left = list(rest)
    while left and left[0].startswith("-"):
        option, equals, value = left.pop(0).partition("=")
        if option in _SWITCHES and not equals:
            setattr(found, _SWITCHES[option], True)
            continue
        _set(found, option, value if equals else left.pop(0))
    if not left:
        raise ValueError("there is no image")
    found.image, found.arguments = left[0], left[1:]
    return found


def _set(found: Run, option: str, value: str) -> None:
    if option in _TEXTS:
        setattr(found, _TEXTS[option], value)
    elif option in ("--publish", "-p"):
        port = _PORT.fullmatch(value)
        if port is None:
            raise ValueError(f"expected HOST:CONTAINER[/udp], got {value!r}")
        found.publish.append((int(port[1]), int(port[2]), port[3] or "tcp"))
    elif option in ("--volume", "-v"):
        found.mounts.append(Mount.parse(value))
    elif option in ("--env", "-e"):
        name, equals, text = value.partition("=")
        if not equals:
            raise ValueError(f"expected NAME=TEXT, got {value!r}")
        found.environment[name] = text
    elif option == "--stop-timeout":
        found.stop_timeout = int(value)
    elif (option, value.lower()) == ("--cap-drop", "all"):
        found.drops_capabilities = True
    elif (option, value) == ("--security-opt", "no-new-privileges"):
        found.no_new_privileges = True
    elif option.startswith("--health-") and option.removeprefix("--health-") in _HEALTH:
        found.health[option.removeprefix("--health-")] = value
    else:
        raise ValueError(f"unknown option {option} {value}")
