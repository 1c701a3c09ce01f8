"""Every error of ours. The docstring says what happened; the message, to what.

BgtasksError
├── InvalidTask              at decoration
│   ├── GeneratorTask
│   ├── LambdaTask, NestedTask, MethodTask
│   ├── DuplicateTask
│   └── InvalidOption        (a ValueError too)
│       └── InvalidCron
├── NotJSON                  at enqueue (a TypeError too)
├── WrongArguments           at enqueue (a TypeError too)
├── UnknownOption            at a call (a TypeError too)
│   └── UnknownAttribute     (an AttributeError too)
├── ForbiddenFunction        at ``async_task()``, and in the worker
│   └── MissingFunction      the same; a worker waits for one that has it
├── MaxRetriesExceededError  from ``self.retry()``
├── AsyncCall                at ``.now()`` of a coroutine (a RuntimeError too)
├── UnknownResult            at a result (a LookupError too)
├── ResultTimeout            (a TimeoutError too)
├── WouldBlock               (a RuntimeError too)
├── TaskFailed, TaskRevoked  what ``get()`` raises where it cannot raise the task's own
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
├── TaskModuleError          at worker start
├── LeaseLost, NoNextRun,
│   BrokenTransaction        in the worker
├── NotMigrated              at worker start
└── what ends an attempt
    ├── BrokenRow            is not tried again
    ├── ResultNotJSON        nor this
    ├── LeakedTransaction
    └── TaskTimeout          (a TimeoutError too)
"""

from __future__ import annotations

from datetime import timedelta

from background_task.exceptions import InvalidTaskError


class BgtasksError(Exception):
    """Something that bgtasks raises."""


class InvalidTask(BgtasksError):
    """This function cannot be a task."""


class GeneratorTask(InvalidTask):
    """A generator function does nothing when it is called, so it cannot be a task."""


class LambdaTask(InvalidTask):
    """A lambda has no name that a worker could find it by."""


class NestedTask(InvalidTask):
    """A function inside a function exists only while that runs, and not in a worker."""


class MethodTask(InvalidTask):
    """A method needs an object, which a row cannot carry."""


class InvalidOption(InvalidTask, ValueError):
    """An option of the decorator, or of a call, has a value that makes no sense."""


class InvalidCron(InvalidOption):
    """A ``cron`` line that cannot be read, or that names no moment."""


class DuplicateTask(InvalidTask):
    """Two functions want to be the task of one name; rows carry only the name."""


class NotJSON(BgtasksError, TypeError):
    """An argument that a row cannot carry, for it is not JSON."""


class WrongArguments(BgtasksError, TypeError):
    """Arguments that the task's function does not take: each attempt would fail at once."""


class TaskModuleError(BgtasksError):
    """An app's ``tasks.py`` could not be imported, so its tasks are unknown here."""


class LeaseLost(BgtasksError):
    """Another worker declared this one dead and took its rows."""


class NoNextRun(BgtasksError):
    """A repeating row whose dates, or whose database, allow no next run."""


class BrokenTransaction(BgtasksError):
    """A receiver ended the transaction in which outcomes were being recorded."""


class NotMigrated(BgtasksError):
    """The tables of bgtasks are not in the database."""


class BrokenRow(BgtasksError, InvalidTaskError):
    """A row whose arguments cannot be read. It is not tried again."""


class LeakedTransaction(BgtasksError):
    """A task ended inside a transaction that it had opened; it was rolled back."""


class TaskTimeout(BgtasksError, TimeoutError):
    """A task ran longer than it may."""


class UnknownOption(BgtasksError, TypeError):
    """An option that is not supported. It is refused, for to ignore it would change what runs."""


class AsyncCall(BgtasksError, RuntimeError):
    """A coroutine was called from code that cannot await it."""


class UnknownResult(BgtasksError, LookupError):
    """No row and no outcome has this id: it never was, was deleted, or was pruned."""


class ResultTimeout(BgtasksError, TimeoutError):
    """The task has not ended within the time that the caller would wait."""


class WouldBlock(BgtasksError, RuntimeError):
    """To wait for this result here would keep it from ever coming."""


class TaskFailed(BgtasksError):
    """The task failed, and the exception that it raised cannot be made here."""


class TaskRevoked(BgtasksError):
    """The task was revoked, or it cancelled itself, or it expired before it started."""


class ResultNotJSON(BgtasksError, TypeError, InvalidTaskError):
    """A task returned what cannot be kept as JSON. It is not tried again."""


class InvalidProgress(BgtasksError, ValueError):
    """A task told how far it has come, and it is no number."""


class Retry(BgtasksError):
    """For a task to raise: this attempt failed; try again.

    Args:
        after: seconds, or a timedelta, until then; None: what the task's ``backoff`` says.
    """

    # Whether who raises it has counted the attempts, so that `max_attempts` says nothing.
    counted = False

    def __init__(self, after: float | timedelta | None = None) -> None:
        super().__init__(after)
        self.after = None if after is None else seconds(after)

    def __str__(self) -> str:
        return "try again" if self.after is None else f"try again after {self.after}"


class Snooze(BgtasksError):
    """For a task to raise: not now. It runs again later, and this run counts as none.

    Args:
        after: seconds, or a timedelta, until then.
    """

    def __init__(self, after: float | timedelta) -> None:
        super().__init__(after)
        self.after = seconds(after)


class Cancel(BgtasksError):
    """For a task to raise: there is nothing to do. It is not tried again, nor repeated.

    Args:
        reason: is kept, and shown to whoever asks for the result.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


LONGEST = timedelta(days=36525)


def seconds(value: float | timedelta) -> timedelta:
    """A time span from seconds or a timedelta.

    Raises:
        InvalidOption: it is negative, longer than `LONGEST`, or neither.
    """
    try:
        span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidOption(f"{value!r} is no number of seconds: {error}") from None
    if span < timedelta(0):
        raise InvalidOption(f"{value!r} is before now. Give seconds from now, 0 or more.")
    if span > LONGEST:
        raise InvalidOption(f"{value!r} is over a hundred years. Give seconds from now.")
    return span


class MailError(BgtasksError):
    """Something about a mail that goes, or should have gone, through the queue."""


class CryptographyMissing(MailError):
    """Mails are kept encrypted, and the package for that is not installed."""


class InvalidMailSettings(MailError):
    """The settings name no backend that a mail could be sent by."""


class MailOptionRefused(MailError, TypeError):
    """A connection was asked for with options that the worker would know nothing of."""


class MailTooLarge(MailError):
    """A mail has more bytes than `BGTASKS_MAIL_MAX_SIZE` allows."""


class UnstorableMail(MailError, TypeError):
    """A mail has a part that cannot be written down."""


class UnreadableMail(MailError):
    """A stored mail cannot be decrypted with the keys that there are."""


class MailNotSent(MailError):
    """The real backend failed. What it said is withheld, as it may name the recipients."""


class UnknownAttribute(UnknownOption, AttributeError):
    """Something that the objects of another package have and ours do not."""


class ForbiddenFunction(BgtasksError, InvalidTaskError):
    """A row may name a function of an installed app's ``tasks`` module, and no other."""


class MissingFunction(ForbiddenFunction):
    """There is no such function in the code that this process has."""


class MaxRetriesExceededError(BgtasksError):
    """A task asked for another try and has had all of them."""
