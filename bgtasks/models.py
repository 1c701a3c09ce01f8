"""The tables that bgtasks adds. Those of django-background-tasks stay as they are."""

from __future__ import annotations

from typing import ClassVar

from background_task.models import CompletedTask, Task
from django.db import models

__all__ = [
    "Action",
    "Attempt",
    "CallOptions",
    "CompletedTask",
    "Counter",
    "Creator",
    "CronSlot",
    "IdMark",
    "Mail",
    "Operations",
    "Outcome",
    "PausedQueue",
    "Progress",
    "Revocation",
    "Task",
    "UniqueKey",
    "Worker",
]


class Worker(models.Model):
    """A running worker and its lease. Its row is deleted when it ends or is declared dead."""

    name = models.CharField(max_length=32, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.BigIntegerField()
    processes = models.IntegerField()
    threads = models.IntegerField()
    queues = models.JSONField(null=True, help_text="None: every queue.")
    names = models.JSONField(
        null=True, help_text="Of the tasks that it knows. None: of an older version."
    )
    version = models.CharField(max_length=32)
    lease = models.FloatField(help_text="Seconds that its claims outlive a heartbeat.")
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(help_text="By the database's clock.")
    status = models.JSONField(
        null=True, help_text="What it does, as of its last heartbeat. None: of an older version."
    )

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid} on {self.host})"


class Outcome(models.Model):
    """What became of a task. Written in the transaction that removes its row."""

    class State(models.TextChoices):
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    task_id = models.BigIntegerField(primary_key=True, help_text="The id that its row had.")
    completed_id = models.BigIntegerField(db_index=True, help_text="The CompletedTask's id.")
    state = models.CharField(max_length=16, choices=State.choices)
    attempts = models.IntegerField()
    started_at = models.DateTimeField(null=True, help_text="The last attempt; None: not run.")
    finished_at = models.DateTimeField()
    # Both are NULL and not "", because most outcomes have neither, and PostgreSQL stores a NULL in
    # no space.
    result = models.TextField(  # noqa: DJ001
        null=True, help_text="What it returned, as JSON; None for None."
    )
    exception = models.TextField(  # noqa: DJ001
        null=True, help_text="The class and the arguments, as JSON."
    )
    due_at = models.DateTimeField(
        null=True, help_text="When the last attempt was due; None: of an older version."
    )

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["state", "finished_at"], name="bgtasks_outcome_age"),
        ]

    def __str__(self) -> str:
        return f"task {self.task_id} {self.state}"


class Attempt(models.Model):
    """A run that did not succeed. A run that succeeds leaves only an Outcome."""

    class State(models.TextChoices):
        FAILED = "failed", "failed"
        TIMED_OUT = "timed_out", "timed out"
        LOST = "lost", "lost: its worker died"
        STOPPED = "stopped", "stopped: its worker was asked to end"

    task_id = models.BigIntegerField(db_index=True)
    number = models.IntegerField(help_text="1 for the first.")
    state = models.CharField(max_length=16, choices=State.choices)
    claim = models.CharField(max_length=64, help_text="What the row's locked_by was.")
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(db_index=True)
    error = models.TextField()

    def __str__(self) -> str:
        return f"attempt {self.number} of task {self.task_id} {self.state}"


class Progress(models.Model):
    """How far a running task has come, as it reported."""

    task_id = models.BigIntegerField(primary_key=True)
    attempt = models.IntegerField(help_text="Which run reported it.")
    done = models.FloatField()
    total = models.FloatField(null=True)
    message = models.TextField(blank=True)
    updated_at = models.DateTimeField()
    # NULL and not "": what an older version of bgtasks has stored has no claim.
    claim = models.CharField(  # noqa: DJ001
        max_length=64, null=True, help_text="What the row's locked_by was."
    )
    # Such a version leaves the claim of an earlier report where it stands.
    claim_of = models.DateTimeField(
        null=True, help_text="The updated_at of what the claim was stored with."
    )

    def __str__(self) -> str:
        return f"task {self.task_id}: {self.done} of {self.total or '?'}"


class CallOptions(models.Model):
    """The options of one call for which the task's table has no column. Most calls have none."""

    task_id = models.BigIntegerField(primary_key=True)
    options = models.TextField(help_text="A JSON object.")

    def __str__(self) -> str:
        return f"task {self.task_id}: {self.options}"


class UniqueKey(models.Model):
    """The key of calls of a unique task, and the one row that waits or runs for all of them."""

    key = models.CharField(max_length=64, primary_key=True)
    task_id = models.BigIntegerField(db_index=True)
    nonce = models.BigIntegerField(help_text="Of the call that took the key last.")
    taken_at = models.DateTimeField(db_index=True)
    # NULL and not "": what an older version of bgtasks has stored has no hash.
    task_hash = models.CharField(  # noqa: DJ001
        max_length=40, null=True, help_text="That of the row."
    )
    # Such a version takes a key and leaves the hash of an earlier row where it stands.
    hash_of = models.BigIntegerField(
        null=True, help_text="The nonce of the call that stored the hash."
    )

    def __str__(self) -> str:
        return f"{self.key}: task {self.task_id}"


class Creator(models.Model):
    """Who enqueued a row, where their key does not fit into the row's own column of integers."""

    task_id = models.BigIntegerField(primary_key=True)
    model = models.CharField(max_length=201, help_text="app_label.model, in lower case.")
    object_id = models.CharField(max_length=255)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["model", "object_id"], name="bgtasks_creator_of")]

    def __str__(self) -> str:
        return f"{self.model} {self.object_id}"


