"""What keeps a worker from its work, as its heartbeats tell operators."""

from __future__ import annotations

from typing import NamedTuple


class Trouble(NamedTuple):
    """What keeps a worker from its work.

    Attributes:
        seconds: how long it has lasted.
        reason: a sentence.
        remedy: what to do, in a sentence.
    """

    seconds: float
    reason: str
    remedy: str
