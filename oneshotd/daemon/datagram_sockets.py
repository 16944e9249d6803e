"""Datagram sockets beside those of UDP: a UNIX socket with a file, and one that systemd has opened."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import cast

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, quoteStringArgument, serverFromString
from twisted.logger import Logger

from oneshotd.daemon.option_values import SystemdSocket, UnixAddress
from oneshotd.errors import OneshotError

_log = Logger()

#: Identifies a file: device and inode.
_Identity = tuple[int, int]


class UnixDatagramSocket(socket.socket):
    """A datagram socket at a path; `close` removes its file.

    A file that another daemon has put there meanwhile stays.
    """

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.setblocking(False)
        self._path = ""
        self._identity: _Identity | None = None

    def bind_file(self, path: str, mode: int) -> None:
        """Bind to a path, where nothing is, with these permissions."""
        self._path = os.path.abspath(path)
        before = os.umask(0o777 & ~mode)  # so that the file never has other permissions
        try:
            self.bind(self._path)
        finally:
            os.umask(before)
        self._identity = _identity(self._path)

    def close(self) -> None:
        """Remove the file and close the socket; a second call does nothing."""
        if self._identity is not None:
            try:
                if _identity(self._path) == self._identity:
                    os.unlink(self._path)
            except OSError as error:  # systemd has removed the folder, or the user may not remove the file
                if error.errno != errno.ENOENT:
                    _log.warn(
                        "UDP: the file of unix:{path} stays: {error}", path=self._path, error=error.strerror
                    )
            self._identity = None
        super().close()


def unix_socket(address: UnixAddress) -> UnixDatagramSocket:
    """Return a bound, non-blocking socket; the file of a daemon that was killed is replaced.

    :raises OneshotError: the address and the reason.
    """
    sock = UnixDatagramSocket()
    try:
        if _is_stale(address):
            os.unlink(address.path)
        sock.bind_file(address.path, address.mode)
    except OSError as error:
        sock.close()
        raise _cannot(address, error) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _is_stale(address: UnixAddress) -> bool:
    """Return whether a socket without a process is at the path; False: there is nothing.

    :raises OneshotError: there is another file, or a process receives at the socket.
    """
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise OneshotError(f"UDP: {address}: expected a socket or no file, found another file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            return True
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:  # a stream socket of another program
                raise
    raise OneshotError(f"UDP: {address} is in use")


def systemd_socket(address: SystemdSocket) -> socket.socket:
    """Return a non-blocking socket that systemd has passed; systemd keeps it, and its file.

    :raises OneshotError: there is none of this name, or it is not for datagrams.
    """
    try:
        # Twisted reads the variables of systemd once, and deletes them: its endpoints alone know the names.
        endpoint = serverFromString(None, f"systemd:domain=UNIX:name={quoteStringArgument(address.name)}")
    except LookupError as error:
        raise OneshotError(f"UDP: {address}: systemd has passed no such socket ($LISTEN_FDS)") from error
    try:
        sock = socket.socket(fileno=os.dup(cast(AdoptedStreamServerEndpoint, endpoint).fileno))
    except OSError as error:
        raise OneshotError(f"UDP: {address}: {error.strerror}") from error
    if sock.type != socket.SOCK_DGRAM:
        sock.close()
        raise OneshotError(f"UDP: {address}: expected a datagram socket (ListenDatagram=), got another one")
    sock.setblocking(False)
    return sock


def _identity(path: str) -> _Identity:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _cannot(address: UnixAddress, error: OSError) -> OneshotError:
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror or error}"
    return OneshotError(f"UDP: {address} {why}")