class CronSlot(models.Model):
    """The last time of a ``cron`` line for which a row was enqueued."""

    name = models.CharField(max_length=190, primary_key=True, help_text="The task's.")
    slot = models.DateTimeField()
    task_id = models.BigIntegerField(
        null=True, help_text="That of the row; None: of an older version, or there was none yet."
    )
    paused_at = models.DateTimeField(null=True, help_text="None: it is not paused.")

    def __str__(self) -> str:
        return f"{self.name} at {self.slot}"


class Revocation(models.Model):
    """A revoked task whose run its worker should end. The task's outcome is written already."""

    task_id = models.BigIntegerField(primary_key=True)
    worker = models.CharField(max_length=32, db_index=True)
    requested_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"task {self.task_id} of worker {self.worker}"


class Mail(models.Model):
    """A mail that waits to be sent. Its row is deleted when it has been sent."""

    body = models.TextField(help_text="Encrypted.")
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"mail {self.pk}"


class Action(models.Model):
    """What somebody has done to a task, by the admin, by a command or by a program."""

    class Kind(models.TextChoices):
        RETRIED = "retried"
        CANCELLED = "cancelled"
        RUN_NOW = "run_now", "to run now"
        PRIORITY = "priority", "priority changed"
        MOVED = "moved", "moved to another queue"
        DELETED = "deleted"

    task_id = models.BigIntegerField()
    kind = models.CharField(max_length=16, choices=Kind.choices)
    by = models.CharField(max_length=150, blank=True, help_text="Who: a user's name as a rule.")
    at = models.DateTimeField(db_index=True)
    detail = models.CharField(max_length=255, blank=True)
    other_id = models.BigIntegerField(null=True, db_index=True, help_text="A retry's new task.")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["task_id"], name="bgtasks_action_task")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["task_id"],
                condition=models.Q(kind="retried"),
                name="bgtasks_retried_once",
            )
        ]

    def __str__(self) -> str:
        return f"task {self.task_id} {self.get_kind_display()} by {self.by or 'a program'}"


class Child(models.Model):
    """That a task was enqueued by a run of another one, its parent."""

    task_id = models.BigIntegerField(primary_key=True)
    parent_id = models.BigIntegerField(db_index=True)

    def __str__(self) -> str:
        return f"task {self.task_id} of task {self.parent_id}"


class IdMark(models.Model):
    """The last id of a row that was given out, as of some moment; see `bgtasks.queue.id_marks`.

    The ids above that of the mark before were given out between two looks of a worker.
    """

    task_id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(db_index=True, help_text="The later look, by the database's clock.")
    after = models.DateTimeField(null=True, help_text="The look before; None: it was the first.")

    def __str__(self) -> str:
        return f"up to task {self.task_id} at {self.at}"


class PausedQueue(models.Model):
    """A queue from which no worker claims rows until it is resumed. Enqueuing goes on."""

    queue = models.CharField(
        max_length=190, primary_key=True, help_text="Empty: the rows without a queue."
    )
    by = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.queue or "(no queue)"


# How many cells a histogram of durations has. The last one begins at 37 hours.
CELLS = 28
# The durations of a run: from when its row was due until it started; and from its start to its end.
DURATIONS = ("waited", "ran")
SUMS = tuple(f"{name}_sum" for name in DURATIONS)
HISTOGRAMS = tuple(f"{name}_{cell}" for name in DURATIONS for cell in range(CELLS))


class Counter(models.Model):
    """How many runs have ended within a span of time, by queue, task and worker.

    Further columns, `HISTOGRAMS`, say of how many of the runs a duration was in which cell: cell 0
    is for less than a millisecond, and cell i for less than 2 to the power of i, in milliseconds.
    The last cell has also all that is longer. `SUMS` are the sums of the durations, in seconds.
    """

    width = models.IntegerField(help_text="The length of the span, in seconds; 0: for ever.")
    start = models.BigIntegerField(help_text="When it begins, in seconds since 1970, UTC.")
    queue = models.CharField(max_length=190, help_text="Empty: rows without a queue.")
    name = models.CharField(max_length=190, help_text="The task's.")
    worker = models.CharField(max_length=32, help_text="Empty: all of them.")
    succeeded = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    cancelled = models.BigIntegerField(default=0)
    retried = models.BigIntegerField(default=0, help_text="Failed, and were to be tried again.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["width", "start", "queue", "name", "worker"], name="bgtasks_counted_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.succeeded} in {self.width} s"


for _column in HISTOGRAMS:
    Counter.add_to_class(_column, models.BigIntegerField(default=0))
for _column in SUMS:
    Counter.add_to_class(_column, models.FloatField(default=0))


class Operations(Outcome):
    """The entry "Background tasks" of the admin, and the permissions to look and to act there.

    It is a proxy, for it needs no table: an unmanaged model would make ``dumpdata`` fail.
    """

    class Meta:
        proxy = True
        verbose_name = verbose_name_plural = "background tasks"
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("act_operations", "Can retry, cancel, move and delete background tasks"),
            ("pause_operations", "Can pause queues of background tasks"),
        ]

    def __str__(self) -> str:
        return f"task {self.pk}" if self.pk else "background tasks"
