"""A fake of the kernel's send queue; `test_socket_state.py` compares it with a real one, step by step."""

from __future__ import annotations

from oneshotd.web.transport.socket_state import PeerState


class FakeQueue:
    """A send queue with the kernel's answers after the steps so far.

    :ivar left: bytes that the peer has not acknowledged.
    :ivar resets_on_kill: the kernel resets the connection if this process is killed.
    :ivar silent: the kernel does not tell anything any more.
    """

    def __init__(self, is_tcp: bool = True) -> None:
        self.is_tcp = is_tcp
        self.closed = self.silent = self.resets_on_kill = False
        self.left = self.unread_bytes = self._segments = 0
        self._state = PeerState.OPEN if is_tcp else PeerState.ENDED
        self._we_finished = self._peer_finished = False

    # Steps

    def written(self, size: int) -> None:
        self.left += size

    def taken(self) -> None:
        """The peer acknowledges everything (over a Unix socket: it reads everything)."""
        self.left = 0

    def peer_finishes(self) -> None:
        """The peer sends its FIN, and acknowledges the daemon's if there was one."""
        self._peer_finished = True
        self._end()

    def peer_resets(self) -> None:
        """The peer closes with bytes unread, or gets bytes after it has closed."""
        self._state = PeerState.RESET
        if not self.is_tcp:
            self.left = 0

    def reset_is_read(self) -> None:
        """Twisted reads the error, which the socket then has no more."""
        assert self._state is PeerState.RESET
        self._state = PeerState.ENDED

    def peer_speaks(self) -> None:
        """The peer sends bytes; after the daemon has closed, its kernel resets the connection."""
        self._segments += self.is_tcp
        if self._we_finished and self.is_tcp:
            self._state = PeerState.RESET

    def we_finish(self) -> None:
        """Twisted closes its descriptor."""
        self._we_finished = True
        self._end()

    def _end(self) -> None:
        if self._we_finished and self._peer_finished and self._state is PeerState.OPEN:
            self._state = PeerState.ENDED

    # The interface of SendQueue

    def unacknowledged(self) -> int | None:
        assert not self.closed
        return None if self.silent else self.left

    def state(self) -> PeerState:
        assert not self.closed
        return PeerState.ENDED if self.silent else self._state

    def segments_received(self) -> int | None:
        assert not self.closed
        return None if self.silent else self._segments

    def unread(self) -> int:
        assert not self.closed
        return 0 if self.silent else self.unread_bytes

    def set_reset_on_kill(self, yes: bool) -> None:
        assert not self.closed
        self.resets_on_kill = yes

    def close(self) -> None:
        assert not self.closed
        self.closed = True
