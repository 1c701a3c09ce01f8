"""Defects 31 to 34 of django-background-tasks, by counts; no test here looks at a clock."""

from __future__ import annotations

import signal

import pytest

from tests.bgtasks.defects.project import PATIENCE, STOCK, Project


def test_defect_31_a_worker_finds_work_while_another_takes_five_rows(project: Project) -> None:
    found = project.value(
        """
        from threading import Thread
        from django.db import connection, connections

        def take_five():
            for _ in range(5):
                registry._runner.get_task_to_run(registry)
            connections.close_all()

        def interfere(execute, sql, *rest):
            # Once, between the first statement of a worker that looks for work and the next.
            done = execute(sql, *rest)
            if rivals:
                rival = rivals.pop()
                rival.start()
                rival.join()
            return done

        for key in range(8):
            project.work(key)
        rivals = [Thread(target=take_five)]
        with connection.execute_wrapper(interfere):
            row = registry._runner.get_task_to_run(registry)
        result = row and row.params()[0]
        """
    )
    assert found == [5]


def test_defect_32_an_idle_worker_stops_when_it_is_told_to(project: Project) -> None:
    project.log_level = "DEBUG"
    worker = project.worker("--sleep", "3600")
    if STOCK:
        worker.wait_for("waiting for tasks")
    else:
        project.eventually(lambda: project.database.query("SELECT * FROM bgtasks_worker"))
    assert worker.stop(signal.SIGTSTP, timeout=PATIENCE) == 0


@pytest.fixture
def old(project: Project) -> Project:
    """A project with a task that was done a year ago."""
    project.settings = {"BGTASKS_LEASE": 1}
    project.enqueue("work")
    project.worker()
    project.eventually(project.completed)
    project.stop_workers()
    project.database.query(
        "UPDATE background_task_completedtask SET run_at = datetime('now', '-1 year')"
    )
    if not STOCK:
        project.database.query(
            "UPDATE bgtasks_outcome SET finished_at = datetime('now', '-1 year')"
        )
    return project


def test_defect_33_a_worker_forgets_what_was_done_long_ago(old: Project) -> None:
    old.worker()
    old.eventually(lambda: not old.completed())


def test_defect_33_a_command_forgets_what_was_done_long_ago(old: Project) -> None:
    done = old.manage("prune_tasks")
    assert old.completed() == [], done.stdout


def test_defect_34_idle_threads_give_their_connections_up(project: Project) -> None:
    """Past CONN_MAX_AGE, a thread that has nothing to do has no connection to keep."""
    project.database_options = "?conn_max_age=2"
    project.settings = {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 4}
    project.value(f"for key in range(4): project.query_until(key, {project.gate!r})")
    project.worker()
    project.eventually(lambda: project.noted("begin") == 4)
    project.open_gate()
    project.eventually(lambda: len(project.completed()) == 4)
    # Two may stay: the engine's, which looks for work all the time, and that of the thread
    # that watches.
    project.enqueue("watch_connections", 2)
    project.eventually(lambda: project.noted("few"))
