"""What tasks start: programs end with the run that has started them, if that is ended early."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import Process, state
from tests.harness.waiting import eventually


def started(project: Deployment) -> int:
    return int(project.wait_for("program")[0][1])


def gone(pid: int) -> None:
    """Wait until a program has ended. If nobody has waited for it, it is a zombie."""
    eventually(lambda: state(pid) in ("", "Z"), f"program {pid} ended")


def start(project: Deployment, call: str, *mode: str) -> tuple[Process, int]:
    project.run(f"tasks.{call}")
    worker = project.worker(*mode)
    return worker, started(project)


@pytest.mark.parametrize(
    "call",
    ["run_a_program_too_long()", "await_a_program_too_long()", "wrap_a_program_too_long()"],
)
@pytest.mark.parametrize("mode", [[], ["--threads", "2"]], ids=["thread", "threads"])
def test_a_program_ends_with_the_run_that_takes_too_long(
    project: Deployment, call: str, mode: list[str]
) -> None:
    _, program = start(project, call, *mode)
    gone(program)
    eventually(lambda: project.rows("bgtasks_outcome"), "the run has ended")
    assert [attempt["state"] for attempt in project.attempts()] == ["timed_out"]


@pytest.mark.parametrize("call", ["run_a_program", "await_a_program"])
def test_a_program_ends_with_the_run_that_is_revoked(project: Deployment, call: str) -> None:
    _, program = start(project, f"{call}.delay(1)")
    [row] = project.rows()
    project.run(f"from bgtasks import AsyncResult; AsyncResult({row['id']}).revoke(terminate=True)")
    gone(program)


@pytest.mark.parametrize("call", ["run_a_program(1)", "await_a_program(1)"])
def test_a_program_ends_with_its_worker(project: Deployment, call: str) -> None:
    project.settings = {"BGTASKS_GRACE": 0.5}
    worker, program = start(project, call)
    worker.stop()
    gone(program)
    [attempt] = project.attempts()
    assert attempt["state"] == "stopped"


def test_a_program_ends_with_a_worker_that_crashes(project: Deployment) -> None:
    gone(start(project, "run_a_program_and_crash()")[1])


def test_a_program_ends_with_a_worker_whose_supervisor_was_killed(project: Deployment) -> None:
    project.settings = {"BGTASKS_LEASE": 1}
    worker, program = start(project, "run_a_program(1)")
    worker.stop(signal.SIGKILL)
    gone(program)


@pytest.mark.parametrize("task", ["run_a_program", "await_a_program"])
def test_a_program_with_a_session_of_its_own_lives_on(project: Deployment, task: str) -> None:
    project.settings = {"BGTASKS_GRACE": 0.1}
    worker, program = start(project, f"{task}(1, own_session=True)")
    worker.stop()
    assert state(program) == "S"
    os.kill(program, signal.SIGKILL)


def test_a_program_of_another_run_lives_on(project: Deployment) -> None:
    project.run("tasks.await_a_program(1)")
    project.worker()
    mine = started(project)
    project.run("tasks.await_a_program_too_long()")
    gone(int(project.wait_for("program", count=2)[1][1]))
    eventually(lambda: project.rows("bgtasks_outcome"), "the other run has ended")
    assert state(mine) == "S"
