"""What the documents say of containers beyond a run line: TLS, and the unit for systemd."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs
from deb.build import REPOSITORY, Unfit
from deb.inside import Tree
from support.certificates import Authority
from support.container_lines import Mount, Run, parse_run

from image.build import NAME
from image.container import Container, Image, volume

UNIT = REPOSITORY / "etc/containers/oneshotd.container"
#: Of podman's package.
QUADLET = "/usr/libexec/podman/quadlet"

WEB = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
"""


def tls(image: Image) -> str:
    """Serve TLS that asks for certificates, and be healthy by one.

    :raises Unfit: it does not do well.
    """
    folder = image.tree.path("/srv/tls")
    authority = Authority(folder)
    server, client = authority.issue("server", sans=("oneshotd.example.net",)), authority.issue("client")
    names = {server.cert: "server.pem", server.key: "server.key", client.cert: "me.pem", client.key: "me.key"}
    for path, name in {**names, authority.cert: "ca.pem"}.items():
        if path != folder / name:
            (folder / name).write_bytes(path.read_bytes())
        (folder / name).chmod(0o444)
    (folder / "web.yml").write_text(WEB)
    (folder / "oneshotd.toml").write_text('web-config = "/etc/oneshotd/web.yml"\n')
    user = "65532:65532"
    line = Run("podman", NAME, user=user, read_only=True)
    line.mounts = [Mount("data", "/data"), Mount("config", "/etc/oneshotd", read_only=True)]
    places = {"data": volume(image.tree, "tls", user), "config": "/srv/tls"}
    container = Container(image, line, places, "tls")
    own = ("--cert", "/etc/oneshotd/me.pem", "--key", "/etc/oneshotd/me.key")
    try:
        container.start()
        container.ready("--url", "https://localhost:8090", "--any-certificate", *own)
        status, said = container.execute("oneshotctl", "health", "--url", "https://localhost:8090", *own)
        if status != 1 or "certificate is not accepted" not in said:
            raise Unfit(f"a certificate of an unknown authority: {status}, {said}")
        container.stop()
    finally:
        container.kill()
    return "oneshotctl health has a certificate; without --any-certificate the authority must be known"


def quadlet(tree: Tree, documented: Run) -> str:
    """Let podman's generator read the unit, and compare the command that it makes with the page's line.

    :raises Unfit: it refuses the unit, or the command differs.
    """
    place = tree.path("/etc/containers/systemd")
    place.mkdir(parents=True, exist_ok=True)
    (place / UNIT.name).write_bytes(UNIT.read_bytes())
    said = tree.run(QUADLET, "-dryrun")
    started = re.findall(r"(?m)^ExecStart=(.+)$", said)
    if len(started) != 1 or "error" in said.lower():
        raise Unfit(f"quadlet: {said}")
    # What the generator adds: how podman and systemd work together.
    own = re.compile(r"--replace|--rm|--cgroups=.+|--sdnotify=.+|--cidfile=.+")
    words = [word for word in shlex.split(started[0]) if not own.fullmatch(word)]
    words[0] = Path(words[0]).name
    line = parse_run(words)
    # Starting it again is systemd's here.
    if attrs.evolve(line, restart=documented.restart) != documented:
        raise Unfit(f"the unit's command differs from the page's: {line}, {documented}")
    return f"{UNIT.name} makes the page's command"
