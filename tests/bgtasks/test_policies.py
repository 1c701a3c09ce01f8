"""What a task's decorator says of its runs, in real workers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]


def state_of(project: Deployment) -> str:
    (outcome,) = project.rows("bgtasks_outcome")
    return str(outcome["state"])


def seconds_ahead(project: Deployment) -> float:
    told = project.run(
        "from background_task.models import Task\nfrom django.utils import timezone\n"
        "print((Task.objects.get().run_at - timezone.now()).total_seconds())"
    )
    return float(told)


# --- attempts and backoff


def test_a_task_is_tried_as_often_as_it_says(project: Deployment) -> None:
    project.run("tasks.fail_often('a')")
    project.drain()
    assert len(project.ledger("try")) == 3
    assert [attempt["number"] for attempt in project.attempts()] == [1, 2, 3]
    assert all(attempt["started_at"] for attempt in project.attempts())
    assert state_of(project) == "failed"


def test_the_last_of_a_list_of_delays_lasts(project: Deployment) -> None:
    project.run("tasks.fail_by_list('a')")
    project.drain()
    assert len(project.ledger("try")) == 2
    assert 3500 < seconds_ahead(project) <= 3960
    project.hurry()
    project.drain()
    assert len(project.ledger("try")) == 3
    assert 3500 < seconds_ahead(project) <= 3960


def test_a_function_says_from_the_exception_whether_to_try_again(project: Deployment) -> None:
    project.run("tasks.fail_by_function('a')")
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    assert (outcome["state"], outcome["attempts"]) == ("failed", 3)
    asked = [line[1:4] for line in project.ledger("asked")]
    task_id = str(outcome["task_id"])
    assert asked == [
        ["ValueError", task_id, "1"],
        ["ValueError", task_id, "2"],
        ["KeyError", task_id, "3"],
    ]


def test_a_function_may_ask_the_database_about_a_coroutine(project: Deployment) -> None:
    project.run("tasks.fail_and_ask('a')")
    project.drain()
    assert len(project.ledger("try")) == 3
    assert 3500 < seconds_ahead(project) <= 3960


def test_a_task_may_ask_for_another_try(project: Deployment) -> None:
    project.run("tasks.retry_once('a')")
    said = project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    assert (outcome["state"], outcome["attempts"], outcome["result"]) == ("succeeded", 2, '"a"')
    assert "ERROR" not in said


def test_to_snooze_is_no_attempt(project: Deployment) -> None:
    project.run("tasks.snooze_once('a')")
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    assert (outcome["attempts"], outcome["result"]) == (1, "1")
    assert len(project.ledger("begin")) == 2
    assert project.attempts() == []


def test_a_task_may_cancel_itself(project: Deployment) -> None:
    task_id = int(project.run("print(tasks.cancel.delay('nothing to do', ).id)"))
    project.drain()
    assert state_of(project) == "cancelled"
    told = project.run(
        "from bgtasks import AsyncResult\nfrom bgtasks.exceptions import TaskRevoked\n"
        f"result = AsyncResult({task_id})\n"
        "try:\n    result.get()\n"
        "except TaskRevoked as error:\n    print(error, result.status, result.cancelled())"
    )
    assert told == "Cancelled: nothing to do FAILURE True\n"


def test_a_cancelled_row_is_not_repeated(project: Deployment) -> None:
    project.run("tasks.cancel('enough', repeat=60)")
    project.drain()
    assert project.rows() == []


# --- the worker's death


def test_a_task_that_must_not_run_twice_fails_with_its_worker(project: Deployment) -> None:
    project.run("tasks.die_once('a')")
    project.worker()
    eventually(project.completed, "recorded")
    assert len(project.ledger("dying")) == 1
    assert state_of(project) == "failed"
    assert 'on_worker_lost="fail"' in project.completed()[0]["last_error"]


def test_p4_a_lost_run_is_no_failed_attempt(project: Deployment) -> None:
    """A task that is tried once runs again when its worker dies."""
    project.run("tasks.patient_once('a')")
    worker = project.worker()
    child = int(project.wait_for("begin")[0][-1])
    os.kill(child, signal.SIGKILL)
    project.wait_for("begin", count=2)
    (project.folder / "a").touch()
    eventually(project.completed, "recorded")
    worker.stop()
    assert state_of(project) == "succeeded"
    assert [attempt["state"] for attempt in project.attempts()] == ["lost"]


# --- unique


def count_of(project: Deployment, code: str) -> int:
    return len(set(json.loads(project.run(f"print([{code}])"))))


def test_a_second_call_returns_the_first_ones_result(project: Deployment) -> None:
    call = "tasks.unique_by_arguments.delay('a').id"
    assert count_of(project, f"{call}, {call}, tasks.unique_by_arguments('a').pk") == 1
    assert count_of(project, f"{call}, tasks.unique_by_arguments.delay('b').id") == 2
    assert len(project.rows()) == 2


def test_a_function_of_the_arguments_makes_the_key(project: Deployment) -> None:
    calls = "tasks.unique_by_user.delay(1, 'x').id, tasks.unique_by_user.delay(1, text='y').id"
    assert count_of(project, calls) == 1
    assert count_of(project, "tasks.unique_by_user.delay(2).id") == 1
    assert len(project.rows()) == 2


def test_a_running_row_is_the_one_and_an_ended_one_is_not(project: Deployment) -> None:
    go = project.folder / "go"
    call = f"tasks.unique_by_arguments.delay('a', {str(go)!r}).id"
    first = int(project.run(f"print({call})"))
    worker = project.worker()
    project.wait_for("begin")
    assert int(project.run(f"print({call})")) == first
    go.touch()
    eventually(project.completed, "ended")
    worker.stop()
    second = int(project.run(f"print({call})"))
    assert second != first
    assert int(project.run(f"print({call})")) == second
    assert len(project.rows()) == 1


def test_a_key_whose_row_was_deleted_is_free(project: Deployment) -> None:
    call = "tasks.unique_by_arguments.delay('a').id"
    first = int(project.run(f"print({call})"))
    project.database.query("DELETE FROM background_task")
    assert int(project.run(f"print({call})")) != first
    assert len(project.rows()) == 1


RACE = """
import threading
from django.db import connections, transaction
barrier = threading.Barrier(8)
found = []
def enqueue():
    barrier.wait()
    try:
        with transaction.atomic():
            found.append(tasks.unique_by_arguments('a').pk)
    finally:
        connections.close_all()
