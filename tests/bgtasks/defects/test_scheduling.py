"""Defects 21 to 28, 35 and 42 of django-background-tasks: times, repetitions, creators, the form.

Where defects 22, 23 and 27 need a worker, it runs the rows one by one in the same process.
"""

from __future__ import annotations

from tests.bgtasks.defects.project import Project

RUN = "while registry.run_next_task(): pass\n"


def test_defect_21_no_delay_goes_before_the_declared_one(project: Project) -> None:
    due = project.value(
        """
        from django.utils import timezone
        row = project.later(schedule=0)
        result = row.run_at <= timezone.now()
        """
    )
    assert due


def test_defect_21_a_delay_may_be_a_fraction_of_a_second(project: Project) -> None:
    ahead = project.value(
        """
        from django.utils import timezone
        before = timezone.now()
        try:
            result = (project.work(schedule=1.5).run_at - before).total_seconds()
        except TypeError:
            result = 0
        """
    )
    assert 1.5 <= ahead < 60


def test_defect_22_a_retry_does_not_move_the_later_runs(project: Project) -> None:
    project.enqueue("fail_until", project.gate, repeat=3600)
    before = project.rows()[0]["run_at"]
    project.value(RUN)
    project.open_gate()
    project.make_due()
    project.value(RUN)
    (row,) = project.rows()
    assert row["attempts"] == 0
    assert row["run_at"][14:] == before[14:], "the same minute and second"


def test_defect_23_a_repeating_task_that_fails_for_good_goes_on(project: Project) -> None:
    project.settings = {"MAX_ATTEMPTS": 1, "BACKGROUND_TASK_MAX_ATTEMPTS": 1}
    project.enqueue("fail", repeat=3600)
    project.value(RUN)
    assert len(project.completed()) == 1
    assert [row["attempts"] for row in project.rows()] == [0]


def test_defect_24_no_run_is_enqueued_past_the_end(project: Project) -> None:
    project.value(
        """
        from datetime import timedelta
        from django.utils import timezone
        project.work(repeat=3600, repeat_until=timezone.now() + timedelta(minutes=30))
        while registry.run_next_task(): pass
        """
    )
    assert len(project.completed()) == 1
    assert project.rows() == []


def test_defect_25_a_year_is_caught_up_with_in_one_step(project: Project) -> None:
    """Counted: a run of the loop takes the current time once."""
    looks = project.value(
        """
        from datetime import timedelta
        from unittest import mock
        from background_task import models
        from django.utils import timezone
        project.work(repeat=60, schedule=timezone.now() - timedelta(days=30))
        now = mock.Mock(wraps=timezone.now)
        with mock.patch.object(timezone, "now", now):
            registry.run_next_task()
        result = now.call_count
        """
    )
    assert looks < 100
    assert len(project.rows()) == 1


def test_defect_26_an_interval_may_be_a_timedelta(project: Project) -> None:
    repeat = project.value(
        """
        from datetime import timedelta
        try:
            project.work(repeat=timedelta(hours=2))
            result = Task.objects.get().repeat
        except TypeError:
            result = None
        """
    )
    assert repeat == 7200


def test_defect_26_an_interval_of_less_than_a_second_is_refused(project: Project) -> None:
    refused = project.value(
        """
        try:
            project.work(repeat=0.5)
            result = None
        except ValueError as error:
            result = str(error)
        """
    )
    assert refused is not None
    assert "whole seconds" in refused


def test_defect_27_a_repetition_is_told_of_as_any_row(project: Project) -> None:
    created = project.value(
        """
        from background_task.signals import task_created
        result = []
        def listen(task, **kwargs):
            result.append(task.pk)
        task_created.connect(listen)
        project.work(repeat=3600)
        registry.run_next_task()
        result = result == [1, Task.objects.get().pk] and len(result)
        """
    )
    assert created == 2


def test_defect_28_the_hash_stays_whatever_the_arguments(project: Project) -> None:
    same = project.value(
        """
        row = project.echo({1: "a", 10: "b", 9: "c"}, repeat=3600)
        before = row.task_hash
        registry.run_next_task()
        result = Task.objects.get().task_hash == before
        """
    )
    assert same


CREATORS = """
    from django.db import connection, models
    import uuid
    class Author(models.Model):
        key = models.UUIDField(primary_key=True, default=uuid.uuid4)
        class Meta:
            app_label = "auth"
    with connection.schema_editor() as editor:
        editor.create_model(Author)
    author = Author.objects.create()
"""


def test_defect_35_a_creator_may_have_any_key(project: Project) -> None:
    found = project.value(
        CREATORS
        + """
    try:
        row = project.work(creator=author, repeat=3600)
        registry.run_next_task()
        ended = CompletedTask.objects.created_by(author).get()
        following = Task.objects.created_by(author).get()
        same = [Task.objects.get(pk=following.pk).creator == author, ended.creator == author]
        result = same + [Task.objects.created_by(Author.objects.create()).exists()]
    except Exception as error:
        result = repr(error)
"""
    )
    assert found == [True, True, False]


def test_defect_35_a_creator_that_is_deleted_stays_in_the_history(project: Project) -> None:
    kept = project.value(
        """
        from django.contrib.auth.models import User
        user = User.objects.create(username="a")
        key = user.pk
        project.work(creator=user)
        user.delete()
        registry.run_next_task()
        result = CompletedTask.objects.get().creator_object_id == key
        """
    )
    assert kept


def test_defect_42_who_may_change_a_row_cannot_choose_what_it_runs(project: Project) -> None:
    project.add_admin()
    fields = project.value(
        """
        from background_task.admin import TaskAdmin
        from django.apps import apps
        from django.contrib import admin
        from django.test import RequestFactory
        if apps.is_installed("bgtasks"):
            import bgtasks.admin
        page = TaskAdmin(Task, admin.site)
        request = RequestFactory().get("/")
        result = sorted(page.get_readonly_fields(request))
        """
    )
    assert {"task_name", "task_params", "task_hash", "locked_by", "attempts"} <= set(fields)
    assert not {"run_at", "priority"} & set(fields)
