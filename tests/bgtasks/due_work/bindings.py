"""What the harness drives in this process: the statements of the queue, by their functions.

The harness reads the code of the functions here. A binding may only call bgtasks; what arranges a
case, injects a fault or observes may use the tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from background_task.models import CompletedTask, Task
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from due_work_harness import (
    CallableDelivery,
    FencedOwnership,
    Findings,
    HandoffHistory,
    Retention,
    SupersededSnapshot,
)
from due_work_harness.safety.bounded_retry import BoundedRetry

from bgtasks import conf, testing
from bgtasks.dialects.django_tasks import DatabaseBackend
from bgtasks.management.commands import process_tasks, prune_tasks
from bgtasks.models import Attempt, Outcome, Worker
from bgtasks.queue import claims, finish, rescue, workers
from bgtasks.queue.ending import Ending
from tests.bgtasks.due_work import places
from tests.bgtasks.due_work.places import Seen

_numbers = itertools.count(1)
# The rows as those who claimed them have them in hand, by id and claim.
_in_hand: dict[tuple[int, str], Task] = {}


# --- arranging and observing


def tasks() -> Any:
    """The app's tasks. They are declared when the settings name their backend."""
    from tests.bgtasks.project.duework import tasks

    return tasks


def enqueue() -> int:
    return int(tasks().effect.enqueue(places.new_key()).id)


def expire(task_id: int) -> None:
    """FAULT INJECTION: the worker that holds a row has sent no heartbeat for a day."""
    name = Task.objects.get(pk=task_id).locked_by.partition(".")[0]
    Worker.objects.filter(name=name).update(heartbeat_at=timezone.now() - timedelta(days=1))


def seen(task_id: int) -> Any:
    """All that the tables say of a row, its owner's lease included."""
    row = Task.objects.filter(pk=task_id).values_list("locked_by", "attempts", "last_error")
    name = row[0][0].partition(".")[0] if row and row[0][0] else ""
    outcome = Outcome.objects.filter(pk=task_id).values_list("state", "attempts", "result")
    lease = Worker.objects.filter(name=name).values_list("heartbeat_at")
    return [*row], [*outcome], [*lease], CompletedTask.objects.count()


# --- claims and leases


def claim() -> tuple[int, str] | None:
    """A new worker claims a row: its id and the claim, which is the fence."""
    name = f"bg~{next(_numbers):012x}"
    workers.register(
        Worker(name=name, host="h", pid=1, processes=1, threads=1, version="0", lease=conf.lease())
    )
    rows = claims.claim(f"{name}.1-1", [tasks().effect.module_path], 1)
    for row in rows:
        _in_hand[row.pk, row.locked_by] = row
    return (rows[0].pk, rows[0].locked_by) if rows else None


def record_success(task_id: int, token: str) -> bool:
    return not finish.record_successes([Ending(_in_hand[task_id, token])])


def record_success_alone(task_id: int, token: str) -> bool:
    return finish.record_alone(Ending(_in_hand[task_id, token]))


def record_failure(task_id: int, token: str) -> bool:
    return finish.record_alone(Ending(_in_hand[task_id, token], Attempt.State.FAILED, "e"))


def reschedule(task_id: int, token: str) -> bool:
    row, delay = _in_hand[task_id, token], timedelta(hours=1)
    return finish.record_alone(Ending(row, Attempt.State.FAILED, "e", delay))


def hand_back(task_id: int, token: str) -> bool:
    return bool(claims.release([_in_hand[task_id, token]]))


def beat(task_id: int, token: str) -> bool:
    workers.beat(token.partition(".")[0])  # raises LeaseLost
    return True


def rescue_dead_workers(*_: Any) -> int | None:
    """What each living worker does: it looks at all others, and takes back what the dead held."""
    steps = [rescue.rescue_worker(peer) for peer in workers.peers("", conf.lease())]
    return sum(sum(each) for each in steps if each is not None) or None


def ownership() -> FencedOwnership:
    return FencedOwnership(
        name="claims and leases",
        make_claimable=enqueue,  # ARRANGE
        # REAL PRODUCTION: the claim, all ways to record a run, the heartbeat, the rescue
        claim=claim,
        fenced_write=record_success,
        other_fenced_writes={
            "with signals": record_success_alone,
            "failed": record_failure,
            "tried again": reschedule,
            "handed back": hand_back,
        },
        renew_lease=beat,
        reclaim_stalled=rescue_dead_workers,
        release_unchanged=hand_back,
        # EXTERNAL SEAM: none is replaced; the heartbeat is set back in the table
        expire_lease=expire,
        observe=seen,  # OBSERVE
    )


