"""The parts that a keeper works with, as far as it knows them.

A worker that runs rows and a relay that publishes them have the same keeper, and other parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.worker.bell import KeeperBell


class Surplus(Protocol):
    """Claimed rows that must run alone."""

    def surplus(self) -> list[ClaimedRow]:
        """Those that cannot start soon, to be handed back."""


class Work(Protocol):
    """Where claimed rows go.

    Attributes:
        bell: wakes the keeper when there is something for it to do.
        plain, coroutines: what `wanted` is asked for: rows of plain functions, and of coroutines.
    """

    bell: KeeperBell
    plain: Any
    coroutines: Any

    @property
    def suspects(self) -> Surplus: ...

    @property
    def idle(self) -> bool:
        """Whether it holds no row, and no ending that is not recorded."""

    @property
    def waiting(self) -> bool:
        """Whether it holds rows that have not started."""

    def wanted(self, lane: Any) -> int:
        """How many rows of a kind to claim now."""

    def add(self, rows: Sequence[ClaimedRow]) -> None: ...

    def close(self) -> None:
        """Start no more rows."""

    def notify(self) -> None:
        """Let those who wait for rows look."""


class Recording(Protocol):
    """Records what has ended."""

    def record_due(self) -> None: ...

    def due_in(self) -> float | None:
        """Seconds until there is something to record; None if there is not."""


class HandingBack(Protocol):
    """Hands back to the queue those claimed rows that will not start soon."""

    def hand_back(self) -> None: ...

    def release(self, rows: Sequence[ClaimedRow], delay: timedelta | None = None) -> None: ...

    def database_was_away(self) -> None: ...
