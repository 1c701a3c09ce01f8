"""Every error that bgtasks raises. The class says what went wrong, the message says with what.

BgtasksError
├── InvalidTask              at decoration
│   ├── GeneratorTask
│   ├── LambdaTask, NestedTask, MethodTask, ObjectTask
│   ├── DuplicateTask
│   └── InvalidOption        (a ValueError too)
│       └── InvalidCron
├── NotJSON                  at enqueue (a TypeError too)
├── WrongArguments           at enqueue (a TypeError too)
├── EnqueuedInCoroutine      at enqueue (a SynchronousOnlyOperation too)
├── UnknownOption            at a call (a TypeError too)
│   └── UnknownAttribute     (an AttributeError too)
├── ForbiddenFunction        at ``async_task()``, and in the worker
│   └── MissingFunction      the same; the row waits for a worker that has the function
├── MaxRetriesExceededError  from ``self.retry()``
├── AsyncCall                at ``.now()`` of a coroutine (a RuntimeError too)
├── UnknownResult            at a result (a LookupError too)
├── ResultTimeout            (a TimeoutError too)
├── WouldBlock               (a RuntimeError too)
├── UnreadableResult         at a result (a ValueError too)
├── NotRetried               at ``AsyncResult.retry()``
├── TaskFailed, TaskRevoked  from ``get()``, where it has no exception of the task's to raise
├── InvalidProgress          at ``set_progress()`` (a ValueError too)
├── Retry, Snooze, Cancel    for a task to raise
├── MailError                of ``bgtasks.mail``
│   ├── CryptographyMissing
│   ├── InvalidMailSettings
│   ├── MailOptionRefused    (a TypeError too)
│   ├── MailTooLarge
│   ├── UnstorableMail       (a TypeError too)
│   ├── UnreadableMail       in the worker
│   └── MailNotSent          in the worker
├── MetricsMissing           where metrics are served
├── TracesMissing            at enqueue, if traces are on (an ImproperlyConfigured too)
├── CannotServe              at worker start
├── TaskModuleError          at worker start
├── LeaseLost, NoNextRun,
│   BrokenTransaction        in the worker
├── NotMigrated              at worker start
│   └── NoTable              at enqueue (an OperationalError and a ProgrammingError too)
└── recorded as the failure of an attempt
    ├── BrokenRow            the row is not tried again (a ValueError too)
    ├── ResultNotJSON        the row is not tried again
    ├── LeakedTransaction
    └── TaskTimeout          (a TimeoutError too)
"""

from __future__ import annotations

from datetime import timedelta

from background_task.exceptions import InvalidTaskError
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import OperationalError, ProgrammingError


class BgtasksError(Exception):
    """The base of all errors that bgtasks raises."""


class MetricsMissing(BgtasksError):
    """Metrics are asked for, and the package for that is not installed."""


class TracesMissing(BgtasksError, ImproperlyConfigured):
    """Traces are on in the settings, and OpenTelemetry is not installed."""


class CannotServe(BgtasksError):
    """A worker cannot listen on the port, or write the file, that its options name."""


class NotRetried(BgtasksError):
    """A task was not retried; the message says why."""


class InvalidTask(BgtasksError):
    """This function cannot be a task."""


class GeneratorTask(InvalidTask):
    """A generator function does nothing when it is called, so it cannot be a task."""


class LambdaTask(InvalidTask):
    """A lambda has no name by which a worker could find it, so it cannot be a task."""


class NestedTask(InvalidTask):
    """A function inside a function cannot be a task: it exists only where the outer one runs."""


class MethodTask(InvalidTask):
    """A method needs an object, which a row cannot carry, so it cannot be a task."""


class ObjectTask(InvalidTask):
    """What is no function has no name by which a worker could find it, so it cannot be a task."""


class InvalidOption(InvalidTask, ValueError):
    """An option of the decorator, or of a call, has a value that makes no sense."""


class InvalidCron(InvalidOption):
    """A ``cron`` line cannot be read, or its time never comes."""


class DuplicateTask(InvalidTask):
    """Two functions want to be the task of the same name; rows carry only the name."""


class NotJSON(BgtasksError, TypeError):
    """An argument of a call cannot be written as JSON, so a row cannot carry it."""


class EnqueuedInCoroutine(BgtasksError, SynchronousOnlyOperation):
    """A call in a coroutine would block its event loop, for it is a statement on the database."""


class WrongArguments(BgtasksError, TypeError):
    """A call has arguments that the task's function does not take: every attempt would fail."""


class TaskModuleError(BgtasksError):
    """An app's ``tasks.py`` could not be imported, so its tasks are unknown here."""


class LeaseLost(BgtasksError):
    """Another worker declared this one dead and took its rows back."""


class NoNextRun(BgtasksError):
    """The next run of a repeating row has no date that Python, or the database, can hold."""


class BrokenTransaction(BgtasksError):
    """A transaction in which an outcome was to be recorded was ended, or spoilt, by other code.

    That is a receiver of a signal, or an atomic task.
    """


class NotMigrated(BgtasksError):
    """A table or a column of bgtasks is not in the database."""


class NoTable(NotMigrated, OperationalError, ProgrammingError):
    """A call cannot be enqueued, as a table or a column is not in the database.

    It is also what the databases themselves raise, because projects catch that.
    """


