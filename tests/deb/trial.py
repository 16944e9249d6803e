"""The package in a clean tree: installed, run, killed, upgraded, removed, purged; see `trial`.

There is no systemd: the service's command runs as the unit has it, under its user, with the test in
the manager's place. What the package's scripts would ask of systemd, a stand-in writes down.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from deb.build import Unfit, version
from deb.inside import Tree
from deb.service import Service

#: In the tree before the package comes: what it depends on, and what the trial and debian/tests use.
PACKAGES = (
    *("python3-attr", "python3-klein", "python3-prometheus-client", "python3-twisted"),
    *("systemd", "autopkgtest", "curl", "dpkg-dev", "prometheus", "util-linux"),
)

UNIT = "/usr/lib/systemd/system/oneshotd.service"
CONFIG = "/etc/oneshotd/oneshotd.toml"
DATA = "/var/lib/oneshotd"
PLUGINS = "/usr/lib/python3/dist-packages/twisted/plugins/dropin.cache"

#: The worst that `systemd-analyze security` may say of the unit.
EXPOSURE = 1.5

#: Writes down what it is asked; what concerns files alone the real one does.
STAND_IN = """\
#!/bin/sh
case "$1" in --root=*) exec systemctl.real "$@" ;; esac
echo "$*" >> /srv/systemctl.log
for unit; do :; done
case " $* " in *" is-enabled "*) exec systemctl.real --root=/ is-enabled "$unit" ;; esac
"""

#: What every installation writes, whatever the package; the user stays, as its number must not go to
#: another (Debian Policy 9.2.2 permits both).
TRACES = re.compile(
    r"/(dev|proc|sys|tmp|srv|root|run)(/|$)|.*/__pycache__(/|$)|/var/(cache|log|lib/dpkg|lib/apt|tmp)(/|$)"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/\.pwd\.lock$|/usr/local(/|$)|"
    + re.escape(PLUGINS)
)


def package(results: Path) -> Path:
    """Where the package is that `make deb` has built of this version."""
    return results / f"oneshotd_{version()}_all.deb"


class Trial:
    """A tree with the package's files in /srv."""

    def __init__(self, root: Path, results: Path) -> None:
        self.tree = Tree(root)
        self.package = f"/srv/{package(results).name}"
        self.service = Service(self.tree, UNIT)
        for path in results.glob(f"oneshotd_{version().rpartition('-')[0]}*"):
            shutil.copy(path, self.tree.path("/srv"))

    def check(self, fact: object, what: str) -> None:
        """:raises Unfit: it is not so; with the daemon's log."""
        if not fact:
            raise Unfit(f"{what}\n{self.service.log()[-3000:]}")

    def install(self, package: str) -> str:
        """Install it as `apt install ./FILE` does, all else being there; what apt says."""
        words = ("apt-get", "install", "--yes", "--no-install-recommends")
        return self.tree.run(*words, "--option=Dpkg::Options::=--force-confold", package)

    def earlier(self) -> str:
        """The same package under a lower version: what an upgrade comes from."""
        lower = f"{version()}~earlier"
        target = f"/srv/oneshotd_{lower}_all.deb"
        self.tree.run("dpkg-deb", "--raw-extract", self.package, "/srv/earlier")
        control = self.tree.path("/srv/earlier/DEBIAN/control")
        text = control.read_text()
        control.write_text(text.replace(f"Version: {version()}\n", f"Version: {lower}\n"))
        self.tree.run("dpkg-deb", "--root-owner-group", "--build", "/srv/earlier", target)
        return target

    def files(self) -> set[str]:
        """Every path in the tree but what each installation leaves."""
        found = self.tree.run("find", "/", "-xdev", "-print").splitlines()
        return {name for name in found if not TRACES.match(name)}

    # -- systemd's stand-in

    def pretend_systemd(self) -> None:
        """Let the package's scripts believe in systemd, and write down what they ask of it."""
        self.tree.path("/run/systemd/system").mkdir(parents=True, exist_ok=True)
        systemctl = self.tree.path("/usr/bin/systemctl")
        if not systemctl.with_suffix(".real").exists():
            systemctl.rename(systemctl.with_suffix(".real"))
            systemctl.write_text(STAND_IN)
            systemctl.chmod(0o755)

    def asked(self) -> list[str]:
        """What was asked about the service since the last time."""
        log = self.tree.path("/srv/systemctl.log")
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        verbs = ("start", "stop", "restart", "try-restart")
        words = [[word for word in line.split() if not word.startswith("-")] for line in lines]
        return [" ".join(line) for line in words if line and line[0] in verbs]


