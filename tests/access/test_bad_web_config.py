"""Bad web configuration files: each error names file, line and key, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.web_configs import error_of

SALT_AND_HASH = "X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
HASH = f"$2y$10${SALT_AND_HASH}"

HEADERS = "http_server_config:\n  headers:\n"
USERS = "basic_auth_users:\n"
LIMIT = "rate_limit:\n"
ONE_LINE = "expected printable ASCII characters on one line, at most 8192, got others"
NO_HASH = "expected a bcrypt hash, which starts with $2a$, $2b$ or $2y$; htpasswd -nB USER makes one"
OLD_HASH = "expected a bcrypt hash that starts with $2a$, $2b$ or $2y$, got an older form"
STRANGE_HASH = "not a bcrypt hash: it has characters that none has"
COST = "expected a bcrypt hash with a cost from 4 to 18, got"
NAME = "expected a name without colons and control characters"
NO_BURST = "expected a burst of at least 1: with 0, every request would be refused"
DURATION = "expected a duration such as 1s, 100ms or 1m30s, or 0 for none, got"


def alice(text: str) -> str:
    return f"{USERS}  alice: {text}\n"


STRUCTURE = [
    ("- a\n", "1: expected a mapping of keys, got a list"),
    ("hWkNKCp3fvIx3jKnsaBI\n", "1: expected a mapping of keys, got a text"),
    ("tls_config: {}\n", "1: tls_config: unknown key (tls_server_config?)"),
    ("TLS_SERVER_CONFIG: {}\n", "1: TLS_SERVER_CONFIG: unknown key (tls_server_config?)"),
    ("rate_limit: {}\nrate_limit: {}\n", "2: rate_limit: repeated key, first in line 1"),
    ("tls_server_config: []\n", "1: tls_server_config: expected a mapping of keys, got a list"),
    ("http_server_config: yes\n", "1: http_server_config: expected a mapping of keys, got a text"),
    ("basic_auth_users: [alice]\n", "1: basic_auth_users: expected a mapping of keys, got a list"),
    ("rate_limit: 1s\n", "1: rate_limit: expected a mapping of keys, got a text"),
]

HTTP = [
    ("http_server_config: {http3: true}\n", "1: http_server_config.http3: unknown key (http2?)"),
    ("http_server_config: {http2: 2}\n", "1: http_server_config.http2: expected true or false, got '2'"),
    (
        HEADERS + "    Content-Type: foo\n",
        "3: http_server_config.headers.Content-Type: unknown key (X-Content-Type-Options?)",
    ),
    (
        HEADERS + "    x-frame-options: deny\n",
        "3: http_server_config.headers.x-frame-options: unknown key (X-Frame-Options?)",
    ),
    (
        HEADERS + "    X-Frame-Options: DENY\n",
        "3: http_server_config.headers.X-Frame-Options: expected deny or sameorigin, got 'DENY'",
    ),
    (
        HEADERS + "    X-Content-Type-Options: sniff\n",
        "3: http_server_config.headers.X-Content-Type-Options: expected nosniff, got 'sniff'",
    ),
    (
        HEADERS + '    X-XSS-Protection: "1\\r\\nSet-Cookie: a=b"\n',
        f"3: http_server_config.headers.X-XSS-Protection: {ONE_LINE}",
    ),
    (
        HEADERS + "    Content-Security-Policy: é\n",
        f"3: http_server_config.headers.Content-Security-Policy: {ONE_LINE}",
    ),
    (
        HEADERS + f"    Content-Security-Policy: {'a' * 8193}\n",
        f"3: http_server_config.headers.Content-Security-Policy: {ONE_LINE}",
    ),
]

BAD_USERS = [
    (alice("doe"), f"2: basic_auth_users.alice: {NO_HASH}"),
    (alice(""), f"2: basic_auth_users.alice: {NO_HASH}"),
    (alice("[a]"), "2: basic_auth_users.alice: expected a text, got a list"),
    (alice("$5$rounds=1000$abc$def"), f"2: basic_auth_users.alice: {NO_HASH}"),
    (alice(HASH.replace("$2y", "$2x")), f"2: basic_auth_users.alice: {OLD_HASH}"),
    (alice(HASH.replace("$2y", "$2")), f"2: basic_auth_users.alice: {OLD_HASH}"),
    (alice(HASH[:-1]), "2: basic_auth_users.alice: expected a bcrypt hash of 60 characters, got 59"),
    (alice(f"|\n    {HASH}"), "2: basic_auth_users.alice: expected a bcrypt hash of 60 characters, got 61"),
    (alice(f"'{HASH[:-1]}!'"), f"2: basic_auth_users.alice: {STRANGE_HASH}"),
    (alice(HASH.replace("$10$", "$1a$")), f"2: basic_auth_users.alice: {STRANGE_HASH}"),
    (alice(HASH.replace("$10$", "$03$")), f"2: basic_auth_users.alice: {COST} 3"),
    (alice(HASH.replace("$10$", "$19$")), f"2: basic_auth_users.alice: {COST} 19"),
    (alice(HASH.replace("$10$", "$31$")), f"2: basic_auth_users.alice: {COST} 31"),
    (
        USERS + f"  alice: {HASH}\n  alice: {HASH}\n",
        "3: basic_auth_users.alice: repeated key, first in line 2",
    ),
    (USERS + f"  'a:b': {HASH}\n", f"2: basic_auth_users.'a:b': {NAME}"),
    (USERS + f'  "a\\n": {HASH}\n', f"2: basic_auth_users.'a\\n': {NAME}"),
    (USERS + f"  '': {HASH}\n", f"2: basic_auth_users.'': {NAME}"),
    (USERS + f"  {HASH}: alice\n", "1: basic_auth_users: a hash is in the place of a user's name"),
    (
        USERS + f"  {HASH}: alice\n  {HASH}: alice\n",
        "3: basic_auth_users.'$2y$10$X0h1gD...': repeated key, first in line 2",
    ),
    (USERS + f"  - alice: {HASH}\n", "1: basic_auth_users: expected a mapping of keys, got a list"),
    (f"alice: {HASH}\n", "1: alice: unknown key"),
    (
        f"http_server_config:\n  http2: {HASH}\n",
        "2: http_server_config.http2: expected true or false, got '$2y$10$X0h1gD...'",
    ),
    (f"{HASH}: alice\n", "1: '$2y$10$X0h1gD...': unknown key"),
]

LIMITS = [
    (LIMIT + "  rate: 1s\n", "2: rate_limit.rate: unknown key"),
    (LIMIT + "  burst: 20\n", "1: rate_limit: interval is missing"),
    (LIMIT + "  interval: 1s\n", f"1: rate_limit: {NO_BURST}"),
    (LIMIT + "  interval: 1s\n  burst: 0\n", f"3: rate_limit.burst: {NO_BURST}"),
    (LIMIT + "  interval: 1s\n  burst: 20.5\n", "3: rate_limit.burst: expected a whole number, got '20.5'"),
    (LIMIT + "  interval: 1s\n  burst: -1\n", "3: rate_limit.burst: expected a whole number, got '-1'"),
    (LIMIT + "  interval: 1\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} '1'"),
    (LIMIT + "  interval: -1s\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} '-1s'"),
    (LIMIT + "  interval: 1d\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} '1d'"),
    (LIMIT + "  interval: 1 s\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} '1 s'"),
    (LIMIT + "  interval: s\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} 's'"),
    (LIMIT + "  interval: 1:30\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} '1:30'"),
    (LIMIT + "  interval: ١s\n  burst: 1\n", f"2: rate_limit.interval: {DURATION} '١s'"),
    (
        LIMIT + f"  interval: {'1s' * 50}\n  burst: 1\n",
        f"2: rate_limit.interval: {DURATION} '{('1s' * 50)[:57]}...'",
    ),
]


@pytest.mark.parametrize(("text", "said"), [*STRUCTURE, *HTTP, *BAD_USERS, *LIMITS])
def test_a_bad_file_is_an_error_with_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    """A slip in the file would leave a lock open without a word, or stop the daemon without its cause."""
    error = error_of(tmp_path, text)
    assert error == said
    assert SALT_AND_HASH[9:29] not in error
