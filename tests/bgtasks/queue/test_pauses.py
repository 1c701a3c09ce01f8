"""No worker claims rows of a paused queue, and who enqueues does not notice."""

from __future__ import annotations

import pytest

from tests.harness.deployment import Deployment

PAUSES = "from bgtasks.queue import pauses\n"


@pytest.mark.parametrize("serves", [[], ["--queue", "slow"]], ids=["every queue", "that queue"])
def test_a_paused_queue_waits_and_others_do_not(project: Deployment, serves: list[str]) -> None:
    project.run(f"{PAUSES}assert pauses.pause('slow', 'zoe'); assert not pauses.pause('slow')")
    project.run("tasks.work(1, queue='slow', priority=5); tasks.work(2); tasks.work(3, queue='b')")
    project.drain(*serves)
    assert project.ledger("work", "1") == []
    assert len(project.ledger("work")) == (0 if serves else 2)
    (paused,) = project.rows("bgtasks_pausedqueue")
    assert (paused["queue"], paused["by"]) == ("slow", "zoe")
    project.run(f"{PAUSES}assert pauses.resume('slow'); assert not pauses.resume('slow')")
    project.drain(*serves)
    assert len(project.ledger("work", "1")) == 1


def test_the_rows_without_a_queue_can_be_paused(project: Deployment) -> None:
    project.run(f"{PAUSES}pauses.pause('')\ntasks.work(1, queue='a'); tasks.work(2)")
    project.drain()
    assert [line[1] for line in project.ledger("work")] == ["1"]


def test_a_worker_that_rests_goes_on_when_a_queue_is_resumed(project: Deployment) -> None:
    project.run(f"{PAUSES}pauses.pause('')")
    worker = project.worker()
    worker.wait_for("is ready")
    project.run("for n in range(2000): tasks.work(n)\ntasks.work('a', queue='other')")
    project.wait_for("work", "a")
    assert len(project.ledger("work")) == 1
    project.run(f"{PAUSES}pauses.resume('')")
    project.wait_for("work", count=2001)


def test_a_queue_that_is_paused_while_it_is_worked_on_stops(project: Deployment) -> None:
    worker = project.worker()
    worker.wait_for("is ready")
    project.run(f"{PAUSES}tasks.work(1)")
    project.wait_for("work", count=1)
    project.run(f"{PAUSES}pauses.pause('')")
    project.run("tasks.work(2); tasks.work('a', queue='other')")
    project.wait_for("work", "a")
    assert project.ledger("work", "2") == []
