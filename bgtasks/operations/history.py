"""All that is known of one task: its attempts, its result, and what was done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bgtasks.models import Action, Attempt, CompletedTask, Outcome, Task
from bgtasks.operations import task_list
from bgtasks.operations.states import ENDED
from bgtasks.operations.task_list import Listed
from bgtasks.queue import creators, families, id_marks, progress
from bgtasks.queue import database as db
from bgtasks.queue.id_marks import Span
from bgtasks.tasks.current import Progress

# How many children of a task are shown.
MOST_CHILDREN = 20


@dataclass(frozen=True)
class History:
    """What is known of a task.

    Attributes:
        task: the task as the list has it.
        enqueued: between which moments it was enqueued; both are the same for a retry.
        result: what it returned, as JSON; None: it has not succeeded, or returned None.
        progress: what its latest run has reported last; None if it has reported nothing.
        attempts: the runs that did not succeed, the first one first.
        actions: what was done to it, the first one first.
        origin: the retry that has enqueued it; None if none has.
        parent: the id of the task that has enqueued it; None: none has, or that is not known.
        children: the ids of the tasks that it has enqueued, `MOST_CHILDREN` + 1 of them at most.
        retried_as: the id of the retry of this task; None if there is none.
        row: its row, waiting or completed, without its dates; None if that is gone.
    """

    task: Listed
    enqueued: Span
    result: str | None = None
    progress: Progress | None = None
    attempts: Sequence[Attempt] = ()
    actions: Sequence[Action] = field(default_factory=list)
    origin: Action | None = None
    parent: int | None = None
    children: Sequence[int] = ()
    retried_as: int | None = None
    row: Task | CompletedTask | None = None

    @property
    def retried_from(self) -> int | None:
        """The id of the task whose retry this is; None if it is none."""
        return self.origin.task_id if self.origin else None

    @property
    def creator(self) -> Any:
        """Who enqueued it; None if nobody is named, or they or their model are gone."""
        content_type = creators.content_type_of(self.row) if self.row else None
        is_known = content_type is not None and content_type.model_class() is not None
        return self.row.creator if self.row and is_known else None


def of(task_id: int | str) -> History | None:
    """The history of a task; None if there is no such task, or not any more."""
    if (task := task_list.find(task_id)) is None:
        return None
    using = db.alias()
    ended = task.state in ENDED
    outcome = Outcome.objects.using(using).filter(pk=task.id).only("result", "completed_id").first()
    retries = Action.objects.using(using).filter(kind=Action.Kind.RETRIED)
    origin = retries.filter(other_id=task.id).first()
    odd: Any = db.has_odd_date(Attempt)
    return History(
        task,
        Span(origin.at, origin.at) if origin else id_marks.enqueued(task.id),
        outcome.result if ended and outcome else None,
        progress.read(task.id),
        list(
            Attempt.objects.using(using)
            .filter(task_id=task.id)
            .extra(where=[f"NOT COALESCE({odd}, 1 = 0)"])  # noqa: S610
            .order_by("pk")
        ),
        list(Action.objects.using(using).filter(task_id=task.id).order_by("pk")),
        origin,
        families.parent_of(task.id),
        families.children_of(task.id, MOST_CHILDREN + 1),
        retries.filter(task_id=task.id).values_list("other_id", flat=True).first(),
        _row(CompletedTask, outcome.completed_id if outcome else None)
        if ended
        else _row(Task, task.id),
    )


def _row(model: Any, pk: int | None) -> Any:
    return model.objects.using(db.alias()).filter(pk=pk).only(*db.FIELDS).first()
