"""The delay before the next attempt of a task that has failed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta

# The longest delay, in seconds. The one after 25 attempts is 4.5 days.
LONGEST_BACKOFF = 365 * 24 * 3600.0


def retry_delay(
    attempts: int,
    given: float | Sequence[float] | None = None,
    jitter: Callable[[], float] = random.random,
) -> timedelta:
    """The delay before the next attempt: what is asked for, and up to a tenth more.

    The tenth is random: tasks that failed at the same moment are not tried again at the same
    moment.

    Args:
        attempts: how many attempts there were.
        given: seconds; or a list of seconds, the first for the first attempt, and the last for
            all further attempts too; None: ``attempts ** 4 + 5``, the formula of upstream.
        jitter: returns a number from 0 to 1: how much of the tenth to add.
    """
    if given is None:
        seconds = float(min(attempts, 1000) ** 4 + 5)
    elif isinstance(given, Sequence):
        seconds = float(given[min(max(attempts, 1), len(given)) - 1])
    else:
        seconds = float(given)
    return timedelta(seconds=min(seconds * (1 + jitter() / 10), LONGEST_BACKOFF))
