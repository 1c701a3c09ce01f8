"""A backend of Django's tasks framework as the engine: ``django.tasks``, or ``django_tasks``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bgtasks import conf
from bgtasks.dialects.django_tasks.framework import task, task_backends
from bgtasks.engines import fleet
from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.exceptions import InvalidEngine

NAME = "django.tasks"


def _options() -> Mapping[str, Any]:
    return conf.engine() or {}


# A task of the framework belongs to one backend from the beginning, and to a queue that this has.
@task(
    backend=_options().get("BACKEND", "default"),
    queue_name=_options().get("QUEUE", "default"),
)
def run(row_id: int, token: str, may_kill: bool = False) -> None:
    """Run a row. This is a task of Django's framework."""
    # Nobody says when a process of a backend ends: it may be a process for each task.
    fleet.visit(NAME, row_id, token, may_kill=may_kill)


class DjangoTasksEngine(Engine):
    """Sends the messages by a backend of the setting ``TASKS``."""

    name = NAME
    start = "the worker of the backend that BGTASKS_ENGINE names"
    options = Engine.options | {"BACKEND", "QUEUE", "OWN_PROCESSES"}

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._backend = options.get("BACKEND", "default")
        self._own = bool(options.get("OWN_PROCESSES", False))
        if self._backend not in task_backends:
            raise InvalidEngine(
                f"BGTASKS_ENGINE['BACKEND'] is {self._backend!r}. It must be one of the names in "
                "the setting TASKS."
            )
        if type(task_backends[self._backend]).__module__.startswith("bgtasks."):
            raise InvalidEngine(
                f"BGTASKS_ENGINE['BACKEND'] is {self._backend!r}, which is bgtasks itself. Name "
                "another backend in the setting TASKS, whose workers run the rows."
            )

    def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            queue = self.queue_for(message)
            chosen = run.using(queue_name=queue) if queue else run
            try:
                chosen.enqueue(message.row_id, message.token, self._own)
            # What a backend raises whose broker is away, is its own matter.
            except Exception as error:
                raise Unreachable(
                    f"the backend {self._backend} does not take them "
                    f"({type(error).__name__}: {error})."
                ) from error
