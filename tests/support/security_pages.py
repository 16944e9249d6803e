"""docs/hardening.md and docs/rotation.md, taken apart: the blocks, and what a block makes a scraper do."""

from __future__ import annotations

import re
import tomllib
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

REPOSITORY = Path(__file__).resolve().parents[2]
HARDENING = REPOSITORY / "docs" / "hardening.md"
ROTATION = REPOSITORY / "docs" / "rotation.md"
SECURITY = REPOSITORY / "docs" / "security.md"

#: The folders of the pages, and the daemon's address on them.
KEYS, DAEMON, CLIENT = "/root/oneshotd-keys", "/etc/oneshotd", "/etc/ssl/oneshotd"
TARGET = "oneshotd.example.org:8090"

_FENCED = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ALLOY = re.compile(r'(\w+)"?\s+= \[?"([^"]*)"')


def blocks(page: Path, kind: str) -> list[str]:
    """Return the blocks of a page whose fence says this kind, or else this language."""
    found = _FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for language, named, text in found if (named or language) == kind]


def block(page: Path, kind: str) -> str:
    """Return the only block of this kind."""
    (text,) = blocks(page, kind)
    return text


def heredoc(text: str, name: str) -> str:
    """Return what a shell block writes into the file NAME, with its substitutions as they are."""
    found = re.search(rf"^cat > {re.escape(name)} <<'?END'?\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@frozen(kw_only=True)
class Asked:
    """What a configuration makes its scraper do.

    :param target: scheme, host and port.
    :param files: by their purpose: ``ca``, ``token``, ``password``, ``cert``, ``key``.
    """

    program: str
    target: str
    scraper: str
    files: Mapping[str, str]
    user: str | None = None


def asked() -> list[Asked]:
    """Return what each scraper of the page does, in the order of the page."""
    found = [_job("prometheus", yaml.safe_load(text)) for text in blocks(HARDENING, "prometheus")]
    found += [_job("victoriametrics", yaml.safe_load(text)) for text in blocks(HARDENING, "victoriametrics")]
    for text in blocks(HARDENING, "otel"):
        found.append(_job("otel", yaml.safe_load(text)["receivers"]["prometheus"]["config"]))
    found += [_alloy(text) for text in blocks(HARDENING, "alloy")]
    found += [_telegraf(tomllib.loads(text)) for text in blocks(HARDENING, "telegraf")]
    found += [_datadog(yaml.safe_load(text)) for text in blocks(HARDENING, "datadog")]
    return found


def _job(program: str, config: Mapping[str, Any]) -> Asked:
    (job,) = config["scrape_configs"]
    tls, basic = job["tls_config"], job.get("basic_auth", {})
    ((target,),) = [static["targets"] for static in job["static_configs"]]
    (scraper,) = job["params"]["scraper"]
    files = {
        "ca": tls["ca_file"],
        "cert": tls.get("cert_file"),
        "key": tls.get("key_file"),
        "token": job.get("authorization", {}).get("credentials_file"),
        "password": basic.get("password_file"),
    }
    return Asked(
        program=program,
        target=f"{job['scheme']}://{target}",
        scraper=scraper,
        files={purpose: file for purpose, file in files.items() if file},
        user=basic.get("username"),
    )


def _alloy(text: str) -> Asked:
    found = dict(_ALLOY.findall(text))
    assert found["type"] == "Bearer"
    files = {"ca": found["ca_file"], "token": found["credentials_file"]}
    target = f"{found['scheme']}://{found['__address__']}"
    return Asked(program="alloy", target=target, scraper=found["scraper"], files=files)


def _telegraf(config: Mapping[str, Any]) -> Asked:
    (plugin,) = config["inputs"]["prometheus"]
    (url,) = plugin["urls"]
    return _by_url("telegraf", url, {"ca": plugin["tls_ca"], "token": plugin["bearer_token"]})


def _datadog(config: Mapping[str, Any]) -> Asked:
    (instance,) = config["instances"]
    reader, writer = instance["auth_token"]["reader"], instance["auth_token"]["writer"]
    assert reader["type"] == "file"
    assert writer == {"type": "header", "name": "Authorization", "value": "Bearer <TOKEN>"}
    files = {"ca": instance["tls_ca_cert"], "token": reader["path"]}
    return _by_url("datadog", instance["openmetrics_endpoint"], files)


def _by_url(program: str, url: str, files: Mapping[str, str]) -> Asked:
    parts = urllib.parse.urlsplit(url)
    scraper = dict(urllib.parse.parse_qsl(parts.query))["scraper"]
    return Asked(program=program, target=f"{parts.scheme}://{parts.netloc}", scraper=scraper, files=files)
