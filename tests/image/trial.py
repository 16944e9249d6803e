"""The image in a container runtime: contents, start, events over kills, stop, errors; see `trial`.

crun runs the containers, each with process 1 in a namespace of its own and the loopback of the trial. What it
is asked for are the lines of docs/install.md.
"""

from __future__ import annotations

import re
import shlex
import signal
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from deb import client
from deb.build import REPOSITORY, Unfit
from deb.inside import Tree
from deb.tree import Unable
from support.container_lines import Mount, Run, commands, parse_run

from image import archive, bom, documents, under_podman
from image.build import MOST_BYTES, NAME
from image.container import Container, Image, volume
from oneshotd import __version__

LAYOUT = "/srv/image"
INSTALL = REPOSITORY / "docs/install.md"

#: Seconds for the end after SIGTERM, with nothing in flight.
PROMPT = 5.0

#: Run in the container: every module, which finds libraries that were left out by mistake.
IMPORTS = """\
import importlib, pkgutil, sys
import oneshotd
names = [found.name for found in pkgutil.walk_packages(oneshotd.__path__, "oneshotd.")]
for name in names:
    importlib.import_module(name)
import bcrypt, yaml, OpenSSL, service_identity, psycopg
assert psycopg.pq.version() > 0
import ssl
assert ssl.create_default_context().cert_store_stats() or ssl.get_default_verify_paths().capath
print(len(names), "modules, psycopg over libpq", psycopg.pq.version())
"""


def packed(results: Path) -> Path:
    """Return where `make image` has put the archive."""
    return results / f"oneshotd-{__version__}.oci.tar"


def check_built(results: Path) -> None:
    """:raises Unable: there is no archive."""
    if not packed(results).exists():
        raise Unable(f"there is no {packed(results)}; `make image` builds it")


