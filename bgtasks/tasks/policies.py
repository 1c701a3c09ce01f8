"""What a task's decorator says of all its runs: how often, how long, what if it fails.

Policies are kept by the tasks' names, so that the supervisor, which has only a row, finds them too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bgtasks import conf

# Seconds; or a list of seconds, one for each attempt, the last for all further ones too; or a
# function of the exception and the `AsyncResult`, which returns seconds, or None for no more tries.
Backoff = float | Sequence[float] | Callable[[BaseException, Any], float | None]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The options of a task.

    Attributes:
        max_attempts: a failure of this attempt, or of a later one, is final; None:
            `MAX_ATTEMPTS`. A run that was lost with its worker counts as an attempt, but not as a
            failure: the task runs again.
        backoff: seconds before the next attempt, see `Backoff`; None: ``attempts ** 4 + 5``.
        timeout: seconds that a run may take; None: `MAX_RUN_TIME`, if the project sets that.
        unique: True: at most one row for the same arguments waits or runs. Or a function of the
            arguments of a call, which returns its key, a JSON value: at most one row for each key.
        cron: when the task is enqueued without arguments, as crontab(5) writes it.
        on_worker_lost: "rerun": it runs again when its worker has died; "fail": it does not.
        priority: the priority of its rows, unless the call names one.
        result: "json": a result that is not JSON fails the task; "if-json": such a result is
            dropped with a warning; "ignore": no result is kept.
        sensitive: the names of arguments whose values are shown to nobody.
        atomic: what a run writes, what it enqueues and its success are one transaction.
    """

    max_attempts: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    unique: bool | Callable[..., Any] = False
    cron: str | None = None
    on_worker_lost: Literal["rerun", "fail"] = "rerun"
    priority: int = 0
    result: Literal["json", "if-json", "ignore"] = "json"
    sensitive: Sequence[str] = ()
    atomic: bool = False

    @property
    def most_attempts(self) -> int:
        """How often the task is tried at most."""
        return conf.max_attempts() if self.max_attempts is None else self.max_attempts

    @property
    def limit(self) -> float | None:
        """Seconds that a run may take; None for no limit."""
        return conf.max_run_time() if self.timeout is None else self.timeout


DEFAULT = Policy()
_policies: dict[str, Policy] = {}


def declare(name: str, policy: Policy) -> None:
    """Keep the policy of the task of that name."""
    _policies[name] = policy


def is_declared(name: str) -> bool:
    """Whether the task of that name has a policy of its own."""
    return name in _policies


def of(name: str) -> Policy:
    """The policy of the task of that name; the default policy if no such task is known here."""
    return _policies.get(name, DEFAULT)
