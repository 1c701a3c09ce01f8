"""Defects 36 to 43 of django-background-tasks: settings, the API, the command."""

from __future__ import annotations

from tests.bgtasks.defects.project import Project


def test_defect_36_the_prefixed_limit_of_attempts_counts(project: Project) -> None:
    project.settings = {"BACKGROUND_TASK_MAX_ATTEMPTS": 1}
    project.enqueue("fail")
    project.worker()
    project.eventually(project.completed)
    (row,) = project.completed()
    assert (row["attempts"], bool(row["failed_at"]), project.rows()) == (1, True, [])


def test_defect_37_a_success_after_a_failure_has_no_error(project: Project) -> None:
    row = project.enqueue("fail_until", project.gate)
    project.worker()
    project.eventually(lambda: project.retried(row))
    project.open_gate()
    project.make_due()
    project.eventually(project.completed)
    has_error = project.value("result = CompletedTask.objects.get().has_error()")
    assert (has_error, project.noted("succeeded")) == (False, 1)


def test_defect_38_two_functions_cannot_be_one_task(project: Project) -> None:
    refused = project.value(
        """
        def letter(): project.note("letter")
        def parcel(): project.note("parcel")
        project.background(name="send")(letter)
        try:
            project.background(name="send")(parcel)
            result = False
        except Exception as error:
            result = "letter" in str(error) and "parcel" in str(error)
        """
    )
    assert refused


def test_defect_38_a_task_looks_like_its_function(project: Project) -> None:
    names = project.value(
        """
        import inspect

        task = project.until
        result = (
            getattr(task, "__name__", None),
            getattr(task, "__module__", None),
            task.__doc__,
            list(inspect.signature(task).parameters),
        )
        """
    )
    expected = ["until", "tests.bgtasks.project.tasks", "Run until a file appears."]
    assert names == [*expected, ["key", "path"]]


def test_defect_39_no_migration_is_wanted_in_an_installed_package(project: Project) -> None:
    """The project's DEFAULT_AUTO_FIELD is BigAutoField, as Django 6's default is."""
    done = project.manage("makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout


def test_defect_40_what_tasks_print_and_flush_is_logged(project: Project) -> None:
    project.enqueue("chatter")
    worker = project.worker("--log-std")
    project.eventually(lambda: "process_tasks: printed" in worker.output)
    project.eventually(lambda: "process_tasks: on stderr" in worker.output)


def test_defect_40_printing_needs_no_log_handler(project: Project) -> None:
    project.settings = {"LOGGING_CONFIG": None}
    project.enqueue("complain")
    worker = project.worker("--log-std")
    project.eventually(lambda: project.noted("complain"))
    project.stop_workers()
    assert worker.output.count("on stderr") == 1


def test_defect_41_the_command_runs_in_any_thread(project: Project) -> None:
    project.value(
        """
        from threading import Thread
        from django.core.management import call_command

        project.work("threaded")
        options = {"duration": 1, "sleep": 0.1}
        thread = Thread(target=call_command, args=["process_tasks"], kwargs=options)
        thread.start()
        thread.join()
        """
    )
    assert (project.noted("work", "threaded"), len(project.completed())) == (1, 1)


def test_defect_41_a_language_does_not_reach_the_next_task(project: Project) -> None:
    project.value("project.leak_language(priority=1); project.tell_language()")
    project.worker()
    project.eventually(lambda: project.noted("language"))
    assert (project.noted("leak"), project.noted("language", "en-us")) == (1, 1)


def test_defect_43_tasks_that_fail_together_do_not_return_together(project: Project) -> None:
    returns = project.value(
        """
        from unittest.mock import patch
        from django.utils import timezone

        for key in range(20):
            project.fail(key)
        now = timezone.now()
        # The clock stands still: what differs is the delay.
        with patch("django.utils.timezone.now", return_value=now):
            for row in Task.objects.all():
                error = ValueError("as it should")
                row.lock("a worker").reschedule(ValueError, error, None)
        result = Task.objects.values("run_at").distinct().count()
        """
    )
    assert returns > 15