def page_line(*, arguments: bool) -> list[str]:
    """Return the words of the page's line that runs the image, without or with options of the daemon."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", INSTALL.read_text(encoding="utf-8"))
    lines = [words for block in blocks for words in commands(block) if words[:2] == ["podman", "run"]]
    return next(words for words in lines if bool(parse_run(words).arguments) is arguments)


def documented(*, arguments: bool) -> Run:
    """Return what that line asks for."""
    return parse_run(page_line(arguments=arguments))


class Trial:
    """The image in a tree that was entered."""

    def __init__(self, root: Path, results: Path) -> None:
        self.tree = Tree(root)
        self.results = results
        archive.unpack(packed(results), self.tree.path(LAYOUT))
        self.image = Image(self.tree, LAYOUT, __version__)

    def check(self, fact: object, what: str, log: str = "") -> None:
        """:raises Unfit: it is not so; with a log."""
        if not fact:
            raise Unfit(f"{what}\n{log[-3000:]}")


def trial(root: Path, results: Path) -> None:
    """All of it, in order.

    :raises Unfit: something is not as a user would expect.
    :raises deb.inside.Failed: a command has failed.
    """
    run = Trial(root, results)
    tell("what is in it", contents, run)
    tell("as the page runs it", work, run)
    tell("with a configuration, options and another user", configured, run)
    tell("SIGTERM", stops, run)
    tell("errors", errors, run)
    tell("TLS and a client's certificate", documents.tls, run.image)
    tell("podman", under_podman.trial, run.tree, packed(results), page_line(arguments=True))
    tell("quadlet", documents.quadlet, run.tree, documented(arguments=True))


def tell(what: str, step: Callable[..., str], *arguments: object) -> None:
    """Take the step and say that it went well."""
    print(f"image: {what}: {step(*arguments)}")


def contents(run: Trial) -> str:
    """No shell, no program with rights of another user, one place that can be written, and the records."""
    root = run.image.root
    programs = sorted(path.name for name in ("bin", "sbin") for path in (root / "usr" / name).iterdir())
    versions = [re.sub(r"3\.\d+$", "3.x", name) for name in programs]
    wanted = ["ldconfig", "oneshot-emit", "oneshotctl", "python3", "python3.x", "twistd3"]
    run.check(versions == wanted, f"the programs are {programs}")
    writable, size = [], 0
    for path in root.rglob("*"):
        found = path.lstat()
        name = str(path.relative_to(root))
        if stat.S_ISLNK(found.st_mode):
            # An absolute link is one of the image, not of this machine.
            target = path.parent / Path(path.readlink())
            inside = root / str(path.readlink()).lstrip("/") if path.readlink().is_absolute() else target
            run.check(inside.exists() or inside.is_symlink(), f"{name} leads nowhere: {path.readlink()}")
            continue
        run.check(stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode), f"{name} is a special file")
        run.check(not found.st_mode & (stat.S_ISUID | stat.S_ISGID), f"{name} has rights of its owner")
        size += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if found.st_mode & stat.S_IWOTH or found.st_uid:
            writable.append(name)
    run.check(sorted(writable) == ["data", "tmp", "var/tmp"], f"others can write to {sorted(writable)}")
    run.check(size <= MOST_BYTES, f"{size} bytes, expected at most {MOST_BYTES}")
    for name in ("etc/passwd", "etc/shadow", "etc/machine-id", "var/log", "var/cache"):
        run.check(not (root / name).exists(), f"there is a {name}")
    written = (run.results / f"oneshotd-{__version__}.spdx.json").read_bytes()
    run.check((root / bom.PATH).read_bytes() == written, "the bill of materials is another than in dist/")
    records = sorted(
        path.name for path in (root / "var/lib/dpkg/status.d").iterdir() if path.suffix != ".md5sums"
    )
    listed = sorted(re.findall(r'(?m)^   "name": "(.+)",$', written.decode()))
    run.check(records == listed, "the bill of materials lists other packages than dpkg's records")
    process = run.image.settings["process"]
    run.check(run.image.entry_point == list(archive.ENTRY_POINT), f"entry point {run.image.entry_point}")
    run.check((process["user"]["uid"], process["user"]["gid"]) == (65532, 65532), "the user is another")
    run.check(process["cwd"] == "/data", f"it starts in {process['cwd']}")
    return f"{size / 1e6:.1f} MB, {len(records)} packages, no shell; /data, /tmp for others to write"


def work(run: Trial) -> str:
    """Events from three doors, a kill with events pending, another start on the same volume."""
    line = documented(arguments=False)
    run.check(line.image == NAME, f"the page runs {line.image}, expected {NAME}")
    run.check(line.read_only and line.drops_capabilities and line.no_new_privileges, "the page's line is lax")
    places = {
        mount.source: volume(run.tree, mount.source, line.user or "65532:65532") for mount in line.mounts
    }
    container = Container(run.image, line, places)
    try:
        container.start()
        container.ready()
        status, said = container.execute("python3", "-c", "print(open('/proc/1/cmdline').read())")
        run.check(said.split("\0")[: len(archive.ENTRY_POINT)] == list(archive.ENTRY_POINT), f"1 is {said!r}")
        status, said = container.execute("python3", "-c", IMPORTS)
        run.check(status == 0, f"not every module can be imported: {said}")
        run.check("libpq" in said, said)
        with client.stored(9, container.log):
            for number in range(3):
                client.post(f"/event?n=POST-{number}")
                client.datagram(f"n=UDP-{number}")
                status, told = container.execute("oneshot-emit", f"n=emit-{number}")
                run.check(status == 0, f"oneshot-emit: {told}", container.log())
        every = Counter({f"{door}-{n}": 1 for door in ("POST", "UDP", "emit") for n in range(3)})
        run.check(client.scrape("ann") == every, "ann has got each once", container.log())
        with client.stored(2, container.log):
            client.post("/event?n=later-0")
            client.post("/event?n=later-1")
        container.kill()
        container.start()
        container.ready()
        later = Counter({"later-0": 1, "later-1": 1})
        run.check(client.scrape("ann") == later, "ann has got each once over a kill -9", container.log())
        run.check(client.scrape("bob") == every + later, "bob has got each once over a kill -9")
        run.check(client.scrape("ann") + client.scrape("bob") == Counter(), "something came again")
        status, seconds = container.stop()
        run.check(
            status == 0 and seconds < PROMPT, f"SIGTERM: {status} after {seconds:.1f} s", container.log()
        )
        container.start()
        container.ready()
        run.check(client.scrape("ann") + client.scrape("bob") == Counter(), "something came after a restart")
        container.stop()
    finally:
        container.kill()
    warnings = [
        row for row in container.log().splitlines() if re.search(r"#(warn|error|critical)|cache", row)
    ]
    run.check(not warnings, f"the log complains: {warnings}")
    return (
        f"each event once to both scrapers over a kill -9; {said.strip()}; SIGTERM: {seconds:.1f} s, status 0"
    )


def configured(run: Trial) -> str:
    """The page's line with a file of configuration, as another user, where the network has no IPv6."""
    line = documented(arguments=True)
    line.user = "1234:1234"
    data, file = (
        next(mount for mount in line.mounts if mount.target == target)
        for target in ("/data", "/etc/oneshotd/oneshotd.toml")
    )
    run.check(file.read_only, "the page mounts the configuration for writing")
    config = run.tree.path("/srv/oneshotd.toml")
    config.write_text('http = ["8090"]\nmetric = "configured_metric"\n')
    config.chmod(0o444)
    places = {data.source: volume(run.tree, "other", line.user), file.source: "/srv/oneshotd.toml"}
    ipv6 = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    container = Container(run.image, line, places, "configured")
    try:
        if ipv6.exists():
            ipv6.write_text("1")  # as docker does for containers
        container.start()
        container.ready()
        client.post("/event?n=1")
        run.check("\nconfigured_metric{" in client.get("/metrics?scraper=ann"), "the file is not read")
        files = list(run.tree.path(places[data.source]).iterdir())
        run.check(files and all(path.stat().st_uid == 1234 for path in files), f"/data has {files}")
        run.check(all(path.stat().st_mode & 0o7 == 0 for path in files), "others can read the events")
        container.stop()
    finally:
        container.kill()
        if ipv6.exists():
            ipv6.write_text("0")
    return f"{' '.join(line.arguments)} and the file count; the store belongs to 1234"


