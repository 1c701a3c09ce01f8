"""The pages of tasks are those of django-background-tasks, with its two actions mended; beside
them what we keep ourselves, to read."""

from __future__ import annotations

from typing import Any

from background_task.admin import CompletedTaskAdmin, TaskAdmin
from django.contrib import admin
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils.html import format_html

from bgtasks.models import Attempt, CompletedTask, Outcome, Task, Worker
from bgtasks.queue import claims


@admin.action(description="priority += 1")
def inc_priority(modeladmin: Any, request: Any, queryset: Any) -> None:
    """Raise the priority of what still waits, whatever the page showed."""
    claims.change_priority(queryset, 1)


@admin.action(description="priority -= 1")
def dec_priority(modeladmin: Any, request: Any, queryset: Any) -> None:
    """Lower the priority of what still waits, whatever the page showed."""
    claims.change_priority(queryset, -1)


# What may be changed of a row that waits: when and where it runs, not what.
CHANGEABLE = {"priority", "queue", "repeat", "repeat_until", "run_at", "verbose_name"}


def readonly_fields(self: Any, request: Any, obj: Any = None) -> list[str]:
    """All but `CHANGEABLE`: who may change a row must not be able to run any task with any
    arguments by it."""
    return [field.name for field in self.opts.fields if field.name not in CHANGEABLE]


def nobody(self: Any, request: Any, obj: Any = None) -> bool:
    """Rows are written by calls, and completed ones by workers."""
    return False


@admin.display(description="error")
def error(row: Any) -> str:
    """In words: Django's icon for yes is green, and an error is no success."""
    return "yes" if row.has_error() else ""


for _admin in (TaskAdmin, CompletedTaskAdmin):
    _admin.list_display = [error if name == "has_error" else name for name in _admin.list_display]
TaskAdmin.actions = [inc_priority, dec_priority]
TaskAdmin.get_readonly_fields = readonly_fields
TaskAdmin.has_add_permission = nobody
CompletedTaskAdmin.has_add_permission = nobody
CompletedTaskAdmin.has_change_permission = nobody


class ToRead(admin.ModelAdmin):
    """A list and its rows, which only the engine writes."""

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


@admin.register(Worker)
class WorkerAdmin(ToRead):
    list_display = ("name", "host", "pid", "processes", "threads", "started_at", "heartbeat_at")


def _name(rows: Any, key: str) -> Subquery:
    """SQL for the task's name of the row that a column refers to."""
    return Subquery(rows.filter(pk=OuterRef(key)).values("task_name")[:1])


class Named(ToRead):
    """With the name of the task, which stands in the row alone."""

    name: Any

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).annotate(_task_name=self.name)

    @admin.display(description="task")
    def task_name(self, row: Any) -> str:
        return row._task_name or ""


@admin.register(Outcome)
class OutcomeAdmin(Named):
    name = _name(CompletedTask.objects, "completed_id")
    list_display = ("task_id", "task_name", "state", "attempts", "finished_at", "completed_id")
    list_filter = ("state",)
    search_fields = ("=task_id", "=completed_id")
    ordering = ("-finished_at",)


@admin.register(Attempt)
class AttemptAdmin(Named):
    name = Coalesce(
        _name(Task.objects, "task_id"),
        Subquery(
            Outcome.objects.filter(pk=OuterRef("task_id"))
            .annotate(_name=_name(CompletedTask.objects, "completed_id"))
            .values("_name")[:1]
        ),
    )
    list_display = ("task_id", "task_name", "number", "state", "ended_at", "claim")
    fields = ("task_id", "number", "state", "claim", "started_at", "ended_at", "story")

    @admin.display(description="error")
    def story(self, row: Attempt) -> str:
        return format_html("<pre>{}</pre>", row.error)  # a traceback lives by its indentation

    list_filter = ("state",)
    search_fields = ("=task_id", "error")
    ordering = ("-ended_at",)
