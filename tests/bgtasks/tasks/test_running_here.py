"""Running rows in the calling process."""

from __future__ import annotations

import threading
import warnings
from datetime import timedelta
from typing import Any

import pytest
from background_task import signals
from background_task.models import CompletedTask, Task
from background_task.tasks import DBTaskRunner, TaskSchedule
from background_task.tasks import tasks as registry
from django.core.management import CommandError, call_command
from django.db.models.signals import post_save
from django.utils import timezone, translation

from bgtasks import AsyncResult, background, set_progress
from bgtasks.models import Attempt, Outcome
from tests.bgtasks.tasks.helpers import failing, plain, ran, wrapped


@pytest.mark.usefixtures("empty_queue")
def test_signals_come_in_their_order_and_carry_what_they_promise() -> None:
    told: list[Any] = []

    def listen(signal: Any, name: str) -> Any:
        def receiver(sender: Any, **kwargs: Any) -> None:
            kwargs.pop("signal")
            told.append((name, sender, Task.objects.count(), sorted(kwargs)))

        signal.connect(receiver, weak=False)
        return lambda: signal.disconnect(receiver)

    names = ["created", "started", "successful", "finished", "error", "failed", "rescheduled"]
    undo = [listen(getattr(signals, f"task_{name}"), name) for name in names]
    try:
        task = background(plain)
        task(repeat=60)
        registry.run_next_task()
        background(failing)()
        registry.run_next_task()
    finally:
        for disconnect in undo:
            disconnect()
    assert told == [
        ("created", DBTaskRunner, 1, ["task"]),
        ("started", Task, 1, []),
        ("finished", Task, 1, []),
        # Sent before the repetition is there and before the row goes.
        ("successful", Task, 1, ["completed_task", "task_id"]),
        ("created", DBTaskRunner, 2, ["task"]),  # the repetition
        ("created", DBTaskRunner, 2, ["task"]),
        ("started", Task, 2, []),
        ("error", ValueError, 2, ["task"]),
        ("finished", Task, 2, []),
        ("rescheduled", Task, 2, ["task"]),
    ]


@pytest.mark.usefixtures("empty_queue")
def test_a_receiver_may_set_another_time_for_the_next_attempt() -> None:
    tomorrow = timezone.now() + timedelta(days=1)

    def later(task: Task, **kwargs: Any) -> None:
        task.run_at = tomorrow

    signals.task_rescheduled.connect(later)
    try:
        background(failing)()
        registry.run_next_task()
    finally:
        signals.task_rescheduled.disconnect(later)
    assert Task.objects.get().run_at == tomorrow


@pytest.mark.usefixtures("empty_queue")
def test_the_current_exception_is_there_for_an_error_tracker() -> None:
    import sys

    seen: list[Any] = []

    def track(**kwargs: Any) -> None:
        seen.append(sys.exc_info()[0])

    signals.task_error.connect(track)
    try:
        background(failing)()
        registry.run_next_task()
    finally:
        signals.task_error.disconnect(track)
    assert seen == [ValueError]


@pytest.mark.usefixtures("empty_queue")
def test_receivers_of_a_completed_row_see_it_saved() -> None:
    seen: list[Any] = []

    def look(instance: CompletedTask, created: bool, **kwargs: Any) -> None:
        seen.append((created, CompletedTask.objects.get(pk=instance.pk).task_name))

    post_save.connect(look, sender=CompletedTask)
    try:
        background(plain)()
        registry.run_next_task()
    finally:
        post_save.disconnect(look, sender=CompletedTask)
    assert seen == [(True, "tests.bgtasks.tasks.helpers.plain")]


@pytest.mark.usefixtures("empty_queue")
def test_inside_a_test_the_command_runs_rows_in_this_very_process() -> None:
    task = background(plain)
    task("a")
    task("b", queue="q")
    task("c", queue="elsewhere")
    call_command("process_tasks", "--drain", "--queue", "q")
    assert ran == [("b",)]
    call_command("process_tasks", drain=True, queue="elsewhere")
    call_command("process_tasks", drain=True)
    assert ran == [("b",), ("c",), ("a",)]
    assert Outcome.objects.filter(state="succeeded").count() == 3


@pytest.mark.usefixtures("empty_queue")
def test_the_command_ends_after_its_duration_here_too() -> None:
    background(plain)()
    call_command("process_tasks", duration=0.05, sleep=0.01)
    assert ran == [()]


@pytest.mark.usefixtures("empty_queue")
def test_a_runner_of_the_projects_own_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Runner(DBTaskRunner):
        worker_name = "mine"

        def run_task(self, tasks: Any, task: Task) -> None:
            ran.append((self.worker_name, task.locked_by))
            super().run_task(tasks, task)

    task = background(plain)
    monkeypatch.setattr(registry, "_runner", Runner())
    task()
    call_command("process_tasks", drain=True)
    assert ran == [("mine", "mine"), ()]
    assert "runner of its own" in caplog.text
    assert "bgtasks-locks" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("empty_queue")
