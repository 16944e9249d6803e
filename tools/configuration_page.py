"""Print docs/configuration.md from the daemon's option table.

    python -m tools.configuration_page > docs/configuration.md

tests/test_configuration_page.py compares the page with the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from oneshotd.daemon.config import OPTIONS, Option

HEAD = """\
# Configuration

Every option of `twistd oneshot`. Made from the option table by `python -m tools.configuration_page`;
do not edit it here.

An option is given on the command line (`--max-events 5000`), or in a TOML file that `--config FILE` names
(`max-events = 5000`). The command line wins over the file, the file over the environment. An option that
may be repeated is a list in the file. `etc/oneshotd.toml` is a file with every option, commented out.

Durations: `500ms`, `90s`, `5m`, `1h`, `1d`. Sizes: bytes, or `512K`, `64M`, `1G` (K is 1024). A network is
written in CIDR notation, `192.0.2.0/24`; a single address is a network, too.

| option | value | default | meaning |
|---|---|---|---|
"""

ENVIRONMENT = """
## Environment

| variable | meaning |
|---|---|
| `LOG_LEVEL` | the log level, where no option says it |
| `STATE_DIRECTORY` | the folder of the store, where no option says it; systemd sets it |
| `USE_EXPLICIT_TIMESTAMPS` | `true`: as `--timestamps event` |
| `NOTIFY_SOCKET`, `WATCHDOG_USEC` | the service manager that is told of start, life and end: sd_notify(3) |
| `LISTEN_FDS`, `LISTEN_FDNAMES` | sockets that the service manager passes on: systemd.socket(5) |
| `JOURNAL_STREAM` | if standard output is the journal, each log line begins with its level: sd-daemon(3) |
"""


def page() -> str:
    return HEAD + "\n".join(_rows()) + "\n" + ENVIRONMENT


def _rows() -> Iterator[str]:
    yield "| `--config` | FILE | none | a TOML file with the options below |"
    for name, option in OPTIONS.items():
        repeats = "; may be repeated" if option.repeats else ""
        unit = (option.unit or "switch").replace("|", "\\|")
        yield f"| `--{name}` | {unit} | {_default(option)} | {option.help}{repeats} |"


def _default(option: Option) -> str:
    if isinstance(option.default, bool):
        return "off"
    texts = [option.default] if isinstance(option.default, str) else option.default
    return ", ".join(f"`{text}`" for text in texts if text) or "none"


if __name__ == "__main__":
    print(page(), end="")
