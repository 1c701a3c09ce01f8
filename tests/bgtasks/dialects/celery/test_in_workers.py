"""Tasks of the Celery dialect in real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from background_task.models import Task as Row
from background_task.tasks import tasks as registry

from tests.bgtasks.dialects.celery.helpers import queue, stubborn
from tests.harness.deployment import Deployment
from tests.harness.process import children

APP = "tests.bgtasks.project.celeryapp"


MORE = {"MORE_APPS": APP}


def ask(project: Deployment, code: str) -> str:
    """Run code that may name the app's tasks; returns what it prints."""
    names = f"from {APP}.tasks import *\nfrom bgtasks.dialects.celery import AsyncResult\n"
    return project.run(names + code, **MORE).strip()


def test_the_seeds_words_hold_with_a_real_worker(project: Deployment) -> None:
    project.worker(**MORE)
    assert ask(project, "print(add.delay(4, 5).get(), multiply(3, 7))") == "9 21"
    assert ask(project, "print(add_later.delay(4, 5).get(timeout=60))") == "9"


def test_failures_and_retries_with_a_real_worker(project: Deployment) -> None:
    project.worker(**MORE)
    code = """
for result in (fail.delay("no"), stubborn.delay("door"), unreachable.delay("mars")):
    error = result.get(propagate=False)
    print(type(error).__name__, *error.args, result.state, result.attempts)
result = third_time.delay("key")
print(result.get(), result.id)
"""
    *lines, last = ask(project, code).splitlines()
    assert lines == [
        "ValueError no FAILURE 1",
        "KeyError door FAILURE 3",
        "ConnectionError mars FAILURE 2",
    ]
    value, row_id = last.split()
    assert value == "2"
    tries = [line[1:-1] for line in project.ledger("try")][-3:]
    assert tries == [[str(number), row_id, "key"] for number in range(3)]


def test_a_run_beyond_its_limit_is_a_failure_and_no_retry(project: Deployment) -> None:
    project.worker(**MORE)
    code = "r = endless.delay(); e = r.get(propagate=False); print(type(e).__name__, r.attempts)"
    assert ask(project, code) == "TaskTimeout 1"
    assert len(project.ledger("begin", "endless")) == 1


def test_p2_what_ran_in_a_killed_worker_runs_again_and_that_is_no_retry(
    project: Deployment,
) -> None:
    worker = project.worker(**MORE)
    row_id = ask(project, "print(waits.delay('key').id)")
    project.wait_for("begin", "key")
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    project.wait_for("begin", "key", count=2)
    Path(f"{project.ledger_path}.key").touch()
    assert ask(project, f"r = AsyncResult('{row_id}'); print(r.get(), r.attempts)") == "0 2"
    assert len(project.ledger("end", "key")) == 1
    assert [attempt["state"] for attempt in project.attempts()] == ["lost"]


def test_a_killed_supervisors_task_is_run_by_the_next(project: Deployment) -> None:
    worker = project.worker(**MORE)
    row_id = ask(project, "print(waits.delay('key').id)")
    project.wait_for("begin", "key")
    for victim in (worker.pid, *children(worker.pid)):
        os.kill(victim, signal.SIGKILL)
    worker.wait()
    Path(f"{project.ledger_path}.key").touch()
    project.worker(**MORE)
    assert ask(project, f"r = AsyncResult('{row_id}'); print(r.get(), r.state)") == "0 SUCCESS"


def test_a_coroutine_is_woken_when_its_task_has_ended(project: Deployment) -> None:
    project.worker(**MORE)
    code = """
import asyncio
from bgtasks import results
results.COROUTINE_POLL = 3600.0
async def wait():
    result = await asyncio.to_thread(waits.delay, "key")
    waiting = asyncio.ensure_future(result.aget())
    while await asyncio.to_thread(lambda: result.state) != "PROGRESS":
        await asyncio.sleep(0.01)
    open(f"{settings.LEDGER}.key", "w").close()
    return await asyncio.wait_for(waiting, 60)
print(asyncio.run(wait()))
"""
    assert ask(project, f"from django.conf import settings\n{code}") == "0"


def test_a_task_that_has_failed_is_retried(project: Deployment) -> None:
    row_id = ask(project, "print(waits.apply_async(args=['key'], expires=0).id)")
    project.drain(**MORE)
    code = (
        f"r = AsyncResult('{row_id}'); again = r.retry(); print(type(again) is type(r), again.id)"
    )
    said = ask(project, code).split()
    assert said[0] == "True"
    assert int(said[1]) > int(row_id)
    code = f"try: AsyncResult('{row_id}').retry()\nexcept Exception as error: print(error)"
    assert f"as task {said[1]}" in ask(project, code)


def test_progress_is_seen_while_it_runs_and_terminate_ends_it(project: Deployment) -> None:
    project.worker(**MORE)
    code = """
import time
result = waits.delay("never")
while result.state != "PROGRESS":
    time.sleep(0.01)
print(result.info)
print(result.revoke(), result.revoke(terminate=True), result.state)
"""
    assert ask(project, code).splitlines() == [
        "{'current': 3.0, 'total': 4.0, 'status': 'nearly'}",
        "False True REVOKED",
    ]


@queue
def test_what_is_told_of_a_retry_is_what_made_it_retry(caplog: pytest.LogCaptureFixture) -> None:
    row = Row.objects.get(pk=stubborn.delay("handled").id)
    registry.run_next_task()
    row.refresh_from_db()
    assert row.last_error.strip().endswith("KeyError: 'handled'")
    assert "CountedRetry" not in caplog.text