class BrokenRow(BgtasksError, InvalidTaskError, ValueError):
    """The arguments or options of a row cannot be read. The row is not tried again."""


class LeakedTransaction(BgtasksError):
    """A task left a transaction open, which was rolled back."""


class TaskTimeout(BgtasksError, TimeoutError):
    """A task ran longer than it may."""


class GreenThreads(BgtasksError, RuntimeError):
    """The process has green threads, beside which no event loop can run."""


class UnknownOption(BgtasksError, TypeError):
    """An option is not supported. It is refused, because without it something else would run."""


class AsyncCall(BgtasksError, RuntimeError):
    """A coroutine was called from code that cannot await it."""


class UnknownResult(BgtasksError, LookupError):
    """No row and no outcome has this id: the task never existed, was deleted, or was pruned."""


class UnreadableResult(BgtasksError, ValueError):
    """What is stored of a result cannot be read: somebody has changed the table by hand."""


class ResultTimeout(BgtasksError, TimeoutError):
    """The task has not ended within the time for which the caller would wait."""


class WouldBlock(BgtasksError, RuntimeError):
    """Waiting for this result here would keep the task from ever ending."""


class TaskFailed(BgtasksError):
    """The task failed, and the exception that it raised cannot be made in this process."""


class TaskRevoked(BgtasksError):
    """The task was revoked, or it cancelled itself, or it expired before it started."""


class ResultNotJSON(BgtasksError, TypeError, InvalidTaskError):
    """A task returned something that cannot be written as JSON. It is not tried again."""


class InvalidProgress(BgtasksError, ValueError):
    """A task reported a progress that is no finite number."""


class Retry(BgtasksError):
    """For a task to raise: this attempt failed; try again.

    Args:
        after: seconds, or a timedelta, until the next attempt; None: what the task's ``backoff``
            says.

    Raises:
        InvalidOption: ``after`` is no time span from 0 to a hundred years.
    """

    # Whether the code that raises it has counted the attempts itself. Then the task's
    # `max_attempts` is not applied.
    counted = False

    def __init__(self, after: float | timedelta | None = None) -> None:
        super().__init__(after)
        self.after = None if after is None else seconds(after)

    def __str__(self) -> str:
        return "try again" if self.after is None else f"try again after {self.after}"


class Snooze(BgtasksError):
    """For a task to raise: not now. The task runs again later; this run is no attempt.

    Args:
        after: seconds, or a timedelta, until the next run.

    Raises:
        InvalidOption: ``after`` is no time span from 0 to a hundred years.
    """

    def __init__(self, after: float | timedelta) -> None:
        super().__init__(after)
        self.after = seconds(after)


class Cancel(BgtasksError):
    """For a task to raise: there is nothing to do. The task is not tried again, nor repeated.

    Args:
        reason: a text that is kept, and shown to whoever asks for the result.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


# The longest time span that an option may give: a hundred years.
LONGEST = timedelta(days=36525)


def seconds(value: float | timedelta, option: str = "") -> timedelta:
    """A time span from seconds or a timedelta.

    Args:
        option: the option that has this value, and of what, for the error text.

    Raises:
        InvalidOption: it is negative, longer than `LONGEST`, or neither.
    """
    where = f"{option}: " if option else ""
    try:
        span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except OverflowError:
        span = timedelta.max if value > 0 else timedelta.min  # type: ignore[operator]
    except (TypeError, ValueError) as error:
        raise InvalidOption(f"{where}{value!r} is no number of seconds: {error}") from None
    if span < timedelta(0):
        raise InvalidOption(f"{where}{value!r} is before now. Give seconds from now, 0 or more.")
    if span > LONGEST:
        raise InvalidOption(f"{where}{value!r} is over a hundred years. Give seconds from now.")
    return span


class InvalidEngine(BgtasksError):
    """The setting `BGTASKS_ENGINE` names no engine that can be used."""


class MailError(BgtasksError):
    """The base of all errors about mails that go through the queue."""


class CryptographyMissing(MailError):
    """Mails are kept encrypted, and the package for that is not installed."""


class InvalidMailSettings(MailError):
    """The settings name no backend that could send a mail."""


class MailOptionRefused(MailError, TypeError):
    """A mail connection was asked for with options that would not reach the worker."""


class MailTooLarge(MailError):
    """A mail has more bytes than `BGTASKS_MAIL_MAX_SIZE` allows."""


class UnstorableMail(MailError, TypeError):
    """A mail has a part that cannot be stored."""


class UnreadableMail(MailError):
    """A stored mail cannot be decrypted with the keys in the settings."""


class MailNotSent(MailError):
    """The real backend failed. Its error text is withheld, as it may name the recipients."""


class UnknownAttribute(UnknownOption, AttributeError):
    """An attribute that the objects of another package have is missing from ours."""


class ForbiddenFunction(BgtasksError, InvalidTaskError):
    """A row names a function that it may not: only those of installed apps' ``tasks`` may run."""


class MissingFunction(ForbiddenFunction):
    """A row names a function that the code of this process does not have."""


class MaxRetriesExceededError(BgtasksError):
    """A task asked for another try, and has had all that it may have."""
