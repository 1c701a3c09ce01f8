"""Threads, event loops and signals of a worker."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from bgtasks.queue.claims import Claimant
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.worker import Worker
from tests.bgtasks.worker.mishaps import broken
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]


@pytest.mark.parametrize("name", ["unshowable", "unshowable_coroutine"])
def test_p2_an_exception_that_cannot_be_shown_is_a_failed_attempt(
    project: Deployment, name: str
) -> None:
    project.run(f"tasks.{name}(); tasks.{name}(); tasks.{name}(); tasks.work('after')")
    project.drain("--threads", "2")
    assert project.ledger("work", "after")
    rows = project.rows()
    assert len(rows) == 3
    assert all("cannot be shown: SyntaxError" in row["last_error"] for row in rows)
    assert all(row["locked_by"] is None for row in rows)


def test_a_thread_that_fails_ends_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed: list[int] = []
    monkeypatch.setattr(os, "_exit", crashed.append)
    worker = Worker(Claimant("bg~x", 1), Marks(slots_for(Options())), Options(), crash_status=70)
    worker._serve(broken(RuntimeError("of ours")))
    assert crashed == [70]
    assert worker._work.closed
    worker.close()


def test_p2_coroutines_that_others_cancel_before_they_begin_run_later(project: Deployment) -> None:
    project.run("tasks.cancel_everybody()\nfor n in range(5): tasks.coroutine(n)")
    project.drain()
    assert project.rows(where="attempts = 0") == []
    assert len(project.completed()) + len(project.rows("bgtasks_attempt")) >= 6


def test_a_task_that_takes_sigterm_for_itself_keeps_no_worker_from_ending(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=600)
    project.run("tasks.be_deaf_to_sigterm()")
    worker = project.worker()
    project.wait_for("deaf")
    eventually(lambda: not project.rows(), "recorded")
    assert worker.stop() == 0


def test_where_nothing_is_logged_the_worker_speaks_all_the_same(deploy: Deploy) -> None:
    project = deploy(LOGGING={})
    output = project.drain()
    assert "is ready" in output
    assert "is stopped" in output
