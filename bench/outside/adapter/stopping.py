"""Whether the adapter is to end."""

from __future__ import annotations

import signal
from typing import Any


class Stopping:
    """Whether this process is to end, as a signal has come or a part of it has failed.

    A handler of signals may set no `threading.Event`: the main thread may just hold its lock. So
    the main thread looks here from time to time.

    Attributes:
        wanted: whether it is to end.
        failed: whether it is to end with an error.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.failed = False
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._asked)

    def _asked(self, *_: Any) -> None:
        self.wanted = True

    def fail(self) -> None:
        self.failed = self.wanted = True
