"""Real workers: what they run, and how."""

from __future__ import annotations

import os

import pytest

from tests.bgtasks.worker.helpers import Deploy, allow_connections
from tests.harness.deployment import Deployment
from tests.harness.process import ROOT
from tests.harness.waiting import eventually


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


def test_p9_a_duration_below_zero_is_for_ever(project: Deployment) -> None:
    worker = project.worker("--duration", "-1")
    worker.wait_for("is ready")
    project.run("tasks.work('after')")
    project.wait_for("work", "after")
    assert worker.stop() == 0


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


def test_a_database_that_lacks_the_last_migration_is_named(project: Deployment) -> None:
    assert project.manage("migrate", "bgtasks", "0004").returncode == 0
    done = project.manage("process_tasks", "--drain")
    assert done.returncode == 1
    assert "no column names in table bgtasks_worker" in done.stderr


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
    line = worker.wait_for("shop.tasks cannot be imported")
    assert f"{app / 'tasks.py'}, line 7: SyntaxError: " in line
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