def trial(root: Path, results: Path) -> None:
    """All of it, in order.

    :raises Unfit: something is not as a user would expect.
    :raises inside.Failed: a command has failed.
    """
    run = Trial(root, results)
    run.pretend_systemd()
    tell("the unit", examine, run)
    before = run.files()
    tell("a fresh installation", fresh, run)
    try:
        tell("events, two scrapers, kill -9, a restart", work, run)
        tell("an upgrade with events pending", upgrade, run)
    finally:
        run.service.kill()
    tell("debian/tests with the null runner", autopkgtest, run)
    tell("removal and purge", purge, run, before)


def tell(what: str, step: Callable[..., str], *arguments: object) -> None:
    """Take the step and say that it went well."""
    print(f"deb: {what}: {step(*arguments)}")


def examine(run: Trial) -> str:
    """The unit's rating, before anything is installed."""
    tree = run.tree
    tree.run("dpkg-deb", "--extract", run.package, "/srv/content")
    unit = f"/srv/content{UNIT}"
    said = tree.run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    (rating,) = re.findall(r"Overall exposure level for oneshotd.service: ([0-9.]+)", said)
    run.check(float(rating) <= EXPOSURE, f"systemd-analyze security: {rating}\n{said}")
    return f"systemd-analyze security rates it {rating}"


def fresh(run: Trial) -> str:
    """Install what an upgrade comes from; the service would be started and enabled."""
    said = run.install(run.earlier())
    tree = run.tree
    asked = run.asked()
    run.check(asked == ["start oneshotd.service"], f"an installation asks of systemd: {asked}\n{said}")
    wanted = tree.path("/etc/systemd/system/multi-user.target.wants/oneshotd.service")
    run.check(wanted.is_symlink(), "the service is not enabled")
    run.check(not tree.path("/etc/systemd/system/sockets.target.wants").exists(), "the socket is enabled")
    run.check("oneshot_plugin" in tree.path(PLUGINS).read_bytes().decode("latin-1"), "no plugin cache")
    mode = tree.run("stat", "--format=%U:%G:%a", DATA).strip()
    run.check(mode == "oneshotd:oneshotd:750", f"{DATA} is {mode}")
    units = [UNIT, UNIT.replace(".service", ".socket"), UNIT.replace("oneshotd.", "oneshot-emit@x.")]
    tree.path(units[2]).symlink_to("oneshot-emit@.service")
    tree.run("systemd-analyze", "verify", "--man=no", *units)
    tree.path(units[2]).unlink()
    for page in ("1 oneshot-emit", "1 oneshotctl", "5 oneshotd.toml", "8 oneshotd"):
        section, name = page.split()
        path = f"/usr/share/man/man{section}/{name}.{section}.gz"
        run.check(tree.path(path).exists(), f"there is no {path}")
    for command in ("oneshot-emit", "oneshotctl"):
        path = f"/usr/share/bash-completion/completions/{command}"
        run.check(tree.path(path).exists(), f"there is no {path}")
    return "started once and enabled, the socket left alone; the plugin cache has it"


