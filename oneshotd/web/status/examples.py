"""Commands and configuration that a client can copy: with addresses that work for it, and the kind of
credential that the daemon asks for.
"""

from __future__ import annotations

from attrs import frozen

from oneshotd.access.policy import Credential


@frozen(kw_only=True)
class Examples:
    """The examples for one client.

    :param scheme: ``http`` or ``https``.
    :param host: ``host[:port]`` of its request, checked.
    :param path: prefix of all paths, as ``/oneshotd`` behind a proxy.
    :param udp: port for datagrams; None: the daemon takes none.
    :param emitter, scraper, admin: one of these a client sends that emits, scrapes, or changes the daemon's
        state; empty: nothing.
    """

    scheme: str
    host: str
    path: str = ""
    udp: int | None = None
    emitter: frozenset[Credential] = frozenset()
    scraper: frozenset[Credential] = frozenset()
    admin: frozenset[Credential] = frozenset()

    @property
    def _url(self) -> str:
        """Return the URL; the percent sign of a zone is escaped (RFC 6874)."""
        return f"{self.scheme}://{self.host.replace('%', '%25')}{self.path}"

    @property
    def curl(self) -> str:
        """Return a command that sends one event; with a credential it has two lines."""
        gap = " \\\n  " if self.emitter else " "
        return f"{_curl(self.emitter)}{gap}{self._post}"

    @property
    def _post(self) -> str:
        return f'-X POST "{self._url}/event?type=deploy&version=1.2"'

    @property
    def trial(self) -> str:
        """Return a command that tries the payload of a webhook."""
        return f"{_curl(self.admin)} --data-binary @payload.json \\\n  {self._url}/api/v1/try-hook/NAME"

    @property
    def datagram(self) -> str:
        """Return a command that sends one event by UDP."""
        return f'echo "type=backup&value=37.5" > /dev/udp/{_bare(self.host)}/{self.udp}'

    @property
    def command(self) -> str:
        """Return a command that reports the end of another one."""
        url, token = self._url, ""
        if Credential.TOKEN in self.emitter:
            token = " \\\n  ONESHOTD_TOKEN_FILE=oneshotd.token"
        elif Credential.USER in self.emitter:
            url = url.replace("://", "://USER:PASSWORD@")
        return f"ONESHOTD_URL={url}{token} \\\n  oneshot-emit --exec type=cron task=backup -- true"

    @property
    def scrape_config(self) -> str:
        """Return a part of ``prometheus.yml``."""
        tls = "    scheme: https\n" if self.scheme == "https" else ""
        below = f"    metrics_path: {self.path}/metrics\n" if self.path else ""
        port = "" if self.host.rpartition("]")[2].count(":") else (":443" if tls else ":80")
        return (
            "scrape_configs:\n"
            "  - job_name: oneshotd\n"
            f"{tls}{below}{_IN_PROMETHEUS[_usual(self.scraper)]}"
            "    scrape_interval: 15s\n"
            "    params:\n"
            "      scraper: [prometheus-a]\n"
            "      # and each limit that the job has, for instance\n"
            '      # sample_limit: ["5000"]\n'
            "    static_configs:\n"
            f'      - targets: ["{self.host}{port}"]\n'
        )

    def welcome(self) -> bytes:
        """Return the endpoints in plain text."""
        url, emit, scrape = self._url, _curl(self.emitter), _curl(self.scraper)
        lines = [
            "oneshotd delivers each event once to each Prometheus scraper.",
            "",
            f"one event     {emit} {self._post}",
            f'many events   {emit} --data-binary @events.txt "{url}/events"',
            f'scrape        {scrape} "{url}/metrics?scraper=NAME"',
            f'look only     {scrape} -I "{url}/metrics?scraper=NAME"',
            f"status page   {url}/ in a browser",
            f"health        {url}/healthz and {url}/readyz",
        ]
        if self.udp is not None:
            lines += ["", "Events can also be sent by UDP, as lines of the form type=deploy&version=1.2."]
        return "".join(f"{line}\n" for line in lines).encode()


#: What curl needs: it asks for the password. A token comes from the environment.
_IN_CURL = {
    None: "",
    Credential.USER: " --user USER",
    Credential.TOKEN: ' -H "Authorization: Bearer $TOKEN"',
}

_IN_PROMETHEUS = {
    None: "",
    Credential.USER: (
        "    basic_auth:\n      username: USER\n      password_file: /etc/prometheus/oneshotd.password\n"
    ),
    Credential.TOKEN: "    authorization:\n      credentials_file: /etc/prometheus/oneshotd.token\n",
}


def _curl(credentials: frozenset[Credential]) -> str:
    return f"curl{_IN_CURL[_usual(credentials)]}"


def _usual(credentials: frozenset[Credential]) -> Credential | None:
    """Return the credential that people have: who has a token knows how to use it."""
    if Credential.USER in credentials:
        return Credential.USER
    return next(iter(credentials), None)


def _bare(host: str) -> str:
    """Return the host without its port, an IPv6 address without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
