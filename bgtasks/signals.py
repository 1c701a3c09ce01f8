"""The signals of a task, those of django-background-tasks, and two of ours; see the docs."""

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
from django.dispatch import Signal

# Sent in each process that runs tasks, before its first one: after the fork, where threads that the
# project has started before do not run. The sender is `bgtasks.worker.worker.Worker`.
worker_started = Signal()
# Sent in the same process when its last run has ended and is recorded, unless it is killed.
worker_stopping = Signal()

__all__ = [
    "task_created",
    "task_error",
    "task_failed",
    "task_finished",
    "task_rescheduled",
    "task_started",
    "task_successful",
    "worker_started",
    "worker_stopping",
]