def work(run: Trial) -> str:
    """Events from the tools that are there, two scrapers, and a daemon that is killed."""
    service = run.service
    service.start()
    service.emit("curl", "POST", 3)
    service.emit("oneshot-emit", "emit", 3)
    service.emit("bash", "UDP", 3)
    both = Counter({f"{door}-{number}": 1 for door in ("POST", "emit", "UDP") for number in range(3)})
    run.check(service.scrape("ann") == both, "ann has got each once")
    service.emit("curl", "later", 2)
    service.kill()
    service.start()
    later = Counter({"later-0": 1, "later-1": 1})
    run.check(service.scrape("ann") == later, "ann has got each once over a kill -9")
    run.check(service.scrape("bob") == both + later, "bob has got each once over a kill -9")
    run.check(service.scrape("ann") + service.scrape("bob") == Counter(), "something came again")
    memory = service.memory()
    service.stop()
    service.start()
    run.check(service.scrape("ann") + service.scrape("bob") == Counter(), "something came after a restart")
    return f"each once to both; {memory >> 20} MiB resident"


def upgrade(run: Trial) -> str:
    """Nothing pending is lost, a changed configuration stays, and the restart is one."""
    service, config = run.service, run.tree.path(CONFIG)
    config.write_text(config.read_text() + 'hold = "2h"\n')
    service.emit("curl", "pending", 5)
    pending = Counter({f"pending-{number}": 1 for number in range(5)})
    run.check(service.scrape("ann") == pending, "ann reads before the upgrade")
    run.asked()
    run.install(run.package)
    asked = run.asked()
    run.check(asked == ["restart oneshotd.service"], f"an upgrade asks of systemd: {asked}")
    service.stop()
    service.start()
    run.check(config.read_text().endswith('hold = "2h"\n'), "the configuration was overwritten")
    run.check(service.scrape("ann") == Counter(), "ann gets again what it had before the upgrade")
    run.check(service.scrape("bob") == pending, "bob gets what was pending")
    service.stop()
    return "one restart; data and configuration kept"


def autopkgtest(run: Trial) -> str:
    """The package's own tests, as Debian would run them."""
    tree = run.tree
    tree.run("rmdir", "/run/systemd/system")
    (dsc,) = tree.path("/srv").glob("*.dsc")
    tree.run("sh", "-c", 'rm -rf "$0"/*', DATA)
    # The changed configuration is a user's; the tests are for the installed one.
    config = tree.path(CONFIG)
    config.write_text(config.read_text().removesuffix('hold = "2h"\n'))
    said = tree.run("autopkgtest", f"/srv/{dsc.name}", "--no-built-binaries", "--", "null")
    results = re.findall(r"(?m)^(plugin|service|prometheus) +(PASS|FAIL|SKIP|FLAKY).*$", said)
    run.check(
        dict(results) == dict.fromkeys(("plugin", "service", "prometheus"), "PASS"),
        f"autopkgtest: {results}\n{said[-6000:]}",
    )
    return ", ".join(f"{name} {result}" for name, result in dict(results).items())


def purge(run: Trial, before: set[str]) -> str:
    """Removing keeps data and configuration, purging nothing."""
    tree = run.tree
    run.pretend_systemd()
    run.asked()
    tree.path(f"{DATA}/oneshotd.sqlite.corrupt").write_text("moved aside once")
    tree.run("apt-get", "remove", "--yes", "oneshotd")
    asked = run.asked()
    run.check(asked == ["stop oneshotd.socket", "stop oneshotd.service"], f"removal asks of systemd: {asked}")
    run.check(tree.path(CONFIG).exists(), "removal takes the configuration")
    run.check(tree.path(f"{DATA}/oneshotd.sqlite").exists(), "removal takes the events")
    run.check("oneshot_plugin" not in tree.path(PLUGINS).read_bytes().decode("latin-1"), "plugin cache")
    run.check("oneshotd" not in tree.run("twistd3", "--help"), "twistd3 lists what is gone")
    tree.run("apt-get", "purge", "--yes", "oneshotd")
    left = run.files() - before
    run.check(not left, f"a purge leaves {sorted(left)}")
    return "removal keeps data and configuration; a purge leaves nothing but the user"
