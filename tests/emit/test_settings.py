"""Which daemon `oneshot-emit` talks to, and for how long."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.daemon import config
from oneshotd.emit import settings as emit_settings
from oneshotd.emit.settings import Settings, SettingsError, Target, settings, target

ETC = Path(__file__).resolve().parents[2] / "etc"


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The usual file, in a place of the test's own."""
    path = tmp_path / "emit.toml"
    monkeypatch.setattr(emit_settings, "FILE", str(path))
    return path


def url(chosen: Settings) -> str:
    return str(chosen.target)


def test_without_anything_it_is_the_daemon_on_this_machine() -> None:
    """`oneshot-emit type=test` would need options on a fresh machine."""
    chosen = settings({})
    assert (url(chosen), chosen.timeout, chosen.retry) == ("http://localhost:8090", 5.0, 0.0)


def test_command_line_over_environment_over_file(file: Path) -> None:
    """What is said nearest to the event would be overruled from afar."""
    file.write_text('url = "http://file:1"\ntimeout = "9s"\nretry = "1m"\n')
    environ = {"ONESHOTD_URL": "http://environment:1"}
    assert url(settings(environ, url="http://given:1")) == "http://given:1"
    assert url(settings(environ)) == "http://environment:1"
    assert url(settings({"ONESHOTD_URL": ""})) == "http://file:1"
    assert settings({})[1:3] == (9.0, 60.0)
    assert settings({}, timeout=1.0, retry=0.0)[1:3] == (1.0, 0.0)


def test_several_addresses_of_each_source(file: Path) -> None:
    """Events would go to the first one only, and be lost with it."""
    both = ["http://a:1", "http://b:2"]
    file.write_text(f"url = {both}\n")
    assert [*map(str, settings({}).targets)] == both
    assert [*map(str, settings({"ONESHOTD_URL": "http://c:1  http://d:1"}).targets)] == [
        *("http://c:1", "http://d:1")
    ]
    assert [*map(str, settings({"ONESHOTD_URL": "http://c:1"}, url=both).targets)] == both
    assert [*map(str, settings({"ONESHOTD_URL": "http://c:1"}).targets)] == ["http://c:1"]


def test_the_file_with_a_udp_address_needs_no_other_retry(file: Path) -> None:
    """A machine's `retry` would make `--udp` fail."""
    file.write_text('retry = "1m"\n')
    assert settings({}, url="udp://h:1").retry == 0.0


def test_the_usual_timeout_gives_way_to_the_file(file: Path) -> None:
    """`--exec` has a shorter one, and nobody could change it for a machine."""
    assert settings({}, usual_timeout=2.0).timeout == 2.0
    file.write_text('timeout = "9s"\n')
    assert settings({}, usual_timeout=2.0).timeout == 9.0


def test_the_example_file_shows_the_defaults(file: Path) -> None:
    """Uncommenting a line of the example would change a default."""
    lines = (ETC / "emit.toml").read_text(encoding="utf-8").splitlines()
    options = [
        line[1:] for line in lines if line.startswith("#") and not line.startswith("# ") and line != "#"
    ]
    assert set(tomllib.loads("\n".join(options))) == {"url", "timeout", "retry", *emit_settings.FILES}
    before = settings({})
    file.write_text("\n".join(options))
    assert settings({}) == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("url = 3", "{file}: url: expected a text in quotes, or an array of them, got 3"),
        ('url = ["http://a", 3]', "{file}: url: expected a text in quotes, or an array of them, got ["),
        ("url = []", "{file}: url: expected a URL"),
        ('url = ["http://a", "http://b", "http://a:80/"]', "{file}: url: http://a:80 is given twice"),
        ('url = ["http://a", "udp://b"]', "{file}: url: udp://b:8090 never answers, so no other address"),
        ("timeout = 3", "{file}: timeout: expected a text in quotes, got 3"),
        ('url = "localhost"', "{file}: url: expected http://HOST:PORT"),
        ('timeout = "5"', "{file}: timeout: expected a duration such as 500ms, 90s, 5m, 1h or 1d, got '5'"),
        ('timeout = "0s"', "{file}: timeout: expected a duration"),
        ('host = "x"', "{file}: there is no 'host', expected one of url, timeout, retry"),
        ("=", "{file}: Invalid statement"),
        ('url = "\x00"', "{file}: "),
    ],
)
def test_a_wrong_file_is_told_with_its_name(file: Path, text: str, why: str) -> None:
    """An operator would look for the error on the command line."""
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings({})
    assert str(caught.value).startswith(why.format(file=file))
    assert "\n" not in str(caught.value)


