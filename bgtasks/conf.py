"""The settings, typed, and read each time that they are asked for.

The settings of upstream, django-background-tasks, keep their names and meaning. Ours begin with
``BGTASKS_``. The docs list them all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

# The longest time-out, in seconds. Some projects set `MAX_RUN_TIME = 9999999999` and mean "never";
# so many seconds cannot be added to a date.
TEN_YEARS = 10 * 365 * 24 * 3600.0

MAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

RETENTION = {
    "succeeded": timedelta(days=7),
    "failed": timedelta(days=90),
    "cancelled": timedelta(days=7),
}


def _first(names: tuple[str, ...], default: Any) -> Any:
    return next((getattr(settings, name) for name in names if hasattr(settings, name)), default)


def max_attempts() -> int:
    """How often a task is tried at most."""
    return int(_first(("BACKGROUND_TASK_MAX_ATTEMPTS", "MAX_ATTEMPTS"), 25))


def max_run_time() -> float | None:
    """Seconds that a task may run, or None where the project sets no limit."""
    limit = _first(("BACKGROUND_TASK_MAX_RUN_TIME", "MAX_RUN_TIME"), None)
    return None if limit is None else min(float(limit), TEN_YEARS)


def upstream_lock_time() -> float:
    """Seconds after which the lock of a worker of upstream is void: `MAX_RUN_TIME`, or an hour."""
    limit = max_run_time()
    return 3600.0 if limit is None else limit


def threads() -> int:
    """Tasks that one process runs at the same time."""
    if not getattr(settings, "BACKGROUND_TASK_RUN_ASYNC", False):
        return 1
    return int(getattr(settings, "BACKGROUND_TASK_ASYNC_THREADS", os.cpu_count() or 1))


def coroutines() -> int:
    """Rows of ``async def`` tasks that one process runs at the same time."""
    return int(getattr(settings, "BGTASKS_COROUTINES", 200))


def lowest_number_first() -> bool:
    """Whether the row with the lowest priority number runs first, as with Unix nice values."""
    return getattr(settings, "BACKGROUND_TASK_PRIORITY_ORDERING", "DESC") == "ASC"


def as_stored(priority: int) -> int:
    """The number that a row stores for a priority of which the highest runs first.

    It is its own inverse: it also gives such a priority from the number that a row stores.
    """
    return -priority if lowest_number_first() else priority


def lease() -> float:
    """Seconds that a worker's claims outlive its last heartbeat."""
    return float(getattr(settings, "BGTASKS_LEASE", 15))


def grace() -> float:
    """Seconds that running tasks have to end after their worker was asked to stop."""
    return float(getattr(settings, "BGTASKS_GRACE", 25))


def retention() -> dict[str, timedelta | None]:
    """How long an outcome is kept, by its state; None: for ever."""
    return {**RETENTION, **getattr(settings, "BGTASKS_RETENTION", {})}


def partition_history() -> bool:
    """Whether PostgreSQL gets a table for each day's tasks that succeed."""
    return bool(getattr(settings, "BGTASKS_PARTITION_HISTORY", False))


def eager() -> bool:
    """Whether a task runs inside the call that enqueues it, which is for tests."""
    return bool(getattr(settings, "BGTASKS_EAGER", False))


def eager_propagates() -> bool:
    """Whether a call in eager mode raises what its task raises."""
    return bool(getattr(settings, "BGTASKS_EAGER_PROPAGATES", True))


def mail_backend() -> str:
    """The backend that really sends what `bgtasks.mail` has queued."""
    return str(getattr(settings, "BGTASKS_EMAIL_BACKEND", MAIL_BACKEND))


def mail_max_size() -> int:
    """How many bytes a mail may have, with its attachments."""
    return int(getattr(settings, "BGTASKS_MAIL_MAX_SIZE", 10 * 1024 * 1024))


@cache
def traces() -> bool:
    """Whether enqueueing and running are traced by OpenTelemetry.

    Each call and each run asks for it, so it is kept until a test changes the settings.
    """
    return bool(getattr(settings, "BGTASKS_TRACES", False))


setting_changed.connect(lambda **_: traces.cache_clear(), weak=False)


def listen_database() -> str:
    """The name, in ``DATABASES``, of a direct connection to the queue's database, for LISTEN."""
    return str(getattr(settings, "BGTASKS_LISTEN_DATABASE", ""))


def engine() -> Mapping[str, Any] | None:
    """Who runs the rows, if it is not the project's own workers, and with which options."""
    given = getattr(settings, "BGTASKS_ENGINE", None)
    return {"ENGINE": given} if given and isinstance(given, str) else given or None


def metrics_token() -> str:
    """What a program must send to read the metrics from the site; empty: only staff may."""
    return str(getattr(settings, "BGTASKS_METRICS_TOKEN", ""))
