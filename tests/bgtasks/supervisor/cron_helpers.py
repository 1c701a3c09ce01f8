"""Tasks with crontab lines, and times, for the tests of both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def give_cron_line(task: Any, line: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a task a cron line for one test, which the workers of other tests do not see."""
    monkeypatch.setitem(policies._policies, task.name, Policy(cron=line))
    return task
