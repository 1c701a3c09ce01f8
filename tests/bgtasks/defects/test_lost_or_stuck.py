"""Defects 1 to 12 of django-background-tasks: tasks that are lost, or that wait for ever."""

from __future__ import annotations

import signal

import pytest

from tests.bgtasks.defects.project import PATIENCE, Project


def raise_in_receiver(project: Project, name: str) -> None:
    """Give the project a receiver of a task's signal that raises."""
    project.add_app(
        "raising",
        f"""
        from background_task import signals
        from django.dispatch import receiver

        @receiver(signals.{name})
        def spoil(**kwargs):
            raise RuntimeError("a bad receiver")
        """,
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_defect_01_a_worker_ended_in_mid_task_leaves_no_lock(project: Project, name: str) -> None:
    project.settings = {"BGTASKS_GRACE": 0, "BGTASKS_LEASE": 2}
    project.enqueue("until", "a", project.gate)
    worker = project.worker()
    project.eventually(lambda: project.noted("begin", "a"))
    worker.stop(signal.Signals[name])
    project.open_gate()
    project.worker()
    project.eventually(lambda: project.noted("end", "a"))
    assert project.noted("begin", "a") == 2


def test_defect_02_a_worker_with_threads_waits_for_what_they_run(project: Project) -> None:
    project.settings = {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 2}
    project.enqueue("slow", "a", 1.5)
    worker = project.worker()
    project.eventually(lambda: project.noted("begin", "a"))
    worker.stop(signal.SIGTSTP)
    assert project.noted("end", "a") == 1
    assert (len(project.rows()), len(project.completed())) == (0, 1)


def test_defect_03_dead_locks_block_nobody(project: Project) -> None:
    project.settings = {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 2}
    project.value("for key in range(3): project.work(key)")
    project.database.query(
        "UPDATE background_task SET locked_by = '999999', locked_at = datetime('now', '-2 hours') "
        "WHERE id IN (SELECT id FROM background_task LIMIT 2)"
    )
    project.worker()
    project.eventually(lambda: project.noted("work") == 3)


def test_defect_04_rows_of_unknown_tasks_block_nobody(project: Project) -> None:
    project.settings = {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 2}
    project.value("for key in range(3): project.work(key, priority=9)")
    project.database.query("UPDATE background_task SET task_name = 'gone.tasks.gone'")
    project.enqueue("work", "known")
    project.worker()
    project.eventually(lambda: project.noted("work", "known"))
    project.eventually(lambda: len(project.rows()) == 3)


def test_defect_05_a_worker_counts_its_own_threads_only(project: Project) -> None:
    project.settings = {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 1}
    project.enqueue("until", "a", project.gate)
    project.worker()
    project.eventually(lambda: project.noted("begin", "a"))
    project.worker()
    project.enqueue("work", "meanwhile")
    project.eventually(lambda: project.noted("work", "meanwhile"))
    assert project.noted("end", "a") == 0


def test_defect_06_what_a_receiver_raises_in_a_thread_is_told(project: Project) -> None:
    raise_in_receiver(project, "task_error")
    project.settings = {"BACKGROUND_TASK_RUN_ASYNC": True, "BACKGROUND_TASK_ASYNC_THREADS": 2}
    row = project.enqueue("fail")
    worker = project.worker()
    project.eventually(lambda: project.retried(row))
    project.eventually(lambda: "a bad receiver" in worker.output)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_defect_07_an_exit_in_a_task_is_a_failed_attempt(
    project: Project, name: str, threads: int
) -> None:
    if threads:
        project.settings = {
            "BACKGROUND_TASK_RUN_ASYNC": True,
            "BACKGROUND_TASK_ASYNC_THREADS": threads,
        }
    row = project.enqueue("raise_named", name, priority=1)
    project.enqueue("work", "after")
    project.worker()
    project.eventually(lambda: project.noted("work", "after") and project.retried(row))
    assert project.noted("raise", name) == 1


@pytest.mark.parametrize("name", ["task_started", "task_error", "task_finished"])
def test_defect_08_a_raising_receiver_ends_no_worker(project: Project, name: str) -> None:
    raise_in_receiver(project, name)
    row = project.enqueue("fail", priority=1)
    project.enqueue("work", "after")
    worker = project.worker()
    project.eventually(lambda: project.noted("work", "after") and project.retried(row))
    project.eventually(lambda: "a bad receiver" in worker.output)


def test_defect_09_a_connection_lost_in_a_task_ends_no_worker(project: Project) -> None:
    row = project.enqueue("lose_connection", priority=1)
    project.enqueue("work", "after")
    project.worker()
    project.eventually(lambda: project.noted("work", "after") and project.retried(row))
    assert project.noted("lost") == 1


def test_defect_10_an_app_listed_by_its_config_has_tasks(project: Project) -> None:
    project.add_app(
        "listed",
        """
        from tests.bgtasks.project.tasks import background, note

        @background
        def greet():
            note("greet")
        """,
        config="""
        from django.apps import AppConfig

        class Config(AppConfig):
            name = "listed"
        """,
    )
    project.value("from listed.tasks import greet; greet()")
    project.worker()
    project.eventually(lambda: project.noted("greet"))


def test_defect_10_tasks_that_cannot_be_imported_are_told(project: Project) -> None:
    project.add_app("broken", "import no_such_module")
    worker = project.worker()
    worker.wait_for("no_such_module", timeout=PATIENCE)
    # The other apps' tasks run.
    project.enqueue("work", "after")
    project.eventually(lambda: project.noted("work", "after"))


def test_defect_11_a_coroutine_runs(project: Project) -> None:
    project.enqueue("coroutine", "a")
    project.worker()
    project.eventually(project.completed)
    assert project.noted("end", "a") == 1


def test_defect_11_a_generator_function_is_refused(project: Project) -> None:
    refused = project.value(
        """
        def lazy():
            yield project.note("lazy")

        try:
            project.background(lazy)
            result = False
        except Exception as error:
            result = "generator" in str(error)
        """
    )
    assert refused


def test_defect_12_nobody_signals_a_process_to_list_rows(project: Project) -> None:
    """On Windows, ``os.kill(pid, 0)`` ends the process."""
    project.add_admin()
    signalled = project.value(
        """
        import os
        from unittest.mock import patch
        from background_task import admin
        from django.contrib.admin.utils import lookup_field

        row = project.work()
        Task.objects.update(locked_by=str(os.getpid()), locked_at=row.run_at)
        row.refresh_from_db()
        done = CompletedTask(task_name=row.task_name, locked_by=row.locked_by, run_at=row.run_at)
        with patch("os.kill") as kill:
            for view, instance in ((admin.TaskAdmin, row), (admin.CompletedTaskAdmin, done)):
                instance.locked_by_pid_running()
                for column in view.list_display:
                    lookup_field(column, instance, view)
        result = kill.call_count
        """
    )
    assert signalled == 0
