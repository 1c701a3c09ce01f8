"""Real workers: what they run, how they stop, what they take back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import ROOT, children, kill_tree, state, thaw
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]


def elsewhere(project: Deployment) -> dict[str, str]:
    """An environment as on another host: without proof of who else lives on this one."""
    folder = project.folder / f"host{len(project.workers)}"
    folder.mkdir()
    return {"TMPDIR": str(folder)}


def lock_holder(project: Deployment) -> list[dict]:
    return project.rows(where="locked_by IS NOT NULL")


# --- running


def test_draining_runs_all_that_is_ready_and_ends(project: Deployment) -> None:
    project.run("for n in range(250): tasks.work(n)\ntasks.work('later', schedule=3600)")
    project.drain()
    assert sorted(int(line[1]) for line in project.ledger("work")) == list(range(250))
    assert [row["task_params"] for row in project.rows()] == ['[["later"], {}]']
    assert len(project.completed("failed_at IS NULL")) == 250
    assert len(project.rows("bgtasks_outcome", "state = 'succeeded' AND attempts = 1")) == 250
    assert project.rows("bgtasks_worker") == []


def test_draining_runs_what_its_tasks_enqueue(project: Deployment) -> None:
    project.run("for n in range(20): tasks.enqueue_another(n)")
    project.drain("--processes", "2", "--threads", "2")
    assert len(project.ledger("work")) == 20
    assert project.rows() == []


def test_one_task_runs_after_another_unless_asked_otherwise(project: Deployment) -> None:
    go = project.folder / "go"
    project.run(f"for n in range(3): tasks.until(n, {str(go)!r})")
    worker = project.worker()
    project.wait_for("begin")
    go.touch()
    project.wait_for("end", count=3)
    order = [line[0] for line in project.ledger() if line[0] in {"begin", "end"}]
    assert order == ["begin", "end"] * 3
    worker.stop()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["--processes", "2", "--threads", "2"], {}),
        ([], {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 4}),
    ],
)
def test_tasks_run_side_by_side(deploy: Deploy, arguments: list[str], extra: dict) -> None:
    project = deploy(**extra)
    go = project.folder / "go"
    project.run(f"for n in range(4): tasks.until(n, {str(go)!r})")
    project.worker(*arguments)
    project.wait_for("begin", count=4)  # none has ended: the file is not there yet
    go.touch()
    project.wait_for("end", count=4)


def test_serial_tasks_run_in_the_main_thread(project: Deployment) -> None:
    project.run("tasks.main_thread()")
    project.drain()
    assert project.ledger("main")[0][1] == "True"


def test_coroutines_run(project: Deployment) -> None:
    project.run("tasks.coroutine('a'); tasks.coroutine('b')")
    project.drain("--threads", "2")
    assert len(project.ledger("end")) == 2
    assert len(project.completed("failed_at IS NULL")) == 2


def test_only_the_named_queues_are_served(project: Deployment) -> None:
    project.run("for q in ('a', 'b', 'c', None): tasks.work(q, queue=q)")
    project.drain("--queue", "a", "b")
    assert sorted(line[1] for line in project.ledger("work")) == ["a", "b"]


def test_the_most_urgent_comes_first(project: Deployment) -> None:
    project.run("for n in (1, 3, 2): tasks.work(n, priority=n)")
    project.drain()
    assert [line[1] for line in project.ledger("work")] == ["3", "2", "1"]


def test_nice_values_turn_the_order_round(deploy: Deploy) -> None:
    project = deploy(BACKGROUND_TASK_PRIORITY_ORDERING="ASC")
    project.run("for n in (1, 3, 2): tasks.work(n, priority=n)")
    project.drain()
    assert [line[1] for line in project.ledger("work")] == ["1", "2", "3"]


def test_it_ends_by_itself_after_its_duration_and_lets_tasks_finish(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=0)
    go = project.folder / "go"
    project.run(f"tasks.until(1, {str(go)!r})")
    worker = project.worker("--duration", "0.5")
    project.wait_for("begin")
    # Its supervisor signs off last; while the task runs, the row is there.
    eventually(lambda: not project.rows(where="locked_by IS NULL"), "claimed")
    go.touch()
    assert worker.wait() == 0
    assert len(project.completed()) == 1


def test_it_waits_for_a_database_that_is_not_there_yet(deploy: Deploy) -> None:
    project = deploy()
    project.run("tasks.work(1)")
    if project.database.on_postgresql:
        allow_connections(project, False)
        worker = project.worker("--drain")
        worker.wait_for("Waiting for the database")
        allow_connections(project, True)
        assert worker.wait() == 0
        assert len(project.completed()) == 1


def test_a_database_without_our_tables_is_named(project: Deployment) -> None:
    assert project.manage("migrate", "bgtasks", "zero").returncode == 0
    done = project.manage("process_tasks", "--drain")
    assert done.returncode == 1
    assert "manage.py migrate" in done.stderr


def test_reloading_runs_tasks_in_the_process(project: Deployment) -> None:
    project.run("tasks.work(1)")
    worker = project.worker("--dev")
    worker.wait_for("Running tasks in this process")
    project.wait_for("work")
    eventually(lambda: project.completed(), "recorded")
    worker.stop()


def test_a_mended_module_is_noticed_after_a_broken_one(project: Deployment) -> None:
    app = project.folder / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    code = "from bgtasks import background\n\n\n@background\ndef sell():\n    pass\n"
    (app / "tasks.py").write_text(code + "def (\n")
    path = f"{ROOT}{os.pathsep}{project.folder}"
    worker = project.worker("--dev", MORE_APPS="shop", PYTHONPATH=path)
    worker.wait_for("shop.tasks cannot be imported")
    worker.wait_for("Running tasks in this process")
    project.run(
        "from background_task.models import Task\nTask.objects.new_task('shop.tasks.sell').save()"
    )
    before = worker.mark()

    def saved_and_noticed() -> bool:
        # The reloader looks once a second, and must have seen the file before it changes. In one
        # step, as editors save: half a file would be a module without the task.
        (app / "saved").write_text(code)
        (app / "saved").replace(app / "tasks.py")
        return "Running tasks in this process" in "\n".join(worker.output.splitlines()[before:])

    eventually(saved_and_noticed, "reloaded")
    eventually(lambda: project.completed(), "the mended task ran")
    worker.stop()


# --- stopping


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGTSTP", "SIGHUP"])
def test_told_to_stop_it_finishes_what_runs_and_hands_back_the_rest(
    project: Deployment, name: str
) -> None:
    go = project.folder / "go"
    project.run(
        f"for n in range(60): tasks.work(n, priority=2)\ntasks.until(1, {str(go)!r}, priority=1)\n"
        "for n in range(60, 90): tasks.work(n)"
    )
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, getattr(signal, name))
    eventually(lambda: len(project.rows(where="locked_by IS NULL")) == 30, "handed back")
    go.touch()
    assert worker.wait() == 0, worker.output
    assert len(project.ledger("end")) == 1
    assert len(project.completed()) == 61
    assert [row["attempts"] for row in project.rows()] == [0] * 30
    assert project.rows("bgtasks_worker") == []
    assert project.attempts() == []


def test_a_task_that_outlasts_the_grace_period_is_ended_and_its_row_released(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_GRACE=0.3)
    project.run("tasks.until(1, '/nowhere')")
    worker = project.worker()
    project.wait_for("begin")
    assert worker.stop() == 0
    (row,) = project.rows()
    assert (row["locked_by"], row["attempts"]) == (None, 1)
    assert "Stopped: " in row["last_error"]
    assert [attempt["state"] for attempt in project.attempts()] == ["stopped"]


def test_told_twice_it_ends_at_once(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=600)
    project.run("tasks.until(1, '/nowhere')")
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, signal.SIGTERM)
    told_at = time.monotonic()

    def told_again() -> bool:
        nonlocal told_at
        if time.monotonic() - told_at > 1.2:  # within a second it would be the same signal
            os.kill(worker.pid, signal.SIGINT)
            told_at = time.monotonic()
        return not lock_holder(project)

    eventually(told_again, "handed back")
    assert worker.wait() == 0
    assert [attempt["state"] for attempt in project.attempts()] == ["stopped"]


def test_a_child_told_to_stop_is_replaced(project: Deployment) -> None:
    worker = project.worker()
    (child,) = eventually(lambda: children(worker.pid), "a child")
    os.kill(child, signal.SIGTERM)
    eventually(lambda: children(worker.pid) not in ([child], []), "another child")
    project.run("tasks.work(1)")
    project.wait_for("work")


def test_told_to_rest_or_to_hurry_it_works_on(project: Deployment) -> None:
    worker = project.worker()
    (child,) = eventually(lambda: children(worker.pid), "a child")
    for key, name in (("a", "SIGUSR2"), ("b", "SIGUSR1")):
        os.kill(worker.pid, getattr(signal, name))
        os.kill(child, getattr(signal, name))  # a terminal or a script may tell all of them
        project.run(f"tasks.work({key!r})")
        project.wait_for("work", key)
    assert children(worker.pid) == [child]


# --- rescue


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


@pytest.mark.parametrize("task", ["kill_worker", "exit_hard"])
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
    eventually(lambda: "is gone. Ending" in worker.output, "noticed")
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
    assert {attempt["state"] for attempt in project.attempts()} == {"stopped"}


def test_p5_a_task_that_holds_the_interpreter_keeps_its_claim(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    project.run("tasks.hold_interpreter('a', 4)")
    project.worker()
    project.wait_for("begin")
    project.worker()
    eventually(lambda: project.completed(), "recorded")
    assert len(project.ledger("begin")) == 1
    assert project.attempts() == []


# --- limits


def test_a_task_past_its_timeout_is_ended_and_its_neighbours_lose_nothing(
    project: Deployment,
) -> None:
    go = project.folder / "go"
    project.run(f"tasks.endless('a'); tasks.until('n', {str(go)!r})")
    worker = project.worker("--threads", "2")
    project.wait_for("begin", count=2)
    pid = int(project.ledger("begin")[0][-1])
    go.touch()
    eventually(lambda: project.attempts(), "timed out")
    (attempt,) = project.attempts()
    assert attempt["state"] == "timed_out"
    assert "longer than 1 s" in attempt["error"]
    assert [row["attempts"] for row in project.completed()] == [1]
    (row,) = project.rows()
    assert (row["locked_by"], row["attempts"]) == (None, 1)
    eventually(lambda: children(worker.pid) not in ([], [pid]), "another child")


def test_neighbours_that_outlast_the_grace_period_are_stopped_and_not_suspected(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_GRACE=0.2)
    project.run("tasks.endless('a'); tasks.until('n', '/nowhere')")
    project.worker("--threads", "2")
    project.wait_for("begin", "n", count=2)
    states = {attempt["state"] for attempt in project.attempts()}
    assert states == {"timed_out", "stopped"}


def test_a_coroutine_past_its_timeout_is_cancelled(project: Deployment) -> None:
    project.run("tasks.endless_coroutine('a'); tasks.work(1, priority=-1)")
    project.worker()
    pid = project.wait_for("begin")[0][-1]
    assert project.wait_for("work")[0][-1] == pid, "its process lives on"
    (attempt,) = eventually(project.attempts, "cancelled")
    assert attempt["state"] == "timed_out"


def test_max_run_time_limits_every_task_once_a_project_sets_it(deploy: Deploy) -> None:
    project = deploy(MAX_RUN_TIME=1)
    project.run("tasks.until('a', '/nowhere')")
    project.worker()
    eventually(lambda: project.attempts(), "timed out")
    assert project.attempts()[0]["state"] == "timed_out"


def test_a_huge_max_run_time_is_no_limit(deploy: Deploy) -> None:
    project = deploy(MAX_RUN_TIME=9999999999)
    project.run("tasks.work(1)")
    project.drain()
    assert len(project.completed()) == 1


# --- a loop that goes on


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_a_task_that_ends_the_interpreter_is_a_failed_attempt(
    project: Deployment, name: str
) -> None:
    project.run(f"tasks.raise_named({name!r}, priority=1); tasks.work(1)")
    project.drain()
    assert project.ledger("raise")[0][-1] == project.ledger("work")[0][-1], "the same process"
    assert [attempt["state"] for attempt in project.attempts()] == ["failed"]
    assert name in project.attempts()[0]["error"]


def test_a_task_that_exhausts_the_memory_is_a_failed_attempt(project: Deployment) -> None:
    project.run("tasks.exhaust_memory(priority=1); tasks.work(1)")
    project.drain()
    assert "MemoryError" in project.attempts()[0]["error"]
    assert len(project.completed()) == 1


@pytest.mark.parametrize("leak", ["leak_transaction", "leak_raw_transaction"])
def test_a_leaked_transaction_is_rolled_back_and_told(project: Deployment, leak: str) -> None:
    project.run(f"tasks.{leak}(priority=1); tasks.query(1)")
    project.drain()
    assert "left a transaction open on default" in project.attempts()[0]["error"]
    assert project.ledger("query")[0][:3] == ["query", "1", "0"]
    assert len(project.completed()) == 1


def test_a_leaked_language_does_not_reach_the_next_task(project: Deployment) -> None:
    project.run("tasks.leak_language(priority=1); tasks.tell_language()")
    project.drain()
    assert project.ledger("language")[0][1:3] == ["en-us", "America/Chicago"]


def test_a_connection_lost_in_a_task_costs_that_task_an_attempt_only(project: Deployment) -> None:
    project.run("tasks.lose_connection(priority=1); tasks.query(1)")
    project.drain()
    assert [attempt["state"] for attempt in project.attempts()] == ["failed"]
    assert len(project.completed()) == 1


def test_raising_receivers_change_no_outcome(project: Deployment) -> None:
    apps = {"MORE_APPS": "tests.bgtasks.project.listening"}
    project.run(
        "for n in range(4): tasks.work(n)\ntasks.work(4, repeat=3600)\n"
        "tasks.fail()\ntasks.kill_worker('pill', priority=1)"
    )
    output = project.drain(**apps)
    assert len(project.ledger("work")) == 5
    assert len(project.rows(where="repeat = 3600")) == 1, "it repeats all the same"
    assert len(project.completed()) == 5
    assert len(project.rows("bgtasks_outcome")) == 5
    states = sorted(attempt["state"] for attempt in project.attempts())
    assert states == ["failed", "lost", "lost"]
    told = {line[1] for line in project.ledger("receiver")}
    assert {
        "successful",
        "error",
        "rescheduled",
        "started",
        "CompletedTask",
        "Task",
        "audit",
    } <= told
    assert "the task's outcome stands" in output


def test_a_row_deleted_while_it_runs_stays_deleted(project: Deployment) -> None:
    project.run("tasks.delete_own_row('k')")
    output = project.drain()
    assert len(project.ledger("deleted")) == 1
    assert project.rows() == project.completed() == []
    assert "is not recorded" in output


def test_text_that_no_database_stores_is_stored_escaped(project: Deployment) -> None:
    project.run("tasks.nul(priority=1); tasks.work(1)")
    project.drain()
    assert r"a \x00 and half a pair \ud800" in project.rows()[0]["last_error"]
    assert len(project.completed()) == 1


def allow_connections(project: Deployment, allowed: bool) -> None:
    """An outage of PostgreSQL, for one database: no new connections, and the old ones ended."""
    name = project.database.name
    project.database._administer(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')
    if not allowed:
        project.database._administer(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )


def test_p5_an_outage_kills_nobody(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    if not project.database.on_postgresql:
        return  # a file has no outage; test_sqlite.py has what it has instead
    go = project.folder / "go"
    project.run(f"for n in range(2): tasks.until(n, {str(go)!r})")
    workers = [project.worker(), project.worker()]
    project.wait_for("begin", count=2)
    allow_connections(project, False)
    for worker in workers:
        worker.wait_for("No heartbeat")
    go.touch()
    project.wait_for("end", count=2)
    for worker in workers:
        # Longer than the lease: each tries to record, four times at least.
        worker.wait_for("trying on")
        mark = worker.mark()
        assert mark
    allow_connections(project, True)
    eventually(lambda: len(project.completed()) == 2, "recorded")
    assert len(project.ledger("begin")) == 2
    assert project.attempts() == []
    assert len(project.rows("bgtasks_worker")) == 2


def test_terminated_backends_lose_nothing(project: Deployment) -> None:
    if not project.database.on_postgresql:
        return
    project.run("for n in range(400): tasks.query(n)")
    worker = project.worker("--threads", "4", "--drain")
    for count in (50, 150, 250):
        project.wait_for("query", count=count)
        project.database._administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{project.database.name}'"
        )
    assert worker.wait() == 0
    # A query that was cut off is a failed attempt, and says so.
    for attempt in project.attempts():
        assert attempt["state"] == "failed"
    done = len(project.completed()) + len(project.rows())
    assert done == 400
    runs = [line[1] for line in project.ledger("query")]
    assert len(runs) == len(set(runs))


# --- projects that are set up otherwise


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo"])
def test_p2_without_time_zones_a_lost_host_is_told_from_a_living_one(
    deploy: Deploy, zone: str
) -> None:
    project = deploy(USE_TZ=False, TIME_ZONE=zone, BGTASKS_LEASE=1)
    go = project.folder / "go"
    first = project.worker(**elsewhere(project))
    project.run(f"tasks.until('a', {str(go)!r})")
    project.wait_for("begin")
    second = project.worker(**elsewhere(project))
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "two workers")
    kill_tree(first.pid)
    project.wait_for("begin", count=2)
    go.touch()
    eventually(lambda: project.completed(), "recorded")
    (attempt,) = project.attempts()
    assert f"process {first.pid} on" in attempt["error"]
    assert "No heartbeat" not in second.output


def test_many_threads_and_quick_tasks_run_each_once(project: Deployment) -> None:
    project.run("for n in range(2500): tasks.nothing()")
    project.drain("--threads", "16")
    assert len(project.completed("failed_at IS NULL AND attempts = 1")) == 2500
    assert project.attempts() == []


def test_a_pool_of_connections_is_not_shared_with_the_children(project: Deployment) -> None:
    if not project.database.on_postgresql:
        return
    options = {"DATABASE_OPTIONS": '{"pool": {"min_size": 1, "max_size": 4}}'}
    project.run("for n in range(200): tasks.query(n)")
    project.drain("--processes", "2", "--threads", "2", **options)
    assert len(project.completed("failed_at IS NULL AND attempts = 1")) == 200


@pytest.mark.parametrize(
    "lock",
    [
        "UPDATE background_task SET verbose_name = 'in an open transaction'",
        "LOCK TABLE bgtasks_revocation IN ACCESS EXCLUSIVE MODE",
    ],
)
def test_a_heartbeat_waits_for_no_lock(deploy: Deploy, lock: str) -> None:
    project = deploy(BGTASKS_LEASE=1)
    if not project.database.on_postgresql:
        return
    go = project.folder / "go"
    project.run(f"tasks.until('a', {str(go)!r})")
    workers = [project.worker(), project.worker()]
    project.wait_for("begin")
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "two workers")
    beats = {row["name"]: row["heartbeat_at"] for row in project.rows("bgtasks_worker")}

    def three_leases_on() -> bool:
        rows = project.rows("bgtasks_worker")
        return all((r["heartbeat_at"] - beats[r["name"]]).total_seconds() > 3 for r in rows)

    with psycopg.connect(project.database.url) as other:
        other.execute(lock)
        eventually(three_leases_on, "both live")
    go.touch()
    eventually(lambda: project.completed(), "recorded")
    assert len(project.ledger("begin")) == 1
    assert all("declared dead" not in worker.output for worker in workers)


def test_a_duration_is_over_without_a_database_too(project: Deployment) -> None:
    if not project.database.on_postgresql:
        return
    allow_connections(project, False)
    worker = project.worker("--duration", "1")
    assert worker.wait() == 0
    assert "Waiting for the database" in worker.output


def test_a_runner_of_the_projects_own_survives_a_lost_connection(project: Deployment) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.running"}
    project.run("tasks.cut_connection('a', priority=1); tasks.work(1)", **more)
    output = project.drain(**more)
    assert "runner of its own" in output
    assert len(project.completed("failed_at IS NULL AND attempts = 1")) == 2
    assert len(project.ledger("cut")) == 1


def test_a_runner_of_the_projects_own_ends_when_told_to(project: Deployment) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.running"}
    project.run("tasks.work(1)", **more)
    worker = project.worker("--sleep", "600", **more)
    project.wait_for("work", "1")
    assert worker.stop() == 0


def test_told_to_stop_before_it_runs_a_worker_in_this_process_starts_nothing(
    project: Deployment,
) -> None:
    project.run(
        "from bgtasks.supervisor.in_process import InProcess\n"
        "from bgtasks.worker.options import Options\n"
        "tasks.work(1)\nworker = InProcess(Options())\nworker.stop()\nworker.run()"
    )
    assert len(project.rows(where="attempts = 0 AND locked_by IS NULL")) == 1


def test_projects_may_refer_to_rows(project: Deployment) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.referring"}
    assert project.manage("migrate", "--run-syncdb", "--verbosity", "0", **more).returncode == 0
    project.run(
        "from tests.bgtasks.project.referring.models import Report\n"
        "Report.objects.create(task=tasks.work(1))\nReport.objects.create(task=tasks.fail())",
        **more,
    )
    project.drain(**more)
    assert len(project.completed()) == 1
    tasks = [row["task_id"] is None for row in project.rows("referring_report")]
    assert tasks == [True, False]


def test_more_threads_than_connections_are_told_at_the_start(project: Deployment) -> None:
    output = project.drain("--processes", "100", "--threads", "100")
    told = "needs 10201 connections to the database" in output
    assert told is project.database.on_postgresql
