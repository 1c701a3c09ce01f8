"""The workers as their heartbeats show them."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from bgtasks.models import Worker
from bgtasks.operations import crew
from bgtasks.queue import workers
from tests.bgtasks.queue.helpers import register, rows
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually


def told(project: Deployment) -> dict[str, Any]:
    """What the one worker has told of itself; empty if nothing yet."""
    (row,) = project.rows("bgtasks_worker") or [{"status": None}]
    status = row["status"]
    return (json.loads(status) if isinstance(status, str) else status) or {}


def runs(project: Deployment) -> list[int]:
    return [pk for child in told(project).get("children", []) for pk, _ in child["runs"]]


@pytest.mark.parametrize("arguments", [["--processes", "2"], ["--dev"]])
def test_a_worker_tells_what_it_runs_and_that_it_stops(
    deploy: Any, tmp_path: Any, arguments: list[str]
) -> None:
    project = deploy(BGTASKS_LEASE=1)
    path = tmp_path / "go"
    project.run(f"tasks.until('a', {str(path)!r})")
    worker = project.worker(*arguments)
    (pk,) = eventually(lambda: runs(project), "the run in the heartbeat")
    (row,) = project.rows()
    assert pk == row["id"]
    status = told(project)
    assert not status["stopping"]
    assert len(status["children"]) == (2 if "--processes" in arguments else 1)
    assert status["memory"] is None or status["memory"] > 1_000_000
    assert sum(child["running"] for child in status["children"]) == 1
    if "--processes" in arguments:
        os.kill(worker.pid, signal.SIGTERM)
        eventually(lambda: told(project).get("stopping"), "stopping in the heartbeat")
    path.touch()
    worker.stop()


@pytest.mark.django_db
def test_a_worker_is_alive_stopping_or_lost() -> None:
    for name in ("bg~alive", "bg~stopping", "bg~lost", "bg~odd"):
        register(name)
    (row,) = rows(1)
    child = {"pid": 2, "memory": 3, "since": 1e9, "running": 2, "runs": [[row.pk, 1e9], [-1, 1e9]]}
    workers.beat("bg~alive", {"stopping": False, "memory": 10, "children": [child]})
    workers.beat("bg~stopping", {"stopping": True, "memory": None, "children": []})
    Worker.objects.filter(pk="bg~lost").update(lease=1e-9)
    Worker.objects.filter(pk="bg~odd").update(heartbeat_at="9999-12-31 00:00:00+00:00")
    found = {member.name: member for member in crew.members()}
    assert {name: member.state for name, member in found.items()} == {
        "bg~alive": crew.ALIVE,
        "bg~stopping": crew.STOPPING,
        "bg~lost": crew.LOST,
        "bg~odd": crew.ALIVE,
    }
    alive = found["bg~alive"]
    assert alive.memory == 13
    assert alive.age is not None
    assert alive.age < 5
    assert [(run.id, run.name) for run in alive.children[0].runs] == [
        (row.pk, row.task_name),
        (-1, ""),
    ]
    assert found["bg~stopping"].memory is None
    assert found["bg~lost"].children == []
