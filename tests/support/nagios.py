"""A real Nagios from Debian, without root: one host with one service, whose results a test submits."""

from __future__ import annotations

import grp
import os
import pwd
import time
from pathlib import Path
from types import TracebackType

from support.debian_packages import fetch
from support.processes import Process

#: A week without a pause, as Nagios' examples name it; the host and service of the recipe's sample.
OBJECTS = """\
define timeperiod {
  timeperiod_name 24x7
  alias always
  sunday 00:00-24:00
  monday 00:00-24:00
  tuesday 00:00-24:00
  wednesday 00:00-24:00
  thursday 00:00-24:00
  friday 00:00-24:00
  saturday 00:00-24:00
}
define command {
  command_name nothing
  command_line /bin/true
}
define host {
  host_name web-1
  address 127.0.0.1
  check_command nothing
  active_checks_enabled 0
  max_check_attempts 1
  check_period 24x7
  notification_period 24x7
  notification_interval 0
  contacts oneshotd
}
define service {
  host_name web-1
  service_description disk
  check_command nothing
  active_checks_enabled 0
  max_check_attempts 1
  check_period 24x7
  notification_period 24x7
  notification_interval 1
  contacts oneshotd
}
"""

#: The characters are the defaults of Debian's configuration. Intervals are in seconds, not minutes.
CONFIG = """\
log_file={folder}/nagios.log
cfg_file={folder}/recipe.cfg
cfg_file={folder}/objects.cfg
object_cache_file={folder}/objects.cache
status_file={folder}/status.dat
state_retention_file={folder}/retention.dat
temp_file={folder}/nagios.tmp
temp_path={folder}
lock_file={folder}/nagios.pid
check_result_path={folder}/results
command_file={folder}/commands
query_socket={folder}/nagios.qh
check_external_commands=1
nagios_user={user}
nagios_group={group}
interval_length=1
illegal_macro_output_chars=`~$&|'"<>
illegal_object_name_chars=`~!$%^&*|'"<>?,()=
notification_timeout=30
check_for_updates=0
use_syslog=0
"""


class Nagios:
    """A server; as a context manager it starts, and is killed at the end.

    :param recipe: the commands, and the contact `oneshotd`.
    :param env: of the commands that it runs.
    """

    def __init__(self, folder: Path, recipe: str, env: dict[str, str]) -> None:
        self.folder = folder
        self._recipe = recipe
        program = fetch("nagios4-core") / "usr/sbin/nagios4"
        self.process = Process("nagios4", (str(program), str(folder / "nagios.cfg")), folder, env)

    def __enter__(self) -> Nagios:
        (self.folder / "results").mkdir(parents=True)
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        config = CONFIG.format(folder=self.folder, user=user, group=group)
        for name, text in (("nagios", config), ("objects", OBJECTS), ("recipe", self._recipe)):
            (self.folder / f"{name}.cfg").write_text(text, encoding="utf-8")
        self.process.start((self.folder / "commands").exists)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Its workers end with it.
        self.process.stop()

    def submit(self, status: int, text: str) -> None:
        """Submit a result of the service: 0 is OK, 2 is CRITICAL."""
        line = f"[{int(time.time())}] PROCESS_SERVICE_CHECK_RESULT;web-1;disk;{status};{text}\n"
        (self.folder / "commands").write_text(line)

    def notifications(self) -> int:
        """Return how many notifications it has sent."""
        log = self.folder / "nagios.log"
        return log.read_text(errors="replace").count("SERVICE NOTIFICATION:") if log.exists() else 0
