"""How an idle worker notices new rows, by what its database offers.

A listener reports only that something was written. Whoever uses one then asks the database for
rows, and once more a little later, because a change may be reported before the row can be read.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from django.db import DatabaseError, InterfaceError, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import database as db
from bgtasks.queue import pooler
from bgtasks.queue.notify import CHANNEL

logger = get_logger(__name__)

# Unlike epoll, poll needs no file descriptor of its own, of which there may be none left. Unlike
# select, it takes descriptors of any number.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def readable(fd: int, timeout: float) -> bool:
    """Wait until there is something to read, at most ``timeout`` seconds; whether there is."""
    with _Selector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(timeout))


# The poll interval, in seconds, of SQLite's counter of commits, for systems without inotify.
VERSION_EVERY = 0.015
# The shortest and the longest poll interval, in seconds, where PostgreSQL cannot notify.
POLL_SOON, POLL_LATE = 0.05, 0.5
# The values are those of <sys/inotify.h> and <fcntl.h>.
_IN_MODIFY, _IN_CLOEXEC, _IN_NONBLOCK = 0x2, 0o2000000, 0o4000


class Listener(Protocol):
    """Listens for changes to the database of one thread's connection.

    Attributes:
        is_told: whether it learns of changes, and does not only say that it is time to look.
        every: how many seconds to wait between calls of `changed`; None: until `fileno` is
            readable.
        rest: how many seconds to wait before calling `changed`, so that changes that follow each
            other closely are reported as one.
    """

    is_told: bool
    every: float | None
    rest: float

    def prepare(self) -> bool:
        """Begin or go on listening; returns whether something may have changed already."""

    def fileno(self) -> int | None:
        """The descriptor that becomes readable when something was written; None: there is none."""

    def changed(self) -> bool:
        """Whether something was written since the last call."""

    def restart(self) -> None:
        """Note that something was found."""

    def close(self) -> None: ...


def listener(channel: str = CHANNEL) -> Listener:
    """The best listener that there is for this thread's database.

    Args:
        channel: the channel of PostgreSQL to listen on. On SQLite every write is reported.
    """
    if db.on_postgresql():
        direct = conf.listen_database()
        if not direct and pooler.is_between():
            return Polling()
        return Notifications(channel, direct or db.alias())
    path = Path(db.connection().settings_dict["NAME"])
    if sys.platform == "linux" and path.exists():
        try:
            return FileChanges(path)
        except OSError as error:
            logger.debug("No inotify: %s", error)
    return DataVersion()


def wait_for_change(listening: Listener, timeout: float) -> bool:
    """Wait until something has changed, at most ``timeout`` seconds; returns whether it has."""
    descriptor = listening.fileno()
    if listening.every is not None or descriptor is None:
        time.sleep(min(timeout, listening.every or VERSION_EVERY))
    elif readable(descriptor, timeout):
        time.sleep(listening.rest)
    return bool(listening.changed())


class Notifications:
    """PostgreSQL's LISTEN on this thread's connection, repeated when Django has made a new one.

    Args:
        alias: the name of the database among the project's, for there may be one that is reached
            directly, and another one through a pooler.
    """

    is_told = True
    every: float | None = None
    rest = 0.0

    def __init__(self, channel: str, alias: str) -> None:
        self._channel = channel
        self._alias = alias
        self._listening: Any = None
        self._notified = False

    def _on_notification(self, notification: Any) -> None:
        """psycopg calls this for a notification that came with the answer to a statement."""
        self._notified = True

    def prepare(self) -> bool:
        connection = connections[self._alias]
        connection.ensure_connection()
        if self._listening is connection.connection:
            return self.changed()
        self._execute(f"LISTEN {self._channel}")
        self._listening = connection.connection
        if hasattr(self._listening, "add_notify_handler"):  # psycopg 3
            self._listening.add_notify_handler(self._on_notification)
        return True

    def fileno(self) -> int | None:
        return int(self._listening.fileno())

    def changed(self) -> bool:
        raw = self._listening
        found, self._notified = self._notified, False
        connection = connections[self._alias]
        if raw is not connection.connection:
            return True
        with connection.wrap_database_errors:
            if not hasattr(raw, "pgconn"):  # psycopg2
                raw.poll()
                found = found or bool(raw.notifies)
                raw.notifies.clear()
                return found
            raw.pgconn.consume_input()
            while raw.pgconn.notifies():
                found = True
        return found

    def restart(self) -> None:
        pass

    def close(self) -> None:
        raw, self._listening = self._listening, None
        if raw is None or raw is not connections[self._alias].connection:
            return
        if hasattr(raw, "remove_notify_handler"):
            raw.remove_notify_handler(self._on_notification)
        with suppress(DatabaseError, InterfaceError):
            self._execute(f"UNLISTEN {self._channel}")

    def _execute(self, sql: str) -> None:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(sql)


class Polling:
    """Says again and again that it is time to look, where nothing tells of changes.

    The interval runs from the end of a look to the next one. It doubles from look to look.

    Attributes:
        every: the interval in seconds.
    """

    is_told = False
    rest = 0.0

    def __init__(self) -> None:
        self.every: float | None = None
        self.restart()

    def restart(self) -> None:
        """Begin anew with the shortest interval: something was found."""
        self._interval = POLL_SOON
        self._at: float | None = 0.0  # when to look; None: somebody looks now

    def prepare(self) -> bool:
        return self.changed()

    def fileno(self) -> int | None:
        return None

    def changed(self) -> bool:
        now = elapsed()
        if self._at is None:
            self._at = now + self._interval
            self._interval = min(2 * self._interval, POLL_LATE)
        if now < self._at:
            self.every = self._at - now
            return False
        self._at = None
        return True

    def close(self) -> None:
        pass


class FileChanges:
    """Linux's inotify on SQLite's files. Unlike `DataVersion` it needs no statement.

    Raises:
        OSError: the system has no more inotify instances or watches.
    """

    is_told = True
    every: float | None = None
    rest = 0.002

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK))
        try:
            _checked(self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY))
        except OSError:
            self.close()
            raise
        # In WAL mode SQLite writes to the log. It deletes the log with its last connection and
        # makes a new one later.
        self._paths = [os.fsencode(path), os.fsencode(path) + b"-wal"]
        self._watched: set[int] = set()
        self.prepare()

    def prepare(self) -> bool:
        # Watching a file again gives the same number as before, unless the path is another file.
        watched = {self._libc.inotify_add_watch(self._fd, p, _IN_MODIFY) for p in self._paths}
        new = watched - self._watched - {-1}
        self._watched = watched
        return bool(new)

    def fileno(self) -> int | None:
        return self._fd

    def changed(self) -> bool:
        try:
            return bool(os.read(self._fd, 65536))
        except BlockingIOError:
            return False

    def restart(self) -> None:
        pass

    def close(self) -> None:
        os.close(self._fd)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class DataVersion:
    """SQLite's own counter of commits by other connections (``PRAGMA data_version``)."""

    is_told = True
    every: float | None = VERSION_EVERY
    rest = 0.0

    def __init__(self) -> None:
        self._version: int | None = None

    def prepare(self) -> bool:
        return self.changed()

    def fileno(self) -> int | None:
        return None

    def changed(self) -> bool:
        ((version,),) = db.fetch("PRAGMA data_version")
        before, self._version = self._version, version
        return bool(before != version)

    def restart(self) -> None:
        pass

    def close(self) -> None:
        self._version = None
