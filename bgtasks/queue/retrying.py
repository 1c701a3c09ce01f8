"""Retrying tasks that have failed or were cancelled: each gets a new row, and keeps its outcome.

The retry of a task is an `Action`, of which there is one at most for each task: whoever inserts it
makes the new row in the same transaction. So however many people retry the same tasks at the same
moment, each task is retried once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from background_task.models import Task
from django.db import transaction
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from bgtasks.models import Action, Creator, Outcome
from bgtasks.queue import call_options, enqueue, notify, outcomes, unique
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import MARK
from bgtasks.serialize import codec
from bgtasks.tasks import policies, registry

ACTIONS = Action._meta.db_table
CREATORS = Creator._meta.db_table
RETRIABLE = (Outcome.State.FAILED, Outcome.State.CANCELLED)
# What is set anew in a retried row. The time table of a repeating task goes on without it.
_NEW = {
    "attempts": "0",
    "repeat": "0",
    "repeat_until": "NULL",
    "failed_at": "NULL",
    "last_error": "''",
    "locked_by": "NULL",
    "locked_at": "NULL",
}
# The options of a call that belong to its first time: when it would have expired, and its slot.
_OF_THE_FIRST_TIME = ("expires", "slot")


@dataclass
class Retried:
    """What came of retrying some tasks.

    Attributes:
        ids: the id of each task that was retried, and that of its new row.
        refused: the id of each other task, and the reason, in words.
    """

    ids: dict[int, int] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


def retry(ids: Sequence[int], by: str = "") -> Retried:
    """Enqueue tasks again, with the same arguments and options, to run now.

    Args:
        ids: of the tasks, as many as `acting.batch` says: they are retried in one transaction.
        by: who does it, for the log of actions.
    """
    possible = [pk for pk in ids if outcomes.id_of(pk) is not None]
    result = Retried(refused=dict.fromkeys(set(ids).difference(possible), NO_TASK))
    with db.write_transaction():
        found = _names(possible)
        _import_unknown(found.values())
        alone = [pk for pk, name in found.items() if _runs_alone(name)]
        together = sorted(found.keys() - set(alone))
        if together:
            result.ids = _retry_together(together, by)
        for task_id in alone:
            _retry_alone(task_id, found[task_id], by, result)
        if result.ids:
            notify.notify_workers()
    missing = [pk for pk in possible if pk not in result.ids and pk not in result.refused]
    result.refused.update(_reasons(missing))
    return result


NO_TASK = "there is no such task, or not any more"


def _import_unknown(names: Iterable[str]) -> None:
    """Import the task modules if this process does not know all tasks: they may be unique."""
    if not set(names) <= set(registry.names()):
        for _ in registry.import_task_modules():
            pass  # what cannot be imported is said by the worker, which has to know the task


def _runs_alone(name: str) -> bool:
    """Whether each retry of this task needs statements of its own."""
    has_receivers = any(signal.has_listeners(Task) for signal in (pre_save, post_save))
    return has_receivers or policies.of(name).unique is not False


def _names(ids: Iterable[int]) -> dict[int, str]:
    """The names of those of the tasks that can be retried, in the order of their ids."""
    sql = (
        f"SELECT task_id, task_name FROM {_ended()} WHERE {db.unindexed('state')} IN (%s, %s) "
        f"AND {db.is_member('task_id', 'bigint')} AND {_not_retried()} ORDER BY task_id"
    )
    return dict(db.fetch(sql, [*RETRIABLE, db.members(ids)]))


def _ended() -> str:
    return (
        f"{db.OUTCOMES} JOIN {db.COMPLETED} ON {db.COMPLETED}.id = completed_id "
        f"AND {db.is_current()}"
    )


def _not_retried() -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM {ACTIONS} AS done WHERE done.task_id = {db.OUTCOMES}.task_id "
        f"AND done.kind = '{Action.Kind.RETRIED}')"
    )


def _log(ids: Sequence[int], by: str) -> dict[int, int]:
    """Insert the actions; returns those that nobody has inserted before, each with the new id."""
    fresh, params = db.next_task_id()
    sql = (
        f"INSERT INTO {ACTIONS} (task_id, kind, by, at, detail, other_id) "
        f"SELECT id, %s, %s, %s, '', {fresh} FROM {db.listed('bigint')} WHERE true "
        f"ON CONFLICT (task_id) WHERE kind = '{Action.Kind.RETRIED}' DO NOTHING "
        "RETURNING task_id, other_id"
    )
    now = db.moment(timezone.now())
    return dict(db.fetch(sql, [Action.Kind.RETRIED, by[:150], now, *params, db.members(ids)]))


def _retry_together(ids: Sequence[int], by: str) -> dict[int, int]:
    new = _log(ids, by)
    if new:
        chosen = [db.members(new)]
        db.execute(_insert_rows(), [db.moment(timezone.now()), *chosen])
        db.execute(_insert_options(), chosen)
        db.execute(_insert_creators(), chosen)
    return new


def _retries() -> str:
    """SQL for the retries of given tasks, as a table and a condition."""
    return (
        f"{ACTIONS} WHERE kind = '{Action.Kind.RETRIED}' AND "
        f"{db.is_member(f'{ACTIONS}.task_id', 'bigint')}"
    )


def _insert_rows() -> str:
    copied = [column for column in db.COPIED if column not in _NEW]
    columns = ", ".join(["id", "run_at", *copied, *_NEW])
    values = ", ".join(
        ["retries.other_id", "%s", *(f"{db.COMPLETED}.{name}" for name in copied), *_NEW.values()]
    )
    return (
        f"INSERT INTO {db.TASKS} ({columns}) SELECT {values} "
        f"FROM (SELECT * FROM {_retries()}) AS retries "
        f"JOIN {db.OUTCOMES} ON {db.OUTCOMES}.task_id = retries.task_id "
        f"JOIN {db.COMPLETED} ON {db.COMPLETED}.id = completed_id"
    )


def _insert_options() -> str:
    if db.on_postgresql():
        left = " - ".join(["options::jsonb", *(f"'{name}'" for name in _OF_THE_FIRST_TIME)])
        options = f"({left})::text"
    else:
        paths = ", ".join(f"'$.{name}'" for name in _OF_THE_FIRST_TIME)
        options = f"json_remove(options, {paths})"
    return (
        f"INSERT INTO {db.OPTIONS} (task_id, options) SELECT retries.other_id, {options} "
        f"FROM (SELECT * FROM {_retries()}) AS retries "
        f"JOIN {db.OPTIONS} AS given ON given.task_id = retries.task_id WHERE true "
        "ON CONFLICT (task_id) DO UPDATE SET options = excluded.options"
    )


def _insert_creators() -> str:
    return (
        f"INSERT INTO {CREATORS} (task_id, model, object_id) "
        "SELECT retries.other_id, given.model, given.object_id "
        f"FROM (SELECT * FROM {_retries()}) AS retries "
        f"JOIN {CREATORS} AS given ON given.task_id = retries.task_id WHERE true "
        "ON CONFLICT (task_id) DO UPDATE SET model = excluded.model, object_id = excluded.object_id"
    )


def _retry_alone(task_id: int, name: str, by: str, result: Retried) -> None:
    """Retry one task whose row may have receivers, or a unique key that another row has."""
    with transaction.atomic(using=db.alias()):
        new = _log([task_id], by)
        if not new:
            return  # somebody else has retried it just now
        row, is_new = _insert(_new_row(task_id), _options(task_id))
        if not is_new:
            result.refused[task_id] = f"{name} is unique, and task {row.pk} has the same key"
            transaction.set_rollback(True, using=db.alias())
            return
        log = Action.objects.using(db.alias()).filter(task_id=task_id, kind=Action.Kind.RETRIED)
        log.update(other_id=row.pk)
        db.execute(_insert_creators(), [db.members([task_id])])
    result.ids[task_id] = row.pk


def _insert(row: Task, options: Mapping[str, Any]) -> tuple[Task, bool]:
    chosen = policies.of(row.task_name).unique
    if chosen is False:
        return enqueue.insert(row, options), True
    args, kwargs = codec.load_call(row.task_params)
    value = chosen(*args, **kwargs) if callable(chosen) else [args, kwargs]
    return enqueue.insert_unique(row, unique.key_of(row.task_name, value), options)


def _new_row(task_id: int) -> Task:
    names = [name for name in db.COPIED if name not in _NEW]
    sql = f"SELECT {', '.join(names)} FROM {_ended()} WHERE task_id = %s"
    ((values),) = db.fetch(sql, [task_id])
    attnames = {field.column: field.attname for field in Task._meta.concrete_fields}
    copied = {attnames[name]: value for name, value in zip(names, values, strict=True)}
    return Task(run_at=timezone.now(), **copied)


def _options(task_id: int) -> dict[str, Any]:
    row = Task(pk=task_id, task_params=MARK)
    kept = call_options.load(row)
    return {name: value for name, value in kept.items() if name not in _OF_THE_FIRST_TIME}


def _reasons(ids: Sequence[int]) -> dict[int, str]:
    """Why tasks were not retried, in words."""
    done = Action.objects.using(db.alias()).filter(task_id__in=ids, kind=Action.Kind.RETRIED)
    retried = dict(done.values_list("task_id", "other_id"))
    sql = f"SELECT task_id, state FROM {_ended()} WHERE {db.is_member('task_id', 'bigint')}"
    states = dict(db.fetch(sql, [db.members(ids)]))
    rows = Task.objects.using(db.alias()).filter(pk__in=ids)
    queued = set(rows.values_list("pk", flat=True))
    return {pk: _reason(pk, retried, states, queued) for pk in ids}


def _reason(
    pk: int, retried: Mapping[int, int | None], states: Mapping[int, str], queued: Iterable[int]
) -> str:
    if pk in retried:
        return f"it was retried already, as task {retried[pk]}"
    if pk in states:
        return f"it has {states[pk]}; only what has failed or was cancelled can be retried"
    if pk in queued:
        return "it has not ended: it waits or runs"
    return NO_TASK
