"""The files by which the harness changes, during a run, what is asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .orders import Orders

READ_AT_MOST_EVERY = 1.0  # seconds, for the files that are JSON
HERD_BATCH = 500  # jobs that are inserted at once, at most
HERD_STEP = 100  # milliseconds of a spread herd that share one time, at most


@dataclass(frozen=True)
class FailurePlan:
    """Which jobs are to fail, in percent of all jobs, and how often.

    Attributes:
        transient: jobs whose first attempts fail.
        poison: jobs whose attempts all fail.
        failures: how many attempts of a transient job fail.
    """

    transient: float = 0.0
    poison: float = 0.0
    failures: int = 1

    def kind(self, number: int) -> str:
        """What becomes of the job with this number: "poison", "transient", or "" if it is sound.

        The harness prescribes the arithmetic, so that every system fails the same jobs.
        """
        bucket = number % 10_000 * 7919 % 10_000
        if bucket < self.poison * 100:
            return "poison"
        return "transient" if bucket < (self.poison + self.transient) * 100 else ""


@dataclass(frozen=True)
class Herd:
    """Jobs that are to be enqueued now and run later, all at one time or over a while.

    Attributes:
        name: of this order. An order is carried out once.
        jobs: how many.
        due: when the first one is due, in milliseconds since 1970.
        spread: milliseconds from the first to the last.
    """

    name: str
    jobs: int
    due: int
    spread: int

    def batches(self) -> Iterator[tuple[range, int]]:
        """The numbers of the jobs that are inserted together, and when they are due."""
        size = HERD_BATCH
        if self.spread > 0:
            size = max(1, min(HERD_BATCH, self.jobs * HERD_STEP // self.spread))
        for first in range(0, self.jobs, size):
            numbers = range(first, min(first + size, self.jobs))
            yield numbers, self.due + self.spread * first // self.jobs


class Controls:
    """The control files. One that cannot be read at this moment changes nothing."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._failures = _File(orders.failures_file)
        self._herd = _File(orders.herd_file)
        self._last_herd = ""

    def rate(self) -> float:
        """Jobs a second, as asked for at this moment."""
        try:
            return float(_text(self._orders.rate_file))
        except (OSError, ValueError):
            return self._orders.rate

    def gate_is_open(self) -> bool:
        """Whether the worker may start."""
        if self._orders.gate_file is None:
            return True
        try:
            return _text(self._orders.gate_file) == "open"
        except OSError:
            return False

    def failures(self) -> FailurePlan:
        found = self._failures.content()
        return FailurePlan(
            transient=float(found.get("transient_pct", 0)),
            poison=float(found.get("poison_pct", 0)),
            failures=int(found.get("transient_failures", 1)),
        )

    def herd(self) -> Herd | None:
        """A herd that was not ordered before, or None."""
        found = self._herd.content()
        name = str(found.get("id") or "")
        if not name or name == self._last_herd:
            return None
        self._last_herd = name
        return Herd(
            name, int(found["count"]), int(found["run_at_ms"]), int(found.get("spread_ms", 0))
        )


class _File:
    """A file that holds a JSON object, read once a second at most."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._content: dict[str, Any] = {}
        self._read_at = float("-inf")

    def content(self) -> dict[str, Any]:
        """The object; the last one that could be read, if the file cannot be."""
        if self._path and time.monotonic() - self._read_at >= READ_AT_MOST_EVERY:
            self._read_at = time.monotonic()
            self._content = self._read(self._path)
        return self._content

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return self._content
        return found if isinstance(found, dict) else {}


def _text(path: Path | None) -> str:
    if path is None:
        raise FileNotFoundError
    return path.read_text().strip()
