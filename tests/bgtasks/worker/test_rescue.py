"""Real workers: what they take back from those that died."""

from __future__ import annotations

import os
import signal

import pytest

from tests.bgtasks.worker.helpers import Deploy, elsewhere
from tests.harness.deployment import Deployment
from tests.harness.process import children, kill_tree, state, thaw
from tests.harness.waiting import eventually


def test_a_killed_child_has_its_rows_back_at_once(project: Deployment) -> None:
    go = project.folder / "go"
    project.run(f"tasks.until('a', {str(go)!r}, priority=1)\nfor n in range(5): tasks.work(n)")
    worker = project.worker()
    pid = int(project.wait_for("begin")[0][-1])
    os.kill(pid, signal.SIGKILL)
    project.wait_for("begin", count=2)
    (attempt,) = project.attempts()
    assert (attempt["state"], attempt["number"]) == ("lost", 1)
    assert f"worker process {pid} on" in attempt["error"]
    assert "killed by SIGKILL" in attempt["error"]
    go.touch()
    project.wait_for("work", count=5)
    eventually(lambda: len(project.completed()) == 6, "all recorded")
    assert len(project.ledger("end")) == 1
    # The others had not started: their attempt was refunded.
    attempts = {row["attempts"] for row in project.completed("task_name LIKE '%work'")}
    assert attempts == {1}
    worker.stop()


@pytest.mark.parametrize("task", ["kill_worker", "exit_hard", "stop_worker"])
@pytest.mark.parametrize("threads", ["1", "4"])
def test_p4_a_poison_pill_fails_with_its_story_and_costs_its_neighbours_nothing(
    deploy: Deploy, task: str, threads: str
) -> None:
    project = deploy()
    project.run(
        f"for n in range(30): tasks.work(n)\ntasks.{task}('pill', priority=1)\n"
        "for n in range(30, 60): tasks.work(n)"
    )
    worker = project.worker("--threads", threads)
    eventually(lambda: len(project.completed()) == 60, "the neighbours")
    # The second rescue backs off; the third is the last.
    (failed,) = eventually(
        lambda: project.hurry() or project.completed("failed_at IS NOT NULL"), "failed"
    )
    assert failed["attempts"] == 3
    assert "cost 3 workers" in failed["last_error"]
    pill = [a for a in project.attempts() if a["task_id"] == pill_id(project)]
    assert [attempt["state"] for attempt in pill] == ["lost"] * 3
    done = project.completed("failed_at IS NULL")
    assert len(done) == 60
    assert max(row["attempts"] for row in done) <= 2
    if threads == "1":
        assert max(row["attempts"] for row in done) == 1
    worker.stop()


def test_p4_a_row_with_the_id_0_that_kills_its_process_fails_too(project: Deployment) -> None:
    project.run("tasks.kill_worker('pill')")
    project.database.query("UPDATE background_task SET id = 0")
    worker = project.worker()
    eventually(lambda: project.hurry() or project.completed("failed_at IS NOT NULL"), "failed")
    assert len(project.ledger("kill")) == 3
    worker.stop()


def pill_id(project: Deployment) -> int:
    return project.rows("bgtasks_outcome", "state = 'failed'")[0]["task_id"]


def test_of_rows_that_may_have_killed_their_worker_one_is_held(project: Deployment) -> None:
    project.run("for n in range(20): tasks.until(n, '/nowhere')")
    project.database.query("UPDATE background_task SET attempts = 1, last_error = 'Lost: it died'")
    project.worker("--threads", "4")
    project.wait_for("begin")
    eventually(lambda: len(project.rows(where="locked_by IS NOT NULL")) == 1, "the others are not")


