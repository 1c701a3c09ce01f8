"""A backend for Django's own tasks: ``TASKS = {"default": {"BACKEND": ".../DatabaseBackend"}}``.

Calls of ``@task`` functions become rows, and process_tasks runs them beside all others. Django
makes the backend when the first task is declared, and that may be before the models are loaded.
So what needs models is in `bgtasks.dialects.django_tasks.runs`, which is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from bgtasks import conf, exceptions
from bgtasks.dialects.django_tasks.framework import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
)
from bgtasks.tasks import columns, validation
from bgtasks.tasks.policies import Backoff, Policy

# The options of a task for which neither its decorator nor `OPTIONS` in the setting says anything.
# There is one attempt, because Django does not promise a second one. A run that was lost with its
# worker is repeated all the same.
DEFAULTS: dict[str, Any] = {
    "max_attempts": 1,
    "backoff": None,
    "timeout": None,
    "unique": False,
    "on_worker_lost": "rerun",
    "ignore_result": False,
    "atomic": False,
}
NOT_INSTALLED = "{} is the backend of bgtasks, and that is not in INSTALLED_APPS."
INSTALL = 'Add "bgtasks", "background_task" in this order.'


@dataclass(frozen=True, kw_only=True)
class DatabaseTask(Task):
    """A task of this backend, with the options that a `bgtasks.background` task has.

    An option that is None is as `OPTIONS` in the setting says, or else as in `DEFAULTS`.
    """

    max_attempts: int | None = None
    backoff: Backoff | None = field(default=None, hash=False)  # may be a list
    timeout: float | None = None
    unique: bool | Callable[..., Any] | None = None
    cron: str | None = None
    on_worker_lost: Literal["rerun", "fail"] | None = None
    ignore_result: bool | None = None
    atomic: bool | None = None

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        if isinstance(self.get_backend(), DatabaseBackend):  # `using()` may have put in another
            _register(self)

    @property
    def own_options(self) -> tuple[Any, ...]:
        """The options that the decorator sets and `using()` cannot change."""
        return (self.takes_context, self.cron, *(getattr(self, name) for name in DEFAULTS))


class DatabaseBackend(BaseTaskBackend):
    """Enqueues tasks as rows, and reads their results."""

    task_class = DatabaseTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def policy(self, task: DatabaseTask) -> Policy:
        """The policy of a task: its own options, those of the setting, and the defaults."""
        given = {name: self.options.get(name, default) for name, default in DEFAULTS.items()}
        own = {name: getattr(task, name) for name in DEFAULTS}
        return _policy(
            {**given, **{name: value for name, value in own.items() if value is not None}},
            cron=task.cron,
            priority=conf.as_stored(task.priority),
        )

    def validate_task(self, task: Task) -> None:
        """Refuse a task that workers could not run.

        Raises:
            InvalidTask
        """
        try:
            _check_options(task)
        except exceptions.InvalidOption as error:
            raise InvalidTask(str(error)) from None
        super().validate_task(task)
        if not isinstance(task, DatabaseTask):
            raise InvalidTask(
                f"{task.module_path} was not declared for a backend of bgtasks, so its workers do "
                f'not know it. Declare it with @task(backend="{self.alias}").'
            )

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Insert a row, in the caller's transaction.

        Returns:
            The result of the call. If the task is unique and a row with these arguments waits or
            runs already, the result of that row.

        Raises:
            ImproperlyConfigured: bgtasks is not in INSTALLED_APPS.
            InvalidTask: workers could not run it.
            NotJSON: an argument is not JSON.
        """
        self.validate_task(task)
        proxy = _register(task)
        if proxy is None:
            raise ImproperlyConfigured(f"{NOT_INSTALLED.format(self._setting)} {INSTALL}")
        from bgtasks import calls
        from bgtasks.queue import receivers

        args, kwargs = _as_json(task, args, kwargs)
        now = timezone.now()
        row = calls.submit(
            proxy,
            args,
            kwargs,
            run_at=task.run_after or now,
            priority=conf.as_stored(task.priority),
            queue=task.queue_name,
            # The table has no column for the time of the enqueueing. This one is free, for the row
            # does not repeat.
            repeat_until=now,
        )
        if row.repeat_until != now:  # the task is unique, and this row was there before
            return self.get_result(str(row.pk))
        result = _new_result(task, self.alias, str(row.pk), now, args, kwargs)
        # The row is there: what a receiver raises is logged, and undoes only what that has written.
        receivers.send(task_enqueued, type(self), task_result=result)
        if conf.eager():
            result.refresh()
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """What became of a call.

        Raises:
            TaskResultDoesNotExist: there is nothing of that id, or not any more, or it is not the
                id of a call of an `@task` function.
        """
        from bgtasks.dialects.django_tasks import runs
        from bgtasks.queue import outcomes

        task_id = outcomes.id_of(result_id)
        found = None if task_id is None else runs.read(task_id, self.alias)
        if found is None:
            raise TaskResultDoesNotExist(result_id)
        return found

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What is wrong with the setting, for ``manage.py check``."""
        return list(self._problems())

    def _problems(self) -> Iterator[CheckMessage]:
        if not apps.is_installed("bgtasks"):
            yield Error(NOT_INSTALLED.format(self._setting), hint=INSTALL, id="bgtasks.E010")
        if unknown := sorted(self.options.keys() - DEFAULTS.keys()):
            yield Error(
                f"OPTIONS of {self._setting} names {', '.join(unknown)}, which nobody reads.",
                hint=f"There are {', '.join(DEFAULTS)}.",
                id="bgtasks.E011",
            )
        try:
            given = {name: self.options.get(name, default) for name, default in DEFAULTS.items()}
            validation.check_policy("default", _policy(given), _policy)
        except exceptions.InvalidOption as error:
            yield Error(f"OPTIONS of {self._setting}: {error}", id="bgtasks.E011")

    @property
    def _setting(self) -> str:
        return f'TASKS["{self.alias}"]'


def _policy(options: dict[str, Any], **more: Any) -> Policy:
    ignored = options.pop("ignore_result")
    return Policy(**options, **more, result="ignore" if ignored else "json")


def _register(task: Any) -> Any:
    """Put a task into the registry, where workers find it.

    Returns:
        The registry's entry for it; None if bgtasks is not in INSTALLED_APPS.

    Raises:
        InvalidTask: Django's own; it says why this cannot be a task.
    """
    if not apps.is_installed("bgtasks"):
        return None
    from bgtasks.dialects.django_tasks import runs

    try:
        return runs.register(task, task.get_backend().policy(task))
    except exceptions.InvalidTask as error:
        raise InvalidTask(str(error)) from error


def _check_options(task: Task) -> None:
    """Refuse options that the framework does not look at, or cannot compare.

    Raises:
        InvalidOption: such an option makes no sense.
    """
    name = f"task {getattr(task.func, '__name__', task.func)}"
    columns.as_priority(f"priority of {name}", task.priority)
    columns.check_text(task.queue_name, name, "queue")
    columns.check_moment(task.run_after, name, "run_after")
    if task.run_after is not None:
        columns.check_in_calendar(task.run_after, f"run_after of {name}")


def _as_json(
    task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as a worker will get them: what JSON makes of them.

    Raises:
        NotJSON
    """
    plain: Any
    try:
        plain = normalize_json([list(args), dict(kwargs)])
    except TypeError as error:
        raise exceptions.NotJSON(
            f"An argument of {task.module_path} is not JSON ({error}). Pass text, numbers, lists "
            "and dicts; of a model instance its primary key."
        ) from error
    return plain[0], plain[1]


def _new_result(
    task: Task, backend: str, id_: str, now: Any, args: list[Any], kwargs: dict[str, Any]
) -> TaskResult:
    return TaskResult(
        task=task,
        id=id_,
        status=TaskResultStatus.READY,
        enqueued_at=now,
        started_at=None,
        last_attempted_at=None,
        finished_at=None,
        args=args,
        kwargs=kwargs,
        backend=backend,
        errors=[],
        worker_ids=[],
    )
