"""The text of ``oneshot-emit --help``, and the exit statuses that it explains."""

from __future__ import annotations

from oneshotd.emit.answers import EmitDenied, EmitError, EmitRefused

OK = 0
REFUSED = 1
USAGE = 2
UNREADABLE = 2
#: EX_TEMPFAIL of sysexits.h: a later attempt may succeed.
UNAVAILABLE = 75
#: EX_NOPERM of sysexits.h: another credential is needed.
DENIED = 77
#: As env, nice and timeout: the wrapper failed, not the command.
NOT_RUN = 125
#: As a shell: Ctrl-C.
INTERRUPTED = 130

HELP = """\
oneshot-emit sends events to oneshotd. Every Prometheus that scrapes it gets each event once.

    oneshot-emit [OPTIONS] NAME=VALUE...                            one event
    oneshot-emit [OPTIONS] --exec [NAME=VALUE...] -- COMMAND...     how a command ended
    oneshot-emit [OPTIONS] [NAME=VALUE...] -                        one event for each line read

Examples

    oneshot-emit type=deploy version=1.2
        An event without a value: one occurrence of these labels.

    oneshot-emit type=backup task=nightly --value 37.5
        An event with a value: seconds, bytes, a temperature.

    oneshot-emit type=payment --id order-4711 --retry 5m
        Retries for 5 minutes. The event counts once, also if it arrives twice.

    oneshot-emit --exec type=cron task=backup -- /usr/local/bin/backup --all
        Runs the command, with the command's output and exit status. Then sends one event with the
        labels status ("ok", "failed" or "killed") and exit_code, and the seconds as its value.

    oneshot-emit --http http://a:8090 --http http://b:8090 type=deploy
        Sends to a; if a does not answer, to b. Both are daemons over one PostgreSQL.

    tail -F events.log | oneshot-emit host=web1 -
        Sends each line, such as type=login&user=kim, as an event; adds the label host.

    oneshot-emit --udp localhost:8090 type=tick
        Sends a datagram and does not wait. Datagrams have no answer: a loss is not noticed.

Use the labels task and host rather than job and instance: Prometheus adds its own job and instance,
and renames the event's to exported_job and exported_instance.

Options

    --value NUMBER      the event's value; without it the event is one occurrence
    --id KEY            idempotency key: events with the same key count once within the
                        daemon's hold (an hour)
    --http URL          send over HTTP: http://HOST:PORT or https://HOST. Give it again for each
                        further daemon over the same store: the next is tried, with the same key,
                        if one is not reached, does not answer or answers 5xx; adds a key
    --udp HOST:PORT     send datagrams
    --retry DURATION    retry for so long (500ms, 90s, 5m, 1h); adds a key if there is none.
                        With --exec, the command's caller waits as well.
    --timeout DURATION  for one attempt, at all addresses together (default: 5s, with --exec 2s)
    --token-file FILE   send the bearer token in the file's first line
    --ca-file FILE      for https: trust the authorities in this PEM file, not the system's
    --cert FILE         for https: the client's certificate and its chain (PEM)
    --key FILE          its key (PEM, not encrypted), if that is not in the same file
    --config FILE       read this file, which must exist, instead of /etc/oneshotd/emit.toml
    --help, --version

The daemon's URL is that of --http or --udp, else $ONESHOTD_URL, else url in
/etc/oneshotd/emit.toml, else http://localhost:8090. Several URLs are separated by blanks in
$ONESHOTD_URL, and an array in emit.toml. Likewise the files: $ONESHOTD_TOKEN_FILE,
$ONESHOTD_CA_FILE, $ONESHOTD_CERT, $ONESHOTD_KEY, or token-file, ca-file, cert, key in emit.toml,
where a relative path begins at the folder of emit.toml. They are not used for another daemon than
those of the url beside them.

Exit status

    0     stored on the daemon's disk (UDP: sent)
    1     refused, for the reason on standard error; with -, the other lines were sent
    2     the command line, the settings or a file that they name are wrong
    75    the daemon could not be reached, was busy or did not answer: try again later
    77    the daemon refuses the credential, or asks for one (401, 403)
    With --exec it is the command's exit status: 128 + N if signal N killed the command, 126 if it
    cannot be run, 127 if it is not found; 125 if this command line is wrong. Whether the event
    was sent does not change it.
"""


def status_of(error: EmitError) -> int:
    """Return the exit status for an event that is not known to be stored."""
    if isinstance(error, EmitDenied):
        return DENIED
    return REFUSED if isinstance(error, EmitRefused) else UNAVAILABLE