def test_p2_a_lost_hosts_rows_are_run_elsewhere_within_the_lease(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    go = project.folder / "go"
    first = project.worker(**elsewhere(project))
    project.run(f"tasks.until('a', {str(go)!r})")
    project.wait_for("begin")
    second = project.worker(**elsewhere(project))
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "two workers")
    for pid in (first.pid, *children(first.pid)):
        os.kill(pid, signal.SIGKILL)
    project.wait_for("begin", count=2)
    second.wait_for("is dead. Tasks taken back: 1.")
    go.touch()
    eventually(lambda: project.completed(), "recorded")
    (attempt,) = project.attempts()
    assert "sent no heartbeat" in attempt["error"]
    assert len(project.rows("bgtasks_worker")) == 1


def test_a_worker_that_is_started_anew_finds_at_once_what_the_last_one_left(
    project: Deployment,
) -> None:
    go = project.folder / "go"
    project.run(f"tasks.until('a', {str(go)!r})")
    worker = project.worker()
    project.wait_for("begin")
    kill_tree(worker.pid)
    worker.wait()
    go.touch()
    # The lease of 15 s is not waited for, nor does this one live that long.
    project.drain()
    assert len(project.completed()) == 1
    (attempt,) = project.attempts()
    assert f"process {worker.pid} on" in attempt["error"]
    assert "was killed" in attempt["error"]
    assert project.rows("bgtasks_worker") == []


def test_p3_a_frozen_worker_that_wakes_changes_nothing_it_lost(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    go, stay = project.folder / "go", project.folder / "stay"
    first = project.worker()
    project.run(
        f"for n in range(40): tasks.work(n, priority=1)\ntasks.until('a', {str(go)!r})\n"
        "for n in range(40, 50): tasks.work(n, priority=-1)"
    )
    frozen_child = int(project.wait_for("begin")[0][-1])
    # What ended a moment before would rightly run again.
    eventually(lambda: len(project.completed()) == 40, "what ended is recorded")
    frozen = (first.pid, *children(first.pid))
    project.freeze(frozen)
    second = project.worker()
    project.wait_for("begin", count=2)  # rescued, and running at the second
    go.touch()
    project.wait_for("work", count=50)
    eventually(lambda: len(project.completed()) == 51, "all recorded by the second")
    thaw(frozen)
    first.wait_for("declared dead")
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "the first starts anew")
    project.run(f"tasks.until('b', {str(stay)!r})")
    stay.touch()
    eventually(lambda: len(project.completed()) == 52, "both work on")
    assert len(project.rows("bgtasks_outcome")) == 52
    runs = [line[1] for line in project.ledger("work")]
    assert sorted(map(int, runs)) == list(range(50)), "nothing that was lost was started"
    assert {a["state"] for a in project.attempts()} == {"lost"}
    assert frozen_child not in children(first.pid)
    second.stop()


def test_an_orphaned_child_finishes_what_runs_and_ends(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=4)
    go = project.folder / "go"
    project.run(f"tasks.until('a', {str(go)!r}, priority=1); tasks.work(1)")
    worker = project.worker()
    child = int(project.wait_for("begin")[0][-1])
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: "is gone. The process ends" in worker.output, "noticed")
    go.touch()
    eventually(lambda: project.completed(), "recorded")
    eventually(lambda: gone(child), "ended")
    assert project.ledger("work") == []
    assert project.attempts() == []


def gone(pid: int) -> bool:
    return state(pid) in {"", "Z"}


def test_a_stopped_child_is_ended_and_its_task_runs_again(project: Deployment) -> None:
    project.run("tasks.stop_worker(1)")
    project.worker()
    project.wait_for("stop", count=2)
    attempt, *_ = project.attempts()
    assert attempt["state"] == "lost"
    assert "was stopped by SIGSTOP and ended by its supervisor" in attempt["error"]


def test_p5_a_task_that_holds_the_interpreter_keeps_its_claim(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    project.run("tasks.hold_interpreter('a', 4)")
    project.worker()
    project.wait_for("begin")
    project.worker()
    eventually(lambda: project.completed(), "recorded")
    assert len(project.ledger("begin")) == 1
    assert project.attempts() == []
