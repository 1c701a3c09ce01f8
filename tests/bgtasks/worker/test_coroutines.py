"""Tasks that are coroutines, in real workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from threading import Event

import pytest
from background_task.models import Task

from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.running import executor
from bgtasks.running.run import Run
from bgtasks.signals import task_finished, task_started
from bgtasks.tasks.current import CurrentTask
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]


def test_hundreds_run_at_the_same_time(project: Deployment) -> None:
    project.run("tasks.gathering.map(range(200), [200] * 200)")
    project.drain()
    assert len(project.ledger("end")) == 200
    assert len({line[-1] for line in project.ledger("begin")}) == 1, "in one process"
    assert len(project.completed()) == 200


def test_no_more_run_at_the_same_time_than_asked_for(project: Deployment) -> None:
    project.run("for n in range(5): tasks.patient_coroutine(n)")
    project.worker("--coroutines", "2")
    project.wait_for("begin", count=2)
    eventually(lambda: len(project.rows(where="locked_by IS NULL")) == 3, "the others wait")


def test_plain_tasks_run_beside_coroutines_and_wait_for_none(project: Deployment) -> None:
    project.run("for n in range(300): tasks.patient_coroutine(n)\ntasks.work('plain')")
    project.worker()
    project.wait_for("work", "plain")


def test_coroutines_wait_for_no_plain_task(project: Deployment) -> None:
    project.run(
        "for n in range(30): tasks.until(n, '/nowhere', priority=1)\ntasks.coroutine('quick')"
    )
    project.worker()
    project.wait_for("end", "quick")


def test_what_a_coroutine_left_running_is_cancelled_when_its_worker_ends(
    project: Deployment,
) -> None:
    project.run("tasks.leaves_one_behind('a')")
    project.drain()
    assert len(project.completed()) == 1
    assert project.ledger("cleaned", "up")


def test_told_to_stop_coroutines_may_finish(project: Deployment) -> None:
    project.run("tasks.gathering('a', 2)")
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait_for("stopping")
    with project.ledger_path.open("a") as ledger:
        ledger.write("the second line\n")
    assert worker.wait() == 0
    assert len(project.completed()) == 1


def test_a_plain_task_has_the_whole_grace_period_also_where_coroutines_ran(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_GRACE=2)
    project.run("tasks.coroutine('done')\ntasks.until(1, '/nowhere')")
    worker = project.worker()
    project.wait_for("end", "done")
    project.wait_for("begin", "1")
    assert worker.stop() == 0
    (attempt,) = project.attempts()
    assert "was ended by its supervisor" in attempt["error"], worker.output
    assert attempt["state"] == "stopped"


def test_at_the_end_of_the_grace_period_coroutines_are_cancelled_and_clean_up(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_GRACE=2)
    project.run("tasks.patient_coroutine('a')")
    worker = project.worker()
    project.wait_for("begin")
    assert worker.stop() == 0
    assert project.ledger("cleaned", "up")
    (attempt,) = project.attempts()
    assert attempt["state"] == "stopped"
    assert "cancelled" in attempt["error"]
    (row,) = project.rows()
    assert (row["locked_by"], row["attempts"]) == (None, 1)


@pytest.mark.parametrize("task", ["exit_in_coroutine", "exit_in_a_task_of_its_own"])
def test_one_that_ends_the_interpreter_harms_no_other(project: Deployment, task: str) -> None:
    project.run(f"tasks.patient_coroutine('a')\ntasks.{task}()")
    worker = project.worker()
    pid = project.wait_for("begin", "a")[0][-1]
    worker.wait_for("SystemExit: 3")
    project.run("tasks.coroutine('b')")
    assert project.wait_for("end", "b")[0][-1] == pid, "the same process, the same loop"


def test_a_leaked_transaction_is_rolled_back_and_logged(project: Deployment) -> None:
    project.run("tasks.leak_in_coroutine()")
    worker = project.worker()
    project.wait_for("leak")
    project.run("tasks.coroutine('next')")
    worker.wait_for("A coroutine left a transaction open")
    project.wait_for("end", "next")
    assert project.rows("auth_user") == []


def test_an_active_language_stays_with_the_coroutine_that_set_it(project: Deployment) -> None:
    project.run("tasks.language_in_coroutine(1, 'de', priority=1); tasks.language_in_coroutine(2)")
    project.drain()
    assert [line[1] for line in project.ledger("language")] == ["en-us", "en-us"]


def test_a_killed_childs_coroutines_run_again(project: Deployment) -> None:
    project.run("for n in range(3): tasks.patient_coroutine(n)")
    project.worker()
    pid = int(project.wait_for("begin", count=3)[0][-1])
    os.kill(pid, signal.SIGKILL)
    # One at a time, for each of them may have been the cause.
    project.wait_for("begin", count=4)
    assert [attempt["state"] for attempt in project.attempts()] == ["lost"] * 3


def test_signals_of_a_coroutine_reach_receivers_that_use_the_database(project: Deployment) -> None:
    project.run("tasks.coroutine('a')")
    project.drain(MORE_APPS="tests.bgtasks.project.listening")
    heard = {line[1] for line in project.ledger("receiver")}
    assert {"started", "finished", "successful"} <= heard
    assert len(project.completed()) == 1


# --- cancelled around its run, by receivers that take their time


@pytest.fixture
def slow_receiver(request: pytest.FixtureRequest) -> Iterator[tuple[Event, Event]]:
    """A receiver that says when it is called, and returns when told to."""
    called, go = Event(), Event()

    def receiver(**_: object) -> None:
        called.set()
        go.wait(30)

    request.param.connect(receiver)
    yield called, go
    request.param.disconnect(receiver)


async def cancelled_when(called: Event, go: Event, ran: list[str]) -> Ending:
    async def function() -> None:
        ran.append("it")

    row = Task(task_name="a", task_params="[[], {}]")
    run = Run(ClaimedRow(row), function, None, CurrentTask(row))
    why = executor.Cancellation("told to end")
    running = asyncio.create_task(executor.run_coroutine(run, why))
    await asyncio.to_thread(called.wait, 30)
    running.cancel()
    go.set()
    return await running


@pytest.mark.parametrize("slow_receiver", [task_finished], indirect=True)
def test_p4_one_that_has_run_is_not_made_a_failure(slow_receiver: tuple[Event, Event]) -> None:
    ran: list[str] = []
    ending = asyncio.run(cancelled_when(*slow_receiver, ran))
    assert (ran, ending.state) == (["it"], None)


@pytest.mark.parametrize("slow_receiver", [task_started], indirect=True)
def test_p4_one_that_has_not_begun_is_not_counted(slow_receiver: tuple[Event, Event]) -> None:
    ran: list[str] = []
    with pytest.raises(executor.Unstarted):
        asyncio.run(cancelled_when(*slow_receiver, ran))
    assert ran == []
