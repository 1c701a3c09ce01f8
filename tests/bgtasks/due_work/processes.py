"""A run of a task in a real worker that is really killed, and what the next worker makes of it."""

from __future__ import annotations

from typing import NamedTuple

from due_work_harness.process_histories import (
    Findings,
    ProcessHistory,
    fault_environment,
    fault_happened,
)

from bgtasks.management.commands import process_tasks
from tests.bgtasks.due_work import places
from tests.bgtasks.due_work.places import Seen
from tests.bgtasks.project.duework import faults
from tests.harness.process import Process

APP = "tests.bgtasks.project.duework"
MORE = {"MORE_APPS": f"{APP}.DueWork"}


class Handle(NamedTuple):
    task_id: int
    key: str


def history(
    name: str, task: str, moments: tuple[str, ...], *, survived: bool, findings: Findings
) -> ProcessHistory[Handle, Seen]:
    """The runs of a task: undisturbed, and with each fault at each of the moments.

    Args:
        task: its name in the app.
        survived: also with the faults that the worker survives.
    """

    # REAL PRODUCTION: the command process_tasks, in a process of its own with forked children.
    def run(point: str | None) -> tuple[Handle, int]:
        # ARRANGE
        handle = _enqueue(task)
        marker = places.marker()
        worker = _worker("--drain", **fault_environment(point, marker))
        status = worker.wait()
        # FAULT INJECTION: SIGKILL, by the process that is to die, at the moment that it was given.
        assert status in (0, -9), worker.output
        return handle, int(fault_happened(marker))

    raising = (faults.STARTS, faults.FINISHES, faults.RECORDS)
    survivable = child_killed(*moments)
    survivable += [faults.name(faults.RAISE, each) for each in raising]
    return ProcessHistory(
        name=name,
        initial=Seen("queued", 0),
        run=run,
        observe=_observe,
        recover=_recover,
        death_points=tuple(faults.name(faults.WORKER, each) for each in moments),
        failure_points=tuple(survivable) if survived else (),
        findings=findings,
    )


def child_killed(*moments: str) -> list[str]:
    """What the harness calls the runs in which the child was killed, and its supervisor lived."""
    return [faults.name(faults.CHILD, each) for each in moments]


def _enqueue(task: str) -> Handle:
    key = places.new_key()
    code = f"from {APP} import tasks\nprint(tasks.{task}.enqueue('{key}').id)"
    return Handle(int(places.project().run(code, **MORE).split()[-1]), key)


def _worker(*arguments: str, **more: str) -> Process:
    command = process_tasks.__name__.rpartition(".")[2]
    environment = places.project().environment(**MORE, **more)
    process = Process(
        "-m", "django", command, "--sleep", "0.1", *arguments, env=environment, forked=True
    )
    places.project().workers.append(process)
    return process


# REAL PRODUCTION: the next worker, started as the first one was. Nobody helps it.
def _recover(handle: Handle) -> None:
    worker = _worker("--drain")
    assert worker.wait() == 0, worker.output


# OBSERVE: the tables and the files, past bgtasks.
def _observe(handle: Handle) -> Seen:
    project = places.project()
    # One statement, as the row may move while this reads.
    found = project.database.query(
        f"SELECT 'queued' AS state FROM background_task WHERE id = {handle.task_id} UNION ALL "
        f"SELECT state FROM bgtasks_outcome WHERE task_id = {handle.task_id}"
    )
    ((state,),) = (each.values() for each in found)
    effects = project.rows("auth_group", f"name LIKE 'effect-{handle.key} %'")
    files = project.folder.glob(f"effect-{handle.key}")
    return Seen(state, len(effects) + len(list(files)))
