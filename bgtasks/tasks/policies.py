"""What a task's decorator says of all its runs: how often, how long, what if it fails.

Kept by name, so that whoever has only a row (the supervisor, the rescue) finds it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bgtasks import conf

# Seconds; a list of them, of which the last one lasts; or what gives them, None for no more.
Backoff = float | Sequence[float] | Callable[[BaseException, Any], float | None]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The options of a task.

    Attributes:
        max_attempts: a failure of this attempt, or of a later one, is final; None:
            `MAX_ATTEMPTS`. A run that was lost with its worker counts, but is itself no failure:
            the task runs again.
        backoff: seconds before the next try; None: ``attempts ** 4 + 5``.
        timeout: seconds that a run may take; None: `MAX_RUN_TIME`, if the project sets that.
        unique: at most one row for the same arguments waits or runs; or a function that gives
            the key of a call, a JSON value, from its arguments.
        cron: when it is enqueued without arguments, as crontab(5) writes it.
        on_worker_lost: whether it runs again when its worker has died.
        priority: of its rows, unless the call says otherwise.
        result: "json": a result that is not JSON fails the task; "if-json": such a one is
            dropped with a warning; "ignore": none is kept.
    """

    max_attempts: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    unique: bool | Callable[..., Any] = False
    cron: str | None = None
    on_worker_lost: Literal["rerun", "fail"] = "rerun"
    priority: int = 0
    result: Literal["json", "if-json", "ignore"] = "json"

    @property
    def most_attempts(self) -> int:
        """How often it is tried at most."""
        return conf.max_attempts() if self.max_attempts is None else self.max_attempts

    @property
    def limit(self) -> float | None:
        """Seconds that a run may take, or None."""
        return conf.max_run_time() if self.timeout is None else self.timeout


DEFAULT = Policy()
_policies: dict[str, Policy] = {}


def declare(name: str, policy: Policy) -> None:
    """Keep the policy of the task of that name."""
    _policies[name] = policy


def of(name: str) -> Policy:
    """The policy of the task of that name; of one that is not known here, the default."""
    return _policies.get(name, DEFAULT)
