"""Whether a worker is to end, and by when. Signals to stop are counted here."""

from __future__ import annotations

import signal

from bgtasks import conf
from bgtasks.clock import elapsed

# A second signal to stop that comes within so many seconds counts as the first one: if it is
# another signal, and if it is the same one. A terminal and a process manager may each pass on one
# Ctrl-C, usually as SIGINT and as SIGTERM.
TWICE, SAME_TWICE = 1.0, 0.1
# The seconds that a worker has after the grace period to take back its rows and to leave. A slow
# database needs them; one that has ceased to answer would need more at any rate.
LEAVING = 5.0
# The longest timer in seconds, a year. A grace period may be infinite, but no timer of the system.
LONGEST_TIMER = 365 * 86400.0


class Stop:
    """The end of a worker.

    Attributes:
        wanted: whether it is to start no more rows, and to end.
        deadline: when the grace period of running tasks ends, by `elapsed`; None if they may take
            as long as they need.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.deadline: float | None = None
        self._at, self._by = 0.0, 0  # when the first signal to stop came, and which it was

    def signalled(self, signum: int) -> None:
        """Begin the grace period; if a second signal comes, end it. Safe in a signal handler.

        The system sends SIGALRM `LEAVING` seconds after the grace period, whatever this process
        waits for by then.
        """
        self.wanted = True
        now = elapsed()
        if self.deadline is None:
            self._at, self._by = now, signum
            self.deadline = now + conf.grace()
        elif now < self.deadline and now - self._at > (SAME_TWICE if signum == self._by else TWICE):
            self.deadline = now
        else:  # a third signal puts nothing off
            return
        signal.setitimer(signal.ITIMER_REAL, min(self.deadline - now + LEAVING, LONGEST_TIMER))
