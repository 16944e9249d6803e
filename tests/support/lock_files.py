"""Configurations of the daemon with a web configuration and an access file: good parts, and wrong ones.

In the texts, DIR stands for the folder in which the files are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
DIGEST = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"

USERS = f"basic_auth_users:\n  ci: {HASH}\n"
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
RULES = '[[allow]]\nrole = "emit"\nuser = "ci"\n[[allow]]\nrole = "scrape"\nuser = "ci"\n'
BOTH = 'http = ["localhost:8090"]\nweb-config = "DIR/web.yml"\naccess = "DIR/access.toml"\n'

WEB = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  min_version: TLS13
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [b.example, a.example]
http_server_config:
  http2: true
  headers: {{X-Frame-Options: deny}}
basic_auth_users:
  ci: {HASH}
rate_limit: {{interval: 500ms, burst: 7}}
"""

ACCESS = f"""\
[[allow]]
role = "emit"
user = "ci"
labels = {{ team = "shop", a = "b" }}
metrics = ["shop_*"]
types = ["deploy", "sale"]
events_per_second = 2.5
series_per_day = 100
[[allow]]
role = "scrape"
token_sha256 = "{DIGEST}"
network = ["192.0.2.0/24", "unix"]
scraper = "prometheus-a"
[[allow]]
role = "emit"
network = "198.51.100.1"
[[allow]]
role = "look"
san = "a.example"
"""

#: Files, and the errors in them.
BAD: Sequence[tuple[Mapping[str, str | bytes], list[str]]] = [
    ({"d.toml": "hold = "}, ["DIR/d.toml: Invalid value (at end of document)"]),
    ({"d.toml": "a = 1\n= 2"}, ["DIR/d.toml:2: Invalid statement (at line 2, column 1)"]),
    ({"d.toml": b"\xff"}, ["DIR/d.toml: 'utf-8' codec can't decode byte 0xff in position 0"]),
    (
        {"d.toml": 'hodl = 1\nhttp = []\nmax-events = "x"'},
        ["DIR/d.toml:1: there is no option 'hodl'", "DIR/d.toml:3: max-events: expected a whole number"],
    ),
    ({"d.toml": "http = []"}, ["http: expected at least one endpoint, got none"]),
    ({"d.toml": 'hold = "1m"\nnewcomers = "5m"'}, ["newcomers: expected at most the hold"]),
    ({"d.toml": 'http = ["tpc:8090"]'}, ["http: tpc:8090: Unknown endpoint type: 'tpc'"]),
    ({"d.toml": 'http = ["tcp:x"]'}, ["http: tcp:x: invalid literal for int()"]),
    (
        {"d.toml": 'http = ["ssl:8090:privateKey=/nowhere"]'},
        ["http: ssl:8090:privateKey=/nowhere: [Errno 2] No such file"],
    ),
    (
        {"d.toml": 'web-config = "DIR/no.yml"\naccess = "DIR/no.toml"'},
        ["DIR/no.yml: No such file or directory", "DIR/no.toml: No such file or directory"],
    ),
    ({"d.toml": BOTH, "web.yml": "a: 1", "access.toml": RULES}, ["DIR/web.yml:1: a: "]),
    (
        {"d.toml": BOTH, "web.yml": USERS.replace("$2y", "$3y"), "access.toml": RULES},
        ["DIR/web.yml:2: basic_auth_users.ci: expected a bcrypt hash"],
    ),
    (
        {"d.toml": BOTH, "web.yml": TLS.replace("server.key", "ca.key"), "access.toml": RULES},
        ["DIR/web.yml:3: tls_server_config.key_file: DIR/ca.key: No such file or directory"],
    ),
    (
        {"d.toml": BOTH, "web.yml": TLS.replace("server.key", "ended.key"), "access.toml": RULES},
        ["DIR/web.yml:"],
    ),
    (
        {"d.toml": BOTH.replace("localhost:8090", "ssl:1:privateKey=DIR/server.key:certKey=DIR/server.pem")}
        | {"web.yml": TLS + USERS, "access.toml": RULES},
        ["--http: with tls_server_config in the web configuration, expected "],
    ),
    ({"d.toml": BOTH, "web.yml": USERS, "access.toml": ""}, ["DIR/access.toml: there is no [[allow]]"]),
    (
        {"d.toml": BOTH, "web.yml": USERS, "access.toml": "[[allow]\n"},
        ["DIR/access.toml:1: Expected ']]'"],
    ),
    (
        {"d.toml": BOTH, "web.yml": USERS, "access.toml": RULES + '[[allow]]\nrole = "emit"\n'},
        ["DIR/access.toml:7: allow 3: expected at least one of user"],
    ),
    (
        {"d.toml": BOTH, "web.yml": USERS, "access.toml": RULES.replace('"scrape"', '"boss"')},
        ["DIR/access.toml:5: allow 2: role: expected emit, scrape, look, admin, got 'boss'"],
    ),
    (
        {"d.toml": BOTH, "web.yml": USERS, "access.toml": RULES + "usr = 1"},
        ["DIR/access.toml:7: allow 2: there is no key 'usr'; the nearest is 'user'"],
    ),
    (
        {"d.toml": "max-label-value = 3\n" + BOTH, "web.yml": USERS}
        | {"access.toml": RULES.replace('user = "ci"\n[', 'user = "ci"\nlabels.a = "long"\n[', 1)},
        ["DIR/access.toml:4: allow 1: labels: a: expected at most 3 bytes (max-label-value), got 4"],
    ),
    (
        {"d.toml": BOTH, "web.yml": "a: 1", "access.toml": "a = 1"},
        ["DIR/web.yml:1: a: ", "DIR/access.toml: there is no key 'a'"],
    ),
]
