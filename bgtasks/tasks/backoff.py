"""The delay before a further attempt of a task that has failed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta

# Far beyond 25 attempts (4.5 days); what an absurd number of attempts is cut to.
LONGEST_BACKOFF = 365 * 24 * 3600.0


def retry_delay(
    attempts: int,
    given: float | Sequence[float] | None = None,
    jitter: Callable[[], float] = random.random,
) -> timedelta:
    """The wait before the next attempt, and up to a tenth more.

    The tenth spreads out tasks that failed together, so that they do not come back together.

    Args:
        attempts: how many there were.
        given: seconds; a list of them, one for each attempt, of which the last one lasts; None:
            ``attempts ** 4 + 5``, the formula of django-background-tasks.
    """
    if given is None:
        seconds = float(min(attempts, 1000) ** 4 + 5)
    elif isinstance(given, Sequence):
        seconds = float(given[min(max(attempts, 1), len(given)) - 1])
    else:
        seconds = float(given)
    return timedelta(seconds=min(seconds * (1 + jitter() / 10), LONGEST_BACKOFF))