def test_the_usual_file_may_be_missing_but_not_one_that_was_named(tmp_path: Path) -> None:
    """A typing error in `--config` would send events to another machine."""
    with pytest.raises(SettingsError, match="No such file"):
        settings({}, file=str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "http://h:1", "timeout": 0.0}, "timeout: expected seconds above 0"),
        ({"url": "http://h:1", "timeout": float("nan")}, "timeout: expected seconds above 0"),
        ({"url": "http://h:1", "retry": -1.0}, "retry: expected seconds from 0"),
        ({"url": "udp://h:1", "retry": 1.0}, "retry: udp://h:1 never answers"),
    ],
)
def test_a_wrong_argument_is_told(given: dict[str, float], why: str) -> None:
    """A program would wait for ever, or not at all."""
    with pytest.raises(SettingsError, match="^" + why):
        settings({}, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h:8090", Target("http", "h", 8090, "", None)),
        ("http://h:8090/", Target("http", "h", 8090, "", None)),
        ("http://h/one/shot/", Target("http", "h", 80, "/one/shot", None)),
        ("https://h", Target("https", "h", 443, "", None)),
        ("http://[2001:db8::7]:1", Target("http", "2001:db8::7", 1, "", None)),
        ("http://[fe80::1%eth0]:1", Target("http", "fe80::1%eth0", 1, "", None)),
        ("http://[fe80::1%25eth0]:1/", Target("http", "fe80::1%eth0", 1, "", None)),
        ("udp://[fe80::1%25Eth0]", Target("udp", "fe80::1%Eth0", 8090, "", None)),
        ("http://[fe80::1%252]:1", Target("http", "fe80::1%2", 1, "", None)),
        ("https://kim:a%40b@h:1", Target("https", "h", 1, "", "kim:a@b")),
        ("udp://h:1", Target("udp", "h", 1, "", None)),
        ("udp://h", Target("udp", "h", 8090, "", None)),
        ("udp://192.0.2.7:1/", Target("udp", "192.0.2.7", 1, "", None)),
    ],
)
def test_urls(text: str, expected: Target) -> None:
    """Events would go elsewhere."""
    assert target(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "localhost:8090",
            "h",
            "ftp://h",
            "http://",
            "udp://",
            "http://[::1",
            "http://hé",
            "http://h x",
        ),
        *("http://h:x", "http://h:99999", "http://h:0", "http://h/event?a=b", "http://h#x"),
        *("udp://h:1/path", "udp://kim@h:1", "http://h:1/\r\nX: y"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A slip would be sent somewhere, or into the request's head."""
    with pytest.raises(ValueError, match=r"^expected http://HOST:PORT"):
        target(text)


def test_a_password_is_never_shown() -> None:
    """It would stand in the mail that cron sends."""
    assert "secret" not in str(target("http://kim:secret@h:1"))
    with pytest.raises(ValueError, match=r"got something else"):
        target("http://kim:secret@h:x")


def test_a_login_becomes_a_header() -> None:
    """A daemon behind a proxy with a password could not be reached (RFC 7617, its example)."""
    given = target("http://Aladdin:open%20sesame@h")
    assert given.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert target("http://h").authorization is None


@given(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2})?(ms|s|m|h|d|)", fullmatch=True) | st.text(max_size=4))
def test_durations_are_those_of_the_daemon(text: str) -> None:
    """`5m` would be five minutes there and something else here."""

    def emitter() -> float | None:
        try:
            return emit_settings._duration("emit.toml", {"timeout": text}, "timeout", 5.0)
        except SettingsError:
            return None

    def daemon() -> object:
        try:
            return config.OPTIONS["hold"].parse(text)
        except ValueError:
            return None

    assert emitter() == daemon()


def test_no_retry_can_be_said(file: Path) -> None:
    """A machine's `retry` could not be taken back."""
    file.write_text('retry = "0s"\n')
    assert settings({}).retry == 0.0


@pytest.mark.parametrize("percent", ["%", "%25"])
def test_a_zone_stays_on_this_machine(percent: str) -> None:
    """It names one of our interfaces; the daemon, or a certificate, knows nothing of it (RFC 6874)."""
    where = target(f"https://[fe80::1{percent}eth0]:1/x")
    assert (where.host, where.address, where.name) == ("fe80::1%eth0", "[fe80::1]:1", "fe80::1")
    assert str(where) == "https://[fe80::1%25eth0]:1/x"
    assert target(str(where)) == where