threads = [threading.Thread(target=enqueue) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found)
"""


def test_a_repeating_row_hands_its_key_to_its_next_run(project: Deployment) -> None:
    call = "tasks.unique_by_user(1, repeat=60).pk"
    first = int(project.run(f"print({call})"))
    project.drain()
    (row,) = project.rows()
    assert int(project.run(f"print({call})")) == row["id"] != first
    assert len(project.rows()) == 1


def test_a_call_that_is_refused_uses_up_no_id(project: Deployment) -> None:
    first, last = json.loads(
        project.run(
            "first = tasks.unique_by_user(1).pk\n"
            "for _ in range(20):\n    assert tasks.unique_by_user(1).pk == first\n"
            "print([first, tasks.unique_by_user(2).pk])"
        )
    )
    assert last == first + 1


@pytest.mark.parametrize("before", ["nothing", "ended", "deleted"])
def test_many_who_enqueue_at_once_make_one_row(project: Deployment, before: str) -> None:
    if before != "nothing":
        project.run("tasks.unique_by_arguments('a')")
        if before == "ended":
            project.drain()
        project.database.query("DELETE FROM background_task")
    found = json.loads(project.run(RACE))
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(project.rows()) == 1


def test_p1_a_unique_call_that_is_rolled_back_leaves_the_key_free(project: Deployment) -> None:
    project.run(
        "from django.db import transaction\n"
        "try:\n    with transaction.atomic():\n"
        "        tasks.unique_by_arguments('a')\n        raise ZeroDivisionError\n"
        "except ZeroDivisionError:\n    pass\n"
        "tasks.unique_by_arguments('a')"
    )
    assert len(project.rows()) == 1


# --- revoking


def revoke(project: Deployment, task_id: int, options: str = "") -> bool:
    code = f"from bgtasks import AsyncResult\nprint(AsyncResult({task_id}).revoke({options}))"
    return project.run(code) == "True\n"


def test_a_waiting_row_is_revoked_and_never_runs(project: Deployment) -> None:
    task_id = int(project.run("print(tasks.add.delay(1, 2).id)"))
    assert revoke(project, task_id)
    assert not revoke(project, task_id), "it has ended"
    assert state_of(project) == "cancelled"
    project.drain()
    assert len(project.rows("bgtasks_outcome")) == 1
    assert project.attempts() == []


def test_a_running_one_is_left_alone_unless_it_is_to_be_ended(project: Deployment) -> None:
    task_id = int(project.run("print(tasks.long.delay('a').id)"))
    project.worker()
    child = int(project.wait_for("begin")[0][-1])
    assert not revoke(project, task_id)
    assert revoke(project, task_id, "terminate=True")
    assert state_of(project) == "cancelled"
    eventually(lambda: not Path(f"/proc/{child}").exists(), "the process is ended")
    project.run("tasks.add(1, 2)")
    eventually(lambda: len(project.completed()) == 2, "the next child works on")
    assert project.attempts() == []
    assert len(project.ledger("begin")) == 1


def test_a_running_coroutine_is_cancelled_and_cleans_up(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=5)
    task_id = int(project.run("print(tasks.patient_coroutine.delay('a').id)"))
    project.run("tasks.patient_coroutine('b')")
    worker = project.worker()
    children = {int(line[-1]) for line in project.wait_for("begin", count=2)}
    assert revoke(project, task_id, "terminate=True")
    assert project.wait_for("cleaned")[0][2] == "a"
    assert "ERROR" not in worker.output
    assert {Path(f"/proc/{child}").exists() for child in children} == {True}
    assert state_of(project) == "cancelled"
    assert [row["locked_by"] is not None for row in project.rows()] == [True]


def test_without_a_supervisor_a_coroutine_is_cancelled_too(project: Deployment) -> None:
    task_id = int(project.run("print(tasks.patient_coroutine.delay('a').id)"))
    project.worker("--dev")
    project.wait_for("begin")
    assert revoke(project, task_id, "terminate=True")
    project.wait_for("cleaned")
    assert state_of(project) == "cancelled"


@pytest.mark.parametrize("neighbour", ["precious", "precious_coroutine"])
def test_p4_what_must_not_run_twice_is_not_stopped_to_run_again(
    deploy: Deploy, neighbour: str
) -> None:
    project = deploy(BGTASKS_GRACE=0.5)
    task_id = int(project.run(f"tasks.{neighbour}('b')\nprint(tasks.long.delay('a').id)"))
    project.worker("--threads", "2")
    project.wait_for("begin")
    project.wait_for("precious")
    assert revoke(project, task_id, "terminate=True")  # and the process with it
    eventually(lambda: len(project.rows("bgtasks_outcome")) == 2, "both have ended")
    states = sorted(outcome["state"] for outcome in project.rows("bgtasks_outcome"))
    assert states == ["cancelled", "failed"]
    (attempt,) = project.attempts()
    assert attempt["state"] == "stopped"
    assert 'on_worker_lost="fail"' in attempt["error"]
    assert len(project.ledger("precious")) == 1


def test_told_to_stop_a_worker_does_not_hand_back_what_must_not_run_twice(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=0.5)
    project.run("tasks.precious_coroutine('a')")
    worker = project.worker()
    project.wait_for("precious")
    worker.stop()
    assert state_of(project) == "failed"
    assert project.rows() == []


def test_a_row_that_has_expired_is_not_started(project: Deployment) -> None:
    project.run("tasks.add.apply_async((1, 2), expires=0)")
    project.run("tasks.add.apply_async((1, 2), expires=3600)")
    project.drain()
    states = sorted(row["state"] for row in project.rows("bgtasks_outcome"))
    assert states == ["cancelled", "succeeded"]
    errors = {row["last_error"] for row in project.completed()}
    assert errors == {"", "Cancelled: it has expired"}


def test_one_call_may_have_a_limit_of_its_own(project: Deployment) -> None:
    project.run("tasks.endless_without_limit.apply_async(('a',), timeout=0.2)")
    project.worker()
    (attempt,) = eventually(project.attempts, "ended")
    assert attempt["state"] == "timed_out"


# --- repeating


@pytest.mark.parametrize("task", ["fail_often('a'", "retry_once('a'"])
def test_a_retry_does_not_move_the_later_runs(project: Deployment, task: str) -> None:
    project.run(
        "from datetime import datetime, UTC\n"
        f"tasks.{task}, repeat=3600, schedule=datetime(2026, 1, 1, 0, 17, tzinfo=UTC))"
    )
    project.drain()
    (row,) = project.rows()
    assert str(row["run_at"])[14:19] == "17:00"
    assert row["attempts"] == 0


def test_everything_that_is_kept_of_a_task_is_pruned_with_it(deploy: Deploy) -> None:
    project = deploy(BGTASKS_RETENTION={"succeeded": None})
    project.run("tasks.add.apply_async((1, 2), expires=3600)")
    (project.folder / "go").touch()
    project.run("tasks.progressing('go')")
    project.drain()
    assert len(project.rows("bgtasks_calloptions")) == 1
    assert len(project.rows("bgtasks_progress")) == 1
    project.run(
        "from datetime import timedelta\nfrom bgtasks.queue import pruning\n"
        "list(pruning.prune({'succeeded': timedelta(0)}))"
    )
    for table in ("outcome", "calloptions", "progress"):
        assert project.rows(f"bgtasks_{table}") == []


def test_what_belongs_to_rows_that_were_deleted_is_pruned_too(project: Deployment) -> None:
    project.run("tasks.add.apply_async((1, 2), expires=3600)\ntasks.unique_by_user(1)")
    project.database.query("DELETE FROM background_task")
    project.run(
        "from datetime import timedelta\nfrom bgtasks.queue import pruning\n"
        "list(pruning.prune({'succeeded': timedelta(0)}))"
    )
    assert project.rows("bgtasks_calloptions") == []
    assert project.rows("bgtasks_uniquekey") == []
