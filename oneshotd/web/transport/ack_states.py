"""The states of a tracked response, and what moves it from one to the next (`ack_tracker.AckTracker`).

A tracker has four inputs: Twisted asks for more of the body, Twisted reports an event of the
connection (bytes of a further request, close_notify, FIN, lost), a timer reads the kernel's send queue,
and the deadline passes. They arrive in any order, and late: a process that was stopped sees all of them in
one turn of the reactor, timers before sockets. So each handler asks the kernel first and acts on
the kernel's answer; Twisted's report is only the occasion.

The kernel's answer (`SendQueue`) is *reset* if an error waits in the socket, or if the socket is
closed (TCP_CLOSE) and the daemon has not closed it, so that Twisted has read the error. Else it is
*acknowledged* if the queue was at 0 when it was read, before the socket's state.

A reset is never an acknowledgement, whatever the size of the queue. A reset *contradicts* itself if
the peer had acknowledged everything and has sent further bytes since the response began: it may
have read the response and gone on to its next request (`further_bytes.py`). Then the events go out
again, counted as *uncertain*; without such bytes the peer has closed with the response unread.

Over TLS the lower connection, TCP, decides: FIN, reset and the queue are those of TCP, and so is the
producer's transport, since TLS takes all bytes at once. close_notify decides nothing, since Go's library
sends it before a reset, too; `tls.py` waits for the end of TCP after it. If the daemon itself has sent
close_notify after the response, that may be all that the peer has not read: a reset contradicts itself.
Whether bytes that the peer has sent are a request is known when TLS has decrypted them. So a timer that
finds a reset behind bytes that Twisted has not read lets Twisted read first, for one turn of the reactor.

=========  ============================  =========================================================
state      input                         next state, and action
=========  ============================  =========================================================
SENDING    asked for more, some left     SENDING, the next piece is written
SENDING    asked for more, none left     SENT
SENDING    close_notify                  SENDING, nothing more is written; lost or `tls_over` follows
SENDING    lost, closing, or deadline    ENDED: returned; connection aborted
SENT       close_notify                  SENT
SENT       acknowledged                  DELIVERED; the request is finished, not before
SENT       reset                         ENDED: returned; connection aborted
SENT       reset that contradicts        ENDED: returned as uncertain; connection aborted
SENT       deadline, or daemon aborts    ENDED: returned as uncertain; connection aborted
DELIVERED  next request (read or not)    ENDED: final
DELIVERED  close_notify                  DELIVERED
DELIVERED  FIN, or daemon aborts         ENDED: final
DELIVERED  reset                         ENDED: revoked
DELIVERED  reset that contradicts        ENDED: revoked as uncertain
DELIVERED  deadline                      OVERDUE
OVERDUE    RESET_GRACE is over           ENDED: final
OVERDUE    anything else                 as in DELIVERED
=========  ============================  =========================================================

A reset that does not contradict itself is reported as such, with `returned` or `revoked`: a scraper that
resets repeatedly may refuse one sample (`core/sampling/suspects.py`). Nothing else is a sign of that.

Invariants:

* `delivered` or `returned` is called once; after `delivered`, `revoked` or `final` once.
* The delivery's commit begins at DELIVERED. The lease is released at ENDED: until then the scraper
  gets no further events, so a revocation always finds the cursor where the delivery left it.
* Before a timer makes a delivery final, it reads the kernel's state. So a daemon that was stopped beyond
  the lease (30 s more than the timeout) still revokes: the timer is due before a socket is read.
* A FIN after DELIVERED means that the peer has read the response: a peer that closes both sides with
  bytes unread sends a reset instead. A peer that closes its sending side alone, and later the rest
  unread, loses the events (limit (f)); one whose FIN arrives before DELIVERED does not.
* A kill between DELIVERED and the commit repeats the delivery; a kill between a reset and the
  commit of its revocation loses it (limits (a) and (e) in docs/semantics.md).

After a FIN of either side Twisted does not read the socket any more: then a timer checks for a reset.

If the queue cannot be read (no Linux, no socket), SENT counts as DELIVERED. The queue of a Unix socket
is at 0 only when the peer has read everything, and TLS of another class than `tls.TLSConnection` hides
the end of TCP: in both cases DELIVERED is final at once.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """See the table in the module's docstring."""

    SENDING = auto()
    SENT = auto()
    DELIVERED = auto()
    OVERDUE = auto()
    ENDED = auto()
