"""Defects 13 to 20 of django-background-tasks: tasks that run twice, rows that return."""

from __future__ import annotations

import pytest

from tests.bgtasks.defects.project import Project

HOURLY = 3600
# Somebody opens the list, something happens, and only then they use the page's action.
ADMIN = """
from background_task.admin import inc_priority
from django.db import DatabaseError

row = project.work()
page = list(Task.objects.all())
{meanwhile}
try:
    inc_priority(None, None, page)
except DatabaseError:
    pass
result = list(Task.objects.values_list("locked_by", flat=True))
"""


def run_past_the_limit(project: Project, **options: int) -> None:
    """Two workers, and a task that outruns `MAX_RUN_TIME` in one of them."""
    project.settings = {"MAX_RUN_TIME": 1}
    row = project.enqueue("alone", "a", project.gate, **options)
    project.worker()
    project.worker()
    project.eventually(lambda: project.noted("overlap") or project.retried(row))
    project.make_due()
    project.eventually(lambda: project.noted("begin", "a") == 2)


def test_defect_13_a_task_past_its_limit_runs_once_at_a_time(project: Project) -> None:
    run_past_the_limit(project)
    assert project.noted("overlap") == 0


def test_defect_14_a_repeating_task_past_its_limit_goes_on_as_one(project: Project) -> None:
    run_past_the_limit(project, repeat=HOURLY)
    project.open_gate()
    project.stop_workers()
    assert [row["repeat"] for row in project.rows()] == [HOURLY]
    assert len(project.completed()) == 1


def test_defect_15_a_deleted_row_cannot_be_saved_back(project: Project) -> None:
    rows = project.value(
        """
        from django.db import DatabaseError

        row = project.work()
        Task.objects.all().delete()
        row.priority = 5
        try:
            row.save()
        except DatabaseError:
            pass
        result = Task.objects.count()
        """
    )
    assert rows == 0


def test_defect_15_a_repeating_task_can_delete_its_row_for_good(project: Project) -> None:
    project.enqueue("delete_own_row", "a", repeat=HOURLY, priority=1)
    project.enqueue("work")
    project.worker()
    # One worker runs both in this order, so the first one's ending is recorded too.
    project.eventually(lambda: "project.tasks.work" in str(project.completed()))
    project.stop_workers()
    assert project.noted("deleted", "a") == 1
    assert project.rows() == []


def test_defect_16_the_admin_unlocks_no_running_task(project: Project) -> None:
    project.add_admin()
    assert project.value(ADMIN.format(meanwhile='row.lock("a worker")')) == ["a worker"]


def test_defect_16_the_admin_brings_no_finished_task_back(project: Project) -> None:
    project.add_admin()
    assert project.value(ADMIN.format(meanwhile="Task.objects.all().delete()")) == []


def test_defect_17_a_finished_task_stays_finished_whatever_receivers_do(project: Project) -> None:
    project.add_app(
        "raising",
        """
        from background_task import signals
        from django.dispatch import receiver

        @receiver(signals.task_successful)
        def spoil(**kwargs):
            raise RuntimeError("a bad receiver")
        """,
    )
    project.enqueue("work")
    project.worker()
    project.eventually(project.completed)
    project.stop_workers()
    assert project.rows() == []
    assert (project.noted("work"), len(project.completed())) == (1, 1)


def test_defect_18_a_lock_heeds_the_delay_that_was_set_meanwhile(project: Project) -> None:
    locked = project.value(
        """
        from datetime import timedelta
        from django.utils import timezone

        project.work()
        stale = Task.objects.find_available()[0]
        Task.objects.update(run_at=timezone.now() + timedelta(hours=1), attempts=1)
        result = stale.lock("another worker") is not None
        """
    )
    assert not locked


def test_defect_19_many_who_check_for_one_make_one(project: Project) -> None:
    rows = project.value(
        """
        from threading import Barrier, Thread
        from django.db import connections

        start = Barrier(4)

        def enqueue():
            for key in range(20):
                start.wait(30)
                project.work(key, schedule={"action": TaskSchedule.CHECK_EXISTING})
            connections.close_all()

        threads = [Thread(target=enqueue) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        result = Task.objects.count()
        """
    )
    assert rows == 20


@pytest.mark.parametrize("action", ["CHECK_EXISTING", "RESCHEDULE_EXISTING"])
def test_defect_19_the_row_that_waits_already_is_returned(project: Project, action: str) -> None:
    first, again = project.value(
        f"""
        action = {{"action": TaskSchedule.{action}}}
        result = [getattr(project.work(1, schedule=action), "pk", None) for _ in range(2)]
        """
    )
    assert again == first


def test_defect_19_a_call_replaces_nothing_in_another_queue(project: Project) -> None:
    queues = project.value(
        """
        project.work(queue="a")
        project.work(queue="b", remove_existing_tasks=True)
        result = list(Task.objects.order_by("pk").values_list("queue", flat=True))
        """
    )
    assert queues == ["a", "b"]


def test_defect_19_a_call_finds_nothing_in_another_queue(project: Project) -> None:
    queues = project.value(
        """
        project.work(queue="a")
        project.work(schedule={"action": TaskSchedule.CHECK_EXISTING})
        result = list(Task.objects.order_by("pk").values_list("queue", flat=True))
        """
    )
    assert queues == ["a", None]


def test_defect_20_a_lock_names_more_than_a_pid(project: Project) -> None:
    project.enqueue("until", "a", project.gate)
    project.worker()
    project.eventually(lambda: project.noted("begin", "a"))
    (row,) = project.rows()
    assert not row["locked_by"].isdigit()


def test_defect_20_a_fork_locks_under_a_name_of_its_own(project: Project) -> None:
    ours, forks = project.value(
        """
        import os

        reader, writer = os.pipe()
        ours = registry._runner.worker_name
        if os.fork() == 0:
            os.write(writer, registry._runner.worker_name.encode())
            os._exit(0)
        os.wait()
        result = ours, os.read(reader, 999).decode()
        """
    )
    assert ours != forks
