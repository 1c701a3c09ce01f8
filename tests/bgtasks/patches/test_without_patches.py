"""The patches serve upstream's own entry points; everything else here works without them."""

from __future__ import annotations

import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import run_python

UNPATCHED = """
import sys, types
table = sys.modules["bgtasks.patches.table"] = types.ModuleType("bgtasks.patches.table")
table.install = lambda: None
import django
django.setup()
from background_task.models import Task
from background_task.tasks import DBTaskRunner, TaskProxy
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from bgtasks import AsyncResult, calls
from tests.bgtasks.project import tasks
assert not hasattr(TaskProxy, "delay")
"""
ENQUEUE = """
from datetime import date, datetime, timedelta
user = User.objects.create(username="ada")
ids = [
    calls.delay(tasks.add, 1, 2).id,
    calls.delay(tasks.add_later, date(2026, 1, 31), timedelta(days=1)).id,
    calls.delay(tasks.fail_often, "a").id,
    calls.delay(tasks.retry_once, "b").id,
    calls.call(tasks.work, ("c",), {"repeat": 3600, "creator": user}).pk,
    *(row.pk for row in calls.call_each(tasks.add, [1, 2], [3, 4])),
]
print(*ids)
"""
ENDED = """
for key in {ids}:
    ended = AsyncResult(key)
    print(ended.status, ended.attempts, ended.result)
"""


def run(project: Deployment, code: str) -> str:
    done = run_python("-c", UNPATCHED + code, env=project.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "drain",
    [
        "call_command('process_tasks', drain=True)",
        "with transaction.atomic(): call_command('process_tasks', drain=True)",
        "from bgtasks import testing; testing.run_pending(raise_failures=False)",
    ],
    ids=["workers", "here", "testing"],
)
def test_rows_are_enqueued_and_run_where_nothing_is_patched(
    project: Deployment, drain: str
) -> None:
    ids = [int(word) for word in run(project, ENQUEUE).split()]
    run(project, drain)
    assert run(project, ENDED.format(ids=ids)).splitlines() == [
        "SUCCESS 1 3",
        "SUCCESS 1 2026-02-01",
        "FAILURE 3 a",
        "SUCCESS 2 b",
        "SUCCESS 1 None",
        "SUCCESS 1 4",
        "SUCCESS 1 6",
    ]
    [again] = project.rows()
    assert again["repeat"] == 3600
    assert again["creator_object_id"] == 1
    assert again["run_at"] > project.completed("repeat = 3600")[0]["run_at"]
