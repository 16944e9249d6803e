"""Headless Chromium, driven through the pipe of its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ ; no driver program and no library is needed.
The browser is Debian's, with what it needs beside it in the cache folder, unless the system has it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.debian_packages import fetch, fetch_with_libraries

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--lang=en",
    "--remote-debugging-pipe",
)
PATIENCE = 60.0  # seconds for one command

FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>{root}/usr/share/fonts</dir>
  <cachedir>{folder}/fonts</cachedir>
  <dir>{inter}/usr/share/fonts</dir>
  <alias binding="same"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="same"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="same"><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


class Chromium:
    """One browser with a fresh profile; as a context manager it starts, and is gone at the end.

    :param folder: for the profile and the log.
    :param trusted: a server's certificate, as a file; its key is trusted, and no other one of an authority
        that the browser does not know.
    :param login: user and password that are given to each dialog that asks for them.
    :ivar events: what it has told, of all tabs.
    """

    def __init__(
        self, folder: Path, trusted: Path | None = None, login: tuple[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.trusted = trusted
        self.login = login
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._buffer = b""

    def __enter__(self) -> Chromium:
        command, env = _browser(self.folder)
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        # The protocol's pipe is descriptors 3 and 4 of the browser.
        words = ["bash", "-c", f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}', *command, *FLAGS]
        if self.trusted is not None:
            words.append(f"--ignore-certificate-errors-spki-list={_key_hash(self.trusted)}")
        words += [f"--user-data-dir={self.folder / 'profile'}", "about:blank"]
        with (self.folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                pass_fds=(from_us, to_us),
                start_new_session=True,
            )
        os.close(from_us)
        os.close(to_us)
        self._to, self._from = to_browser, from_browser
        try:
            self.call("Browser.getVersion")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to)  # at the end of its pipe the browser ends itself, with all its processes
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait(10)
        os.close(self._from)

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """The result of one command.

        :raises AssertionError: it failed, or nothing came in time.
        """
        number = self._send(method, session, parameters)
        deadline = time.monotonic() + PATIENCE
        while True:
            came = self.receive(deadline - time.monotonic())
            assert came is not None, f"{method}: no answer; {self.log()}"
            if came.get("id") == number:
                assert "error" not in came, f"{method}: {came['error']}"
                result: dict[str, Any] = came["result"]
                return result

    def _send(self, method: str, session: str | None, parameters: Mapping[str, object]) -> int:
        """Send a command; return the number that its answer will have."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message, kept in `events` if it is one; None where none comes in time."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self._from, 1 << 20)
            assert data, f"the browser has gone; {self.log()}"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
            self._log_in(message)
        return message

    def _log_in(self, event: Mapping[str, Any]) -> None:
        """Let a request go on that the browser holds, and answer its dialog."""
        session, request = event.get("sessionId"), event["params"].get("requestId")
        if event["method"] == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", session, {"requestId": request})
        elif event["method"] == "Fetch.authRequired":
            user, password = self.login or ("", "")
            said = {"response": "ProvideCredentials", "username": user, "password": password}
            self._send(
                "Fetch.continueWithAuth", session, {"requestId": request, "authChallengeResponse": said}
            )

    def log(self) -> str:
        """The end of what it has written."""
        return (self.folder / "chromium.log").read_text(errors="replace")[-2000:]

    def page(self, *, width: int = 1200, height: int = 900, dark: bool = False, script: bool = True) -> Page:
        """A tab of its own, empty."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        page.call("Emulation.setScriptExecutionDisabled", value=not script)
        page.prefer(dark=dark)
        if self.login is not None:
            page.call("Fetch.enable", handleAuthRequests=True)
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command to this tab."""
        return self._browser.call(method, self._session, **parameters)

    def prefer(self, *, dark: bool) -> None:
        """Light or dark, as the system is set."""
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def dialogs(self) -> int:
        """Return how often this tab has asked for a user and a password."""
        self.evaluate("0")  # what was told before this answer has been read
        return sum(event["method"] == "Fetch.authRequired" for event in self.events())

    def goto(self, url: str) -> None:
        """Load the address, to the end of all that it needs."""
        seen = len(self._browser.events)
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self.events(seen)):
            assert self._browser.receive(deadline - time.monotonic()) is not None, f"{url} was not loaded"

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, key: str) -> None:
        """One key, down and up."""
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "Enter": 13}[key]
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, *, height: int | None = None) -> bytes:
        """A PNG of the page, from its top."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """What the browser has told of this tab."""
        return [event for event in self._browser.events[after:] if event.get("sessionId") == self._session]

    def complaints(self) -> list[str]:
        """Errors and warnings in its console, exceptions, and breaches of its policy."""
        self.evaluate("0")  # what was told before this answer has been read
        found = []
        for event in self.events():
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(json.dumps(params["args"]))
            elif event["method"] == "Audits.issueAdded":
                found.append(json.dumps(params["issue"]))
        return found


def _key_hash(certificate: Path) -> str:
    """Return the SHA-256 of the key of a certificate (RFC 7469 section 2.4), in base64."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode("ascii")


def _browser(folder: Path) -> tuple[list[str], Mapping[str, str]]:
    """The command and its environment."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    installed = shutil.which("chromium")
    if installed is not None:
        return [installed], env
    root = fetch_with_libraries("chromium")
    libraries = sorted({str(path.parent) for path in (root / "usr/lib").rglob("*.so*")})
    fonts = folder / "fonts.conf"
    fonts.write_text(FONTS.format(root=root, inter=fetch("fonts-inter"), folder=folder))
    env |= {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "FONTCONFIG_FILE": str(fonts)}
    return [str(root / "usr/lib/chromium/chromium")], env