def test_running_a_row_that_another_worker_holds_does_nothing() -> None:
    row = background(plain)()
    Task.objects.update(locked_by="another", locked_at=timezone.now())
    registry.run_task(row)
    assert ran == []


@pytest.mark.usefixtures("empty_queue")
def test_a_stale_instance_of_a_row_that_a_worker_runs_is_not_run() -> None:
    row = background(plain)()
    held = {"locked_by": "bg~000000000000.1-1", "locked_at": timezone.now()}
    Task.objects.update(**held)
    row.refresh_from_db()
    registry.run_task(row)
    assert ran == []
    row.priority = 5
    row.save()
    Task.objects.get(priority=5, **held)


@pytest.mark.usefixtures("empty_queue")
def test_a_coroutine_function_behind_a_plain_wrapper_is_run() -> None:
    background(name="wrapped")(wrapped)("a")
    registry.run_next_task()
    assert ran == [("a", "awaited")]


@pytest.mark.usefixtures("empty_queue")
def test_running_by_name_takes_the_row_that_waits_for_the_same_call() -> None:
    task = background(plain)
    task("a")
    registry.run_task(task.name, ["a"], {})
    registry.run_task(task.name, ["b"], {})
    assert ran == [("a",), ("b",)]
    assert CompletedTask.objects.count() == 1


@pytest.mark.usefixtures("empty_queue")
def test_a_failure_is_told_from_where_the_tasks_own_code_begins() -> None:
    background(failing)()
    registry.run_next_task()
    error = Task.objects.get().last_error
    assert error.startswith("Traceback")
    assert "executor.py" not in error
    assert Attempt.objects.get().error == error


def counting() -> None:
    for done in range(3):
        set_progress(done + 1, 3)


@pytest.mark.usefixtures("empty_queue")
@pytest.mark.parametrize("command", [False, True])
def test_the_last_progress_of_a_task_is_kept(command: bool) -> None:
    row = background(counting)()
    if command:
        call_command("process_tasks", "--drain")
    else:
        registry.run_next_task()
    assert AsyncResult(row.pk).progress == (3, 3, "")


@pytest.mark.usefixtures("empty_queue")
def test_a_leaked_language_ends_with_the_task() -> None:
    background(name="leak")(lambda_free_leak)()
    with translation.override("fr"):
        registry.run_next_task()
        assert translation.get_language() == "fr"


def lambda_free_leak() -> None:
    translation.activate("de")


@pytest.mark.usefixtures("empty_queue")
def test_the_schedule_of_a_row_may_be_a_schedule_object() -> None:
    row = background(schedule=TaskSchedule(run_at=60, priority=4))(plain)()
    assert row.priority == 4
    assert row.run_at > timezone.now() + timedelta(seconds=50)


@pytest.mark.usefixtures("empty_queue")
def test_prune_tasks_tells_what_it_forgot(capsys: pytest.CaptureFixture[str]) -> None:
    background(plain)()
    registry.run_next_task()
    call_command("prune_tasks")
    assert "deleted: 0." in capsys.readouterr().out
    call_command("prune_tasks", "--older-than", "0")
    assert "deleted: 1." in capsys.readouterr().out
    with pytest.raises(CommandError, match="no sensible number of days"):
        call_command("prune_tasks", "--older-than", "-1")


def test_nothing_here_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        background(plain)


@pytest.mark.usefixtures("empty_queue")
def test_the_admin_lists_what_we_keep_and_changes_none_of_it(admin_client: Any) -> None:
    background(failing)()
    registry.run_next_task()
    background(plain)()
    registry.run_next_task()
    for name, text in (("worker", "workers"), ("outcome", "succeeded"), ("attempt", "failed")):
        page = admin_client.get(f"/admin/bgtasks/{name}/")
        assert text in page.content.decode()
        assert admin_client.get(f"/admin/bgtasks/{name}/add/").status_code == 403
    attempt = Attempt.objects.get()
    page = admin_client.get(f"/admin/bgtasks/attempt/{attempt.pk}/change/")
    assert "ValueError: no" in page.content.decode()
    assert admin_client.post(f"/admin/bgtasks/attempt/{attempt.pk}/delete/").status_code == 403


@pytest.mark.usefixtures("empty_queue")
def test_the_admins_actions_change_the_priority_of_rows_and_nothing_else(
    admin_client: Any,
) -> None:
    row = background(plain)(priority=3)
    Task.objects.update(locked_by="bg~000000000000.1-1", locked_at=timezone.now())
    for action, priority in (("inc_priority", 4), ("dec_priority", 3)):
        form = {"action": action, "_selected_action": [row.pk]}
        answer = admin_client.post("/admin/background_task/task/", form)
        assert answer.status_code == 302
        Task.objects.get(priority=priority, locked_by="bg~000000000000.1-1")
