"""A file whose time of modification is that of a worker's last heartbeat, for liveness probes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from bgtasks.exceptions import CannotServe
from bgtasks.logs import get_logger

logger = get_logger(__name__)


class HeartbeatFile:
    """The file of a worker; without a path, nothing.

    Raises:
        CannotServe: it cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._failed = False
        if self._path is None:
            return
        try:
            # The first heartbeat makes the file. Until then a probe must find none, also none that
            # a killed worker has left, or that was made to see whether that can be done.
            TemporaryFile(dir=self._path.parent).close()
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise CannotServe(
                f"The heartbeat file {self._path} cannot be written: {error.strerror}. "
                "Give another --heartbeat-file."
            ) from None

    def renew(self) -> None:
        """Set its time to now. An error is logged once: the worker does not end of it."""
        if self._path is None:
            return
        try:
            self._path.touch()
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("The heartbeat file is not renewed: %s", error)
            self._failed = True

    def remove(self) -> None:
        """Delete it, for the worker ends."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
