"""Tasks that fork their worker's process: the copy has no part in the queue."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import kill_tree
from tests.harness.waiting import eventually

BEHIND = 40


def results(project: Deployment) -> list[str]:
    rows = project.rows("bgtasks_outcome", "result IS NOT NULL OR state <> 'succeeded'")
    return [f"{row['state']} {row['result']}" for row in rows]


def run(project: Deployment, *mode: str) -> str:
    """Run all rows, with the options of the worker; returns what it said."""
    if "--dev" not in mode:
        return project.drain(*mode)
    worker = project.worker(*mode)  # it goes on for ever, to reload
    eventually(lambda: not project.rows(), lambda: worker.output)
    worker.stop()
    return worker.output


def enqueue(project: Deployment, task: str) -> None:
    """A call of the task, and after it in the queue many others, which are claimed with it."""
    project.run(f"tasks.{task}('a'); tasks.work.map(range({BEHIND}))")


def ran_once(project: Deployment) -> None:
    ran = sorted(int(line[1]) for line in project.ledger("work"))
    assert ran == list(range(BEHIND))
    assert project.attempts() == []


@pytest.mark.parametrize(
    "mode", [[], ["--threads", "3"], ["--dev"]], ids=["fork", "threads", "dev"]
)
@pytest.mark.parametrize("task", ["fork_and_return", "fork_and_raise", "fork_in_coroutine"])
def test_p4_a_copy_that_comes_back_from_its_task_runs_nothing(
    project: Deployment, task: str, mode: list[str]
) -> None:
    enqueue(project, task)
    output = run(project, *mode)
    ran_once(project)
    assert results(project) == ['succeeded "parent"']
    assert "has forked its worker's process" in output
    assert project.ledger("went on") == []
    copies = [line[-1] for line in project.ledger("copy")]
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in copies), "copies ended")


def test_a_copy_that_raises_shows_its_traceback(project: Deployment) -> None:
    project.run("tasks.fork_and_raise('a')")
    assert "ValueError: in the copy" in project.drain()


def test_a_copy_that_exits_has_its_own_status(project: Deployment) -> None:
    project.run("tasks.fork_and_exit('a')")
    project.drain()
    assert results(project) == ['succeeded "5"']


def test_p4_a_copy_of_the_event_loop_goes_on_with_no_coroutine(project: Deployment) -> None:
    project.run("tasks.steps.map(range(5), [50] * 5); tasks.fork_in_coroutine('a')")
    project.run("tasks.steps.map(range(5, 9), [50] * 4)")
    project.drain()
    steps = [tuple(line[1:3]) for line in project.ledger("step")]
    assert len(steps) == len(set(steps)) == 9 * 50


@pytest.mark.parametrize(
    ("task", "result", "mode"),
    [
        ("pool_that_is_left_early", '"left"', []),
        ("pool_that_is_left_early", '"left"', ["--dev"]),
        ("terminate_a_process", "-15", []),
        ("interrupt_a_program", "-15", []),
        ("interrupt_a_program", "-15", ["--dev"]),
    ],
)
def test_processes_that_a_task_starts_have_the_usual_signal_handlers(
    project: Deployment, task: str, result: str, mode: list[str]
) -> None:
    project.run(f"tasks.{task}('a')")
    run(project, *mode)
    assert results(project) == [f"succeeded {result}"]


def test_in_a_test_a_copy_records_nothing(project: Deployment) -> None:
    project.run(
        "tasks.fork_and_return('a')\n"
        "from bgtasks import testing\n"
        "testing.run_pending()\n"
        "tasks.note('after')"
    )
    assert len(project.ledger("after")) == 1
    assert results(project) == ['succeeded "parent"']


def test_a_copy_that_lives_on_does_not_pass_for_its_worker(project: Deployment) -> None:
    """Its worker was killed: others see at once that it is gone."""
    project.settings = {"BGTASKS_LEASE": 600}
    project.run("tasks.fork_and_wait('a')")
    worker = project.worker()
    copy = project.wait_for("copy")[0][-1]
    kill_tree(worker.pid)
    assert Path(f"/proc/{copy}").exists()
    # It serves another queue, so that it does not run the task, which would fork again.
    second = project.worker("--queue", "another")
    second.wait_for("is dead. Tasks taken back: 1")
    os.kill(int(copy), signal.SIGKILL)
