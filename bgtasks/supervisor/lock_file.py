"""Proof, on one host, that a worker and all its children are gone.

A worker holds a lock on a file of its own. Its children inherit the lock, and the system lets go
of it when the last of them is dead, however they died. Whoever can take it need not wait for the
lease: a worker that is started anew after a crash finds at once what the last one left.

Without such a file (another host or container, Windows, a folder that cannot be written) there is
no proof, and the lease decides.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def _path(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}.lock"


class Presence:
    """A worker's own lock."""

    def __init__(self) -> None:
        self._held: tuple[int, Path] | None = None

    def hold(self, name: str) -> None:
        """Begin to be present under a name."""
        self.let_go()
        if fcntl is None:
            return
        with suppress(OSError):
            descriptor = os.open(_path(name), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._held = descriptor, _path(name)

    def let_go(self) -> None:
        """Be so no longer."""
        if self._held:
            descriptor, path = self._held
            self._held = None
            path.unlink(missing_ok=True)
            os.close(descriptor)


def gone(name: str) -> bool:
    """Whether the worker of that name was on this host, and all its processes have ended."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(_path(name), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def forget(name: str) -> None:
    """Remove what a worker that is gone left behind."""
    with suppress(OSError):
        _path(name).unlink(missing_ok=True)
