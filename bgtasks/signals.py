"""The signals of a task, those of django-background-tasks; the docs say when each is sent."""

from __future__ import annotations

from background_task.signals import (
    task_created,
    task_error,
    task_failed,
    task_finished,
    task_rescheduled,
    task_started,
    task_successful,
)

__all__ = [
    "task_created",
    "task_error",
    "task_failed",
    "task_finished",
    "task_rescheduled",
    "task_started",
    "task_successful",
]
