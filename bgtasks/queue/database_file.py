"""Whether the file of an SQLite database is still the one that this process has open.

Somebody may delete it, move another one to its place, or restore a backup. An open connection goes
on with the old file, which nobody else sees any more.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from bgtasks.queue import database as db


class File(Enum):
    """What has become of a file."""

    SAME = "is the same"
    GONE = "is gone"
    REPLACED = "is another one than this worker has open: it was deleted, replaced or restored"


class DatabaseFile:
    """The file of the task tables. With another database than SQLite, nothing is watched."""

    def __init__(self) -> None:
        self._known: tuple[int, int] | None = None

    @property
    def path(self) -> Path:
        return Path(db.connection().settings_dict["NAME"])

    def note(self) -> None:
        """Take the file that is there now for the one that is open."""
        self._known = self._identity()

    def state(self) -> File:
        """What has become of the file. This costs one call of the system, and no statement."""
        if self._known is None:
            self.note()
            return File.SAME
        found = self._identity()
        if found is None:
            return File.GONE
        return File.SAME if found == self._known else File.REPLACED

    def _identity(self) -> tuple[int, int] | None:
        if db.connection().vendor != "sqlite" or db.in_memory(db.connection()):
            return None
        try:
            found = os.stat(self.path)  # noqa: PTH116  (it is called every second)
        except OSError:
            return None
        return found.st_dev, found.st_ino
