"""The file of --web-config, in the format of exporter-toolkit 0.17 (docs/web-configuration.md).

It is stricter: what the toolkit would ignore, or would only notice at the first request, is an error here.
What is accepted and has no effect is said in `WebConfig.notes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from oneshotd.access.tls_settings import TLSSettings, read_tls_settings
from oneshotd.access.yaml_nodes import Value, brief, read_yaml

#: The keys of the file.
SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")

#: The headers that can be set, and their allowed values; none: any.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]{1,8192}")

#: The highest cost of a hash: each step doubles the time. 18 takes some 15 s, 20 a minute.
MAX_COST = 18
_MIN_COST = 4
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_HASH_LENGTH = 60

# Go's time.ParseDuration, with nanoseconds as the smallest unit.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(f"(?:{_PART}){{1,7}}")


@frozen(kw_only=True)
class RateLimit:
    """A token bucket for all requests together.

    :param interval: seconds until the next request is allowed.
    :param burst: requests that are allowed at once.
    """

    interval: float
    burst: int


@frozen(kw_only=True)
class WebConfig:
    """The content of the file of --web-config.

    :param tls: None: plain HTTP.
    :param users: user -> bcrypt hash; empty: no password is asked for.
    :param headers: name -> value, for all responses.
    :param notes: what is accepted without effect, one line each, with file, line and key.
    """

    path: Path
    tls: TLSSettings | None = None
    users: Mapping[str, bytes] = field(factory=dict, repr=False)
    headers: Mapping[str, str] = field(factory=dict)
    rate_limit: RateLimit | None = None
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files whose change matters."""
        return (self.path, *(self.tls.files if self.tls else ()))


def read_web_config(path: Path) -> WebConfig:
    """Read the file; an empty one is valid and has no effect.

    Certificates and keys are read by `access.tls.make_context`.

    :param path: relative paths in it start at its folder.
    :raises ConfigError: one line with file, line, key and the cause; never a secret.
    """
    document = read_yaml(path)
    sections = document.fields(SECTIONS) if document else {}
    notes: list[str] = []
    tls = headers = rate_limit = None
    users: Mapping[str, bytes] = {}
    if section := sections.get("tls_server_config"):
        tls = read_tls_settings(section, path.parent, notes)
    if section := sections.get("http_server_config"):
        headers = _http(section, tls is not None, notes)
    if section := sections.get("basic_auth_users"):
        users = _users(section, notes)
    if section := sections.get("rate_limit"):
        rate_limit = _rate_limit(section)
    return WebConfig(
        path=path, tls=tls, users=users, headers=headers or {}, rate_limit=rate_limit, notes=tuple(notes)
    )


def _http(section: Value, has_tls: bool, notes: list[str]) -> Mapping[str, str]:
    fields = section.fields(("http2", "headers"))
    if (http2 := fields.get("http2")) and http2.flag(True):
        notes.append(f"{http2.where}: without effect, the daemon speaks HTTP/1.1")
    headers: dict[str, str] = {}
    for name, value in fields["headers"].fields(HEADERS).items() if "headers" in fields else ():
        text = value.text()
        if not text:
            continue
        allowed = HEADERS[name]
        if allowed and text not in allowed:
            raise value.error(f"expected {' or '.join(allowed)}, got {brief(text)}")
        if not _HEADER_VALUE.fullmatch(text):
            raise value.error("expected printable ASCII characters on one line, at most 8192, got others")
        if name == "Strict-Transport-Security" and not has_tls:
            notes.append(f"{value.where}: without effect, because TLS is off")
        headers[name] = text
    return headers


def _users(section: Value, notes: list[str]) -> Mapping[str, bytes]:
    users: dict[str, bytes] = {}
    for name, value in section.entries().items():
        if _HASH.fullmatch(name) or name.startswith("$2"):
            raise section.error("a hash is in the place of a user's name")
        if not name or ":" in name or not name.isprintable():
            raise value.error("expected a name without colons and control characters")
        users[name] = _hash(value)
    if not users:
        notes.append(f"{section.where}: no users, so no password is asked for")
    return users


def _hash(value: Value) -> bytes:
    """Check a bcrypt hash, without a word of it in the error."""
    text = value.text()
    if text.startswith(("$2$", "$2x$")):
        raise value.error("expected a bcrypt hash that starts with $2a$, $2b$ or $2y$, got an older form")
    if not text.startswith(("$2a$", "$2b$", "$2y$")):
        start = "expected a bcrypt hash, which starts with $2a$, $2b$ or $2y$"
        raise value.error(f"{start}; htpasswd -nB USER makes one")
    if len(text) != _HASH_LENGTH:
        raise value.error(f"expected a bcrypt hash of {_HASH_LENGTH} characters, got {len(text)}")
    found = _HASH.fullmatch(text)
    if found is None:
        raise value.error("not a bcrypt hash: it has characters that none has")
    if not _MIN_COST <= int(found[1]) <= MAX_COST:
        raise value.error(
            f"expected a bcrypt hash with a cost from {_MIN_COST} to {MAX_COST}, got {int(found[1])}"
        )
    return text.encode("ascii")


def _rate_limit(section: Value) -> RateLimit | None:
    fields = section.fields(("interval", "burst"))
    if not fields:
        return None
    if "interval" not in fields:
        raise section.error("interval is missing")
    seconds = _duration(fields["interval"])
    burst = fields["burst"].whole_number() if "burst" in fields else 0
    if not seconds:
        return None
    if not burst:
        place = fields.get("burst", section)
        raise place.error("expected a burst of at least 1: with 0, every request would be refused")
    return RateLimit(interval=seconds, burst=burst)


def _duration(value: Value) -> float:
    text = value.text()
    if text in ("", "0"):
        return 0.0
    if not _DURATION.fullmatch(text):
        raise value.error(f"expected a duration such as 1s, 100ms or 1m30s, or 0 for none, got {brief(text)}")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