def stops(run: Trial) -> str:
    """A container that is stopped while it starts ends as promptly as one that runs."""
    line = Run("podman", NAME, user="65532:65532", read_only=True)
    line.mounts = [Mount("data", "/data")]
    place = volume(run.tree, "stopped", "65532:65532")
    container = Container(run.image, line, {"data": place}, "stopped")
    try:
        container.start()
        container.handles(signal.SIGTERM)
        status, seconds = container.stop()
    finally:
        container.kill()
    log = container.log()
    run.check(status == 0 and seconds < PROMPT, f"SIGTERM while it starts: {status}, {seconds:.1f} s", log)
    return (
        f"while it starts: {seconds:.1f} s, status 0, {'before' if not log else 'after'} its first log line"
    )


def errors(run: Trial) -> str:
    """Each fault of a user is one clear line, and a status other than 0."""
    user = "65532:65532"
    cases = {
        "--no-such-option": "twistd oneshot: option --no-such-option not recognized",
        "--hold never": "twistd oneshot: --hold: expected a duration",
        "--config /etc/oneshotd/none.toml": "/etc/oneshotd/none.toml: No such file or directory",
        "--store postgresql:host=127.0.0.1\\ user=oneshotd": 'connection to server at "127.0.0.1"',
    }
    told = []
    for number, (options, expected) in enumerate(cases.items()):
        line = Run("podman", NAME, shlex.split(options), user=user, read_only=True)
        place = volume(run.tree, f"errors-{number}", user)
        line.mounts = [Mount("data", "/data")]
        told.append(_failure(run, line, {"data": place}, expected))
    line = Run("podman", NAME, user=user, read_only=True)
    line.mounts = [Mount("data", "/data")]
    for mode, expected in (
        (0o700, "the working directory /data: Permission denied"),
        (0o755, "/data/oneshotd.sqlite"),
    ):
        foreign = volume(run.tree, f"foreign-{mode:o}", "0:0")
        run.tree.path(foreign).chmod(mode)
        told.append(_failure(run, line, {"data": foreign}, expected))
    return "; ".join(told)


def _failure(run: Trial, line: Run, places: dict[str, str], expected: str) -> str:
    """Return the last line of a container that has to fail."""
    container = Container(run.image, line, places, "failing")
    before = len(container.log())
    try:
        container.start()
        status = container.wait()
    finally:
        container.kill()
    log = container.log()[before:]
    run.check(status != 0 and expected in log, f"expected {expected!r}, status {status}", log)
    run.check("Traceback" not in log, "a fault of a user is a traceback", log)
    (row, *_) = [row for row in log.splitlines() if expected in row]
    return row[-90:]
