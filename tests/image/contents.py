"""What of Debian gets into the image: packages, and paths of their files.

The daemon needs an interpreter and libraries, and neither shell nor package tools: what is not named here
stays out. dpkg's record of each package goes in (`var/lib/dpkg/status.d`, as "distroless" images have it), so
that scanners find versions.
"""

from __future__ import annotations

import re

#: The packages that the image is for, setup.py's extras among them: TLS, passwords and PostgreSQL are what a
#: daemon in a cluster is configured with.
ROOTS = (
    "oneshotd",
    *("python3-bcrypt", "python3-openssl", "python3-service-identity", "python3-yaml", "python3-psycopg"),
    # Authorities for receivers, databases and `oneshot-emit`; zones for $TZ; the release, for scanners.
    *("ca-certificates", "tzdata", "base-files"),
    # psycopg asks ldconfig where libpq is.
    "libc-bin",
)

#: In the tree beside these: what makes the image, and what runs it.
TOOLS = ("umoci", "crun", "podman")

#: Package -> why it is not taken, though another depends on it.
LEFT_OUT = {
    **dict.fromkeys(
        ("debconf", "dpkg", "perl-base", "systemd", "systemd-standalone-sysusers", "tar"),
        "for maintainer scripts, which an image does not run",
    ),
    **dict.fromkeys(
        ("libdb5.3t64", "libncursesw6", "libreadline8t64", "libtinfo6", "readline-common"),
        "for modules of Python that are left out: dbm, curses, readline",
    ),
    "python3-pkg-resources": "for zope's namespace, which Python has by itself",
    "python3-hamcrest": "for tests of python3-tubes",
    "media-types": "types of files that a web server would have",
}

#: Files of these packages that are taken, as patterns of whole paths.
_KEPT = (
    r"/(bin|lib|lib64|sbin)",  # links of base-files into /usr
    r"/usr/bin/(python3|python3\.\d+|twistd3|oneshotctl|oneshot-emit)",
    r"/usr/sbin/ldconfig",
    r"/usr/lib/(python3|python3\.\d+)/.+",
    r"/usr/lib/ssl/(certs|openssl\.cnf)",
    r"/usr/lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/(ossl-modules/)?[^/]+\.so(\.[^/]+)?",
    r"/usr/lib(64)?/ld-linux[^/]+",
    r"/(etc|usr/lib)/os-release",
    r"/etc/debian_version",
    r"/etc/ssl/openssl\.cnf",
    r"/etc/oneshotd/.+",
    r"/usr/share/(zoneinfo|ca-certificates)/.+",
    r"/usr/share/doc/[^/]+/copyright",
)
#: Files that maintainer scripts have made.
_MADE = (r"/etc/ssl/certs/.+", r"/etc/nsswitch\.conf")

_STDLIB = r"/usr/lib/python3\.\d+"
_DIST = r"/usr/lib/python3/dist-packages"
#: What of that the daemon and its commands never load.
_DROPPED = (
    rf"{_STDLIB}/(curses|dbm|ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo|venv)/.+",
    rf"{_STDLIB}/(config-.+|__phello__/.+|sitecustomize\.py)",
    rf"{_STDLIB}/lib-dynload/(_curses|_curses_panel|_dbm|_gdbm|_test|_tkinter|_xx|readline|xx)[^/]*",
    rf"{_DIST}/.+/(_?tests?|_test)/.+",
    rf"{_DIST}/twisted/(conch|mail|names|news|pair|runner|trial|words)/.+",
    # Subcommands of twistd for these; `core` has endpoints and `reactors` the loops.
    rf"{_DIST}/twisted/plugins/(?!__init__|twisted_core|twisted_reactors|oneshot_plugin)[^/]+",
    rf"{_DIST}/.+\.(pyi|c|h|pxd|pyx)",
    r"/usr/share/zoneinfo/localtime",  # leads to /etc/localtime, which is not there
    r".*/__pycache__(/.*)?",
)

_TAKEN = re.compile("|".join(_KEPT))
_ADDED = re.compile("|".join(_MADE))
_REFUSED = re.compile("|".join(_DROPPED))


def is_taken(path: str) -> bool:
    """Return whether a file of a package gets into the image."""
    return bool(_TAKEN.fullmatch(path)) and not _REFUSED.fullmatch(path)


def is_made(path: str) -> bool:
    """Return whether a file that is in no package gets into the image."""
    return bool(_ADDED.fullmatch(path))
