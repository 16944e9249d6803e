"""What ``oneshot-emit --help`` says, and the exit statuses that it explains."""

from __future__ import annotations

OK = 0
REFUSED = 1
USAGE = 2
UNREADABLE = 2
#: EX_TEMPFAIL of sysexits.h: trying later may help.
UNAVAILABLE = 75
#: As env, nice and timeout have it: the wrapper is at fault, not the command.
NOT_RUN = 125
#: As a shell has it: Ctrl-C.
INTERRUPTED = 130

HELP = """\
oneshot-emit tells oneshotd that something happened. Every Prometheus that scrapes gets it, once.

    oneshot-emit [OPTIONS] NAME=VALUE...                            one event
    oneshot-emit [OPTIONS] --exec [NAME=VALUE...] -- COMMAND...     how a command ended
    oneshot-emit [OPTIONS] [NAME=VALUE...] -                        one event for each line read

Examples

    oneshot-emit type=deploy version=1.2
        Something happened. Its labels say what; there is no number.

    oneshot-emit type=backup task=nightly --value 37.5
        With a number: seconds, bytes, a temperature.

    oneshot-emit type=payment --id order-4711 --retry 5m
        Must arrive: tries again for 5 minutes, and counts once, also if it arrives twice.

    oneshot-emit --exec type=cron task=backup -- /usr/local/bin/backup --all
        Runs the command; output and exit status are its own. Afterwards one event says
        status="ok", "failed" or "killed", the exit_code, and as its value the seconds it took.

    tail -F events.log | oneshot-emit host=web1 -
        Each line is an event, type=login&user=kim, here with one label more.

    oneshot-emit --udp localhost:8090 type=tick
        Throws a datagram and does not wait: nobody says whether it arrived.

Labels are called task rather than job, and host rather than instance: Prometheus has a job and an
instance of its own, and would show the event's as exported_job and exported_instance.

Options

    --value NUMBER      the event's value; without one it stands for one occurrence
    --id KEY            the same key within the daemon's hold (an hour) counts once
    --http URL          where the daemon is: http://HOST:PORT or https://HOST
    --udp HOST:PORT     the same, for datagrams
    --retry DURATION    go on trying for so long (500ms, 90s, 5m, 1h); makes a key where there is
                        none. With --exec, the command's caller waits as well.
    --timeout DURATION  for one attempt: 5s, with --exec 2s
    --config FILE       instead of /etc/oneshotd/emit.toml, which may not exist
    --help, --version

The daemon is where --http or --udp says, else ONESHOTD_URL in the environment, else url in
/etc/oneshotd/emit.toml, else http://localhost:8090.

Exit status

    0     stored on the daemon's disk (UDP: sent)
    1     refused, for the reason on standard error; of lines: some were refused, the others sent
    2     the command line or the settings are wrong
    75    the daemon was not there or did not answer: try later
    With --exec it is the command's own: 128 + N where signal N killed it, 126 where it cannot be
    run, 127 where it is not found; 125 where this command line is wrong. What becomes of the
    report is never seen in it.
"""
