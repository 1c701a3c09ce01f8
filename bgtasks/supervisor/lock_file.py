"""Proof, on one host, that a worker and all its children are gone.

A worker locks a file of its own by flock(2). Its children inherit the lock, and the system releases
it when the last of them is dead, however they died. If another worker can take the lock, it need
not wait for the lease of the first: a worker that is restarted after a crash takes back at once the
rows of the last one.

Without such a file there is no proof, and the lease decides. That is so on another host, in another
container, on Windows, and if the folder for temporary files cannot be written.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


# A worker's name, as `Lease.acquire` makes it. What else stands in the workers' table is never made
# part of a path.
_NAME = re.compile(r"bg~[0-9a-f]+")


def _path(name: str) -> Path:
    """The lock file of the worker of that name.

    Raises:
        ValueError: no worker of ours has such a name.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"{name!r} is no name of a worker")
    return Path(tempfile.gettempdir()) / f"{name}.lock"


class Presence:
    """A worker's own lock: it is held for as long as the worker or a child of it lives."""

    def __init__(self) -> None:
        self._held: tuple[int, Path] | None = None

    def hold(self, name: str) -> None:
        """Take the lock of the worker of that name; nothing happens if that cannot be done."""
        self.let_go()
        if fcntl is None:
            return
        with suppress(OSError):
            descriptor = os.open(_path(name), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._held = descriptor, _path(name)

    def abandon(self) -> None:
        """Have this process hold the lock no longer. Others that have inherited it still do."""
        if self._held:
            os.close(self._held[0])
            self._held = None

    def let_go(self) -> None:
        """Release the lock, and remove its file."""
        if self._held:
            descriptor, path = self._held
            self._held = None
            path.unlink(missing_ok=True)
            os.close(descriptor)


def gone(name: str) -> bool:
    """Whether the worker of that name is proven dead: it was here, and its processes have ended.

    False if that is not known.
    """
    if fcntl is None:
        return False
    try:
        descriptor = os.open(_path(name), os.O_RDWR | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def forget(name: str) -> None:
    """Remove the lock file of a worker that is dead."""
    with suppress(OSError, ValueError):
        _path(name).unlink(missing_ok=True)