# --- late results


def claim_and_stall() -> tuple[int, str]:
    """A worker claims a row, and sends no heartbeat from then on."""
    claimed = claim()
    assert claimed is not None
    expire(claimed[0])
    return claimed


def supersede() -> None:
    """The row is taken back, claimed by another worker, and finished by that."""
    rescue_dead_workers()
    again = claim()
    assert again is not None
    assert record_success(*again)


def late_results() -> SupersededSnapshot:
    task_id = enqueue()  # ARRANGE

    def finish_late(claimed: tuple[int, str]) -> bool:
        return finish.record_alone(Ending(_in_hand[claimed], result='"late"'))

    return SupersededSnapshot(
        name="a result that comes late",
        # REAL PRODUCTION: a worker's claim, what happens when it is dead, its recording
        take_snapshot=claim_and_stall,
        supersede=supersede,
        run_with_snapshot=finish_late,
        # EXTERNAL SEAM: none is replaced
        observe=lambda: seen(task_id),  # OBSERVE
    )


# --- pruning


def old_and_owed() -> int:
    task_id = enqueue()
    Task.objects.filter(pk=task_id).update(run_at=timezone.now() - timedelta(days=1000))
    return task_id


def old_and_done() -> int:
    task_id = enqueue()
    testing.run_pending()
    old = timezone.now() - timedelta(days=1000)
    assert Outcome.objects.filter(pk=task_id).update(finished_at=old)
    return task_id


def retention() -> Retention:
    return Retention(
        name="prune_tasks",
        make_non_terminal=old_and_owed,  # ARRANGE
        make_prunable=old_and_done,
        # REAL PRODUCTION
        run_retention=lambda: call_command(prune_tasks.Command(), verbosity=0),
        # EXTERNAL SEAM: none is replaced
        # OBSERVE
        still_exists=lambda id_: any(m.objects.filter(pk=id_).exists() for m in (Task, Outcome)),
    )


# --- further attempts


def failing() -> tuple[int, str]:
    key = places.new_key()
    return int(tasks().fail.enqueue(key).id), key


def hurry(call: tuple[int, str]) -> None:
    """FAULT INJECTION: the backoff is over."""
    Task.objects.filter(pk=call[0]).update(run_at=timezone.now())


def run_what_is_due(_: tuple[int, str]) -> None:
    testing.run_pending(raise_failures=False)


def retry() -> BoundedRetry:
    return BoundedRetry(
        name="max_attempts",
        max_executions=3,
        make_failing=failing,  # ARRANGE
        # REAL PRODUCTION
        due_work=claims.free,
        run_once=run_what_is_due,
        advance_to_due=hurry,
        # EXTERNAL SEAM: the provider that is away, which counts its callers
        failure_attempt_count=lambda call: tasks().failures[call[1]],
        # OBSERVE
        is_terminal=lambda call: Outcome.objects.filter(pk=call[0], state="failed").exists(),
        observe=lambda call: (seen(call[0]), tasks().failures[call[1]]),
        identity_of=lambda each: each[0] if isinstance(each, tuple) else each.pk,
    )


# --- enqueueing


def place(key: str) -> None:
    """Enqueue as a view does that opens no transaction."""
    assert isinstance(tasks().effect.get_backend(), DatabaseBackend)
    tasks().effect.enqueue(key)


def place_in_transaction(key: str) -> None:
    with transaction.atomic():
        place(key)


def drain() -> None:
    """A worker that starts now, with all that its process needs, and ends when nothing is ready."""
    assert process_tasks.__name__.endswith("process_tasks")
    places.beside().drain(MORE_APPS="tests.bgtasks.project.duework.DueWork")


def enqueueing(
    name: str, transition: Callable[[str], None], findings: Findings
) -> HandoffHistory[str, Seen]:
    return HandoffHistory(
        name=name,
        arrange=places.new_key,
        transition=transition,
        observe=in_tables,
        findings=findings,
    )


def in_tables(key: str) -> Seen:
    named = {"task_params__contains": f'"{key}"'}
    states = ["queued"] * Task.objects.filter(**named).count()
    states += ["succeeded"] * CompletedTask.objects.filter(**named, failed_at=None).count()
    effects = Group.objects.filter(name__startswith=f"effect-{key} ")
    return Seen(" and ".join(states), effects.count())


delivery = CallableDelivery(name="process_tasks", recover=drain)
