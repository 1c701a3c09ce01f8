"""The pages of tasks are those of django-background-tasks, with its two actions mended; beside
them what we keep ourselves, to read."""

from __future__ import annotations

from typing import Any

from background_task.admin import CompletedTaskAdmin, TaskAdmin
from django.contrib import admin

from bgtasks.models import Attempt, Outcome, Worker
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


@admin.register(Outcome)
class OutcomeAdmin(ToRead):
    list_display = ("task_id", "state", "attempts", "finished_at", "completed_id")
    list_filter = ("state",)
    search_fields = ("=task_id", "=completed_id")
    ordering = ("-finished_at",)


@admin.register(Attempt)
class AttemptAdmin(ToRead):
    list_display = ("task_id", "number", "state", "ended_at", "claim")
    list_filter = ("state",)
    search_fields = ("=task_id", "error")
    ordering = ("-ended_at",)
