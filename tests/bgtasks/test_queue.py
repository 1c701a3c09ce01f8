"""The statements over the task tables, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from datetime import timedelta
from hashlib import sha1
from typing import Any

import pytest
from background_task import signals
from background_task.models import CompletedTask, Task
from background_task.tasks import TaskSchedule
from django.db import DatabaseError, connection, transaction
from django.db.models.signals import post_save
from django.utils import timezone

from bgtasks import AsyncResult, conf, exceptions
from bgtasks.clock import elapsed
from bgtasks.models import Attempt, Outcome, Worker
from bgtasks.queue import claims, enqueue, finish, outcomes, progress, pruning, rescue, workers
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.queue.frontier import Frontier
from bgtasks.serialize import remote_errors
from bgtasks.tasks.current import CurrentTask
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload
from signup.tasks import discard_files as task
from tests.harness.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)
NAMES = [task.name]
TOKEN = "bg~000000000000.1-1"


@pytest.fixture(autouse=True)
def _empty() -> None:
    Task.objects.all().delete()


def rows(count: int, **options: Any) -> list[Task]:
    return [task([str(number)], **options) for number in range(count)]


def claim(limit: int = 100, token: str = TOKEN, **options: Any) -> list[Task]:
    return claims.claim(token, NAMES, limit, **options)


# --- claims


def test_a_batch_is_claimed_by_one_statement(django_assert_num_queries: Any) -> None:
    made = rows(40)
    frontier = Frontier([task.name])
    assert len(frontier.take(TOKEN, 10)) == 10
    with django_assert_num_queries(1):
        taken = frontier.take(TOKEN, 20)
    assert [row.pk for row in taken] == [row.pk for row in made[10:30]]
    assert {(each.row.locked_by, each.row.attempts) for each in taken} == {(TOKEN, 1)}
    assert {row.locked_at is None for row in Task.objects.filter(locked_by=TOKEN)} == {False}


def test_what_is_late_failed_locked_unknown_or_elsewhere_is_not_claimed() -> None:
    task(["later"], schedule=60)
    task(["elsewhere"], queue="other")
    for number, (name, value) in enumerate(
        [("failed_at", timezone.now()), ("locked_by", "somebody"), ("task_name", "unknown")]
    ):
        row = task([number], queue="q")
        Task.objects.filter(pk=row.pk).update(**{name: value})
    wanted = task(["wanted"], queue="q")
    assert [row.pk for row in claim(queues=["q"])] == [wanted.pk]


def test_the_most_urgent_and_then_the_oldest_come_first(settings: Any) -> None:
    now = timezone.now()
    late = task([1], priority=1, schedule=now - timedelta(seconds=1))
    early = task([2], priority=1, schedule=now - timedelta(hours=1))
    urgent = task([3], priority=2)
    assert [row.pk for row in claim(1)] == [urgent.pk]
    assert [row.pk for row in claim(1)] == [early.pk]
    claims.release(Task.objects.filter(locked_by=TOKEN))
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    assert [row.pk for row in claim(1)] == [early.pk]
    assert [row.pk for row in claim(2)] == [late.pk, urgent.pk]


def test_claimants_at_the_same_moment_share_nothing() -> None:
    rows(120)
    taken = in_threads(6, lambda n: [r.pk for r in claim(20, f"bg~000000000000.{n}-1")])
    ids = [pk for batch in taken for pk in batch]
    assert len(ids) == len(set(ids)) == Task.objects.exclude(locked_by=None).count()
    assert len(ids) >= 100  # a claim may pass over rows that another has in its hands


def test_a_worker_that_was_declared_dead_claims_nothing() -> None:
    rows(1)
    assert claim(worker="bg~000000000000") == []
    register("bg~000000000000")
    assert len(claim(worker="bg~000000000000")) == 1


def test_p4_handing_back_refunds_the_attempt_and_only_of_what_is_still_ours() -> None:
    ours, theirs = rows(2)
    held = claim()
    Task.objects.filter(pk=theirs.pk).update(locked_by="another", attempts=5)
    assert claims.release(held) == 1
    ours.refresh_from_db()
    theirs.refresh_from_db()
    assert (ours.locked_by, ours.locked_at, ours.attempts) == (None, None, 0)
    assert (theirs.locked_by, theirs.attempts) == ("another", 5)


def test_p3_a_row_that_was_lost_is_not_confirmed() -> None:
    (row,) = rows(1) and claim()
    assert claims.confirm(row)
    Task.objects.update(locked_by="bg~000000000000.1-2")
    assert not claims.confirm(row)


# --- endings


def test_a_batch_is_recorded_in_one_transaction(django_assert_num_queries: Any) -> None:
    rows(50)
    held = claim()
    # PostgreSQL does all in one statement; SQLite in three, and the transaction's begin and end.
    with django_assert_num_queries(1 if db.on_postgresql() else 5):
        assert finish.record_successes([Ending(row) for row in held]) == []
    assert Task.objects.count() == 0
    assert CompletedTask.objects.filter(failed_at=None, attempts=1).count() == 50
    pairs = Outcome.objects.values_list("task_id", "completed_id")
    completed = dict(CompletedTask.objects.values_list("pk", "task_params"))
    for row in held:
        assert completed[dict(pairs)[row.pk]] == row.task_params


def test_a_completed_row_keeps_what_the_row_was(user: Any) -> None:
    made = task(
        ["x"], priority=3, queue="q", verbose_name="a name", creator=user, schedule=timezone.now()
    )
    finish.record_successes([Ending(row) for row in claim()])
    completed = CompletedTask.objects.get()
    for name in ("task_name", "task_params", "task_hash", "priority", "queue", "verbose_name"):
        assert getattr(completed, name) == getattr(made, name)
    assert completed.creator == user
    assert completed.run_at >= made.run_at


def endings_of_every_kind(row: Task) -> list[Ending]:
    return [
        Ending(row),
        Ending(row, Attempt.State.FAILED, "no"),
        Ending(row, Attempt.State.FAILED, "again", timedelta(seconds=5)),
        Ending(row, Attempt.State.LOST, "lost", timedelta(0)),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("repeat", [0, 60])
def test_p3_a_late_ending_changes_nothing(kind: int, repeat: int) -> None:
    rows(1, repeat=repeat)
    (row,) = claim()
    Task.objects.update(locked_by="bg~000000000000.1-2")
    before = Task.objects.values().get()
    assert not finish.record_alone(endings_of_every_kind(row)[kind])
    if kind == 0:
        assert finish.record_successes([Ending(row)]) == [row]
    assert Task.objects.values().get() == before
    assert not CompletedTask.objects.exists()
    assert not Outcome.objects.exists()
    assert not Attempt.objects.exists()


def test_p3_of_two_endings_at_the_same_moment_one_is_recorded() -> None:
    for _ in range(5):
        rows(1)
        (row,) = claim()
        in_threads(4, lambda _, row=row: finish.record_alone(Ending(row)))
    assert CompletedTask.objects.count() == Outcome.objects.count() == 5


def test_a_stale_outcome_of_the_same_id_does_not_fail_the_finish() -> None:
    (made,) = rows(1)
    Outcome.objects.create(
        task_id=made.pk, completed_id=1, state="failed", attempts=9, finished_at=timezone.now()
    )
    finish.record_successes([Ending(row) for row in claim()])
    outcome = Outcome.objects.get()
    assert (outcome.state, outcome.attempts) == ("succeeded", 1)


def test_a_failed_attempt_goes_back_with_its_story() -> None:
    rows(1)
    (row,) = claim()
    ending = Ending(row, Attempt.State.FAILED, "Traceback", timedelta(seconds=6))
    assert finish.record_alone(ending)
    row = Task.objects.get()
    assert (row.locked_by, row.attempts, row.last_error) == (None, 1, "Traceback")
    assert row.run_at > timezone.now() + timedelta(seconds=4)
    attempt = Attempt.objects.get()
    assert (attempt.task_id, attempt.number, attempt.state) == (row.pk, 1, "failed")
    assert attempt.claim == TOKEN


def test_success_after_a_failure_shows_no_error_and_keeps_the_story() -> None:
    rows(1)
    Task.objects.update(last_error="Traceback", attempts=1)
    finish.record_successes([Ending(row) for row in claim()])
    assert CompletedTask.objects.get().has_error() is False
    assert CompletedTask.objects.get().attempts == 2


# --- rescue


def register(name: str) -> Worker:
    worker = Worker(name=name, host="h", pid=1, processes=1, threads=1, version="0", lease=15)
    workers.register(worker)
    return worker


def test_p4_of_a_dead_child_what_had_begun_counts_and_the_rest_is_refunded() -> None:
    begun, *others = rows(3)
    claim()
    assert rescue.rescue("bg~000000000000.1-", "it died", begun={begun.pk}) == 3
    begun.refresh_from_db()
    assert (begun.attempts, begun.locked_by) == (1, None)
    assert begun.last_error == "Lost: it died while attempt 1 of this task ran."
    assert begun.run_at <= timezone.now(), "the first rescue is immediate"
    assert set(Task.objects.exclude(pk=begun.pk).values_list("attempts", flat=True)) == {0}
    assert Attempt.objects.get().task_id == begun.pk
    assert len(others) == 2


def test_only_the_named_childs_rows_are_rescued() -> None:
    rows(4)
    for child in (1, 11, 2):
        claim(1, f"bg~000000000000.{child}-1")
    assert rescue.rescue("bg~000000000000.1-", "it died", begun=()) == 1
    assert Task.objects.exclude(locked_by=None).count() == 2


def test_p4_later_rescues_back_off_and_the_third_loss_fails() -> None:
    rows(1)
    for loss in (1, 2, 3):
        Task.objects.update(run_at=timezone.now())
        claim()
        rescue.rescue("bg~000000000000.", "it died")
        if loss == 2:
            assert Task.objects.get().run_at > timezone.now() + timedelta(seconds=20)
    assert not Task.objects.exists()
    assert "cost 3 workers" in CompletedTask.objects.get().last_error
    assert Outcome.objects.get().state == "failed"
    assert list(Attempt.objects.values_list("number", "state")) == [(n, "lost") for n in (1, 2, 3)]


def test_a_row_that_cannot_be_taken_back_keeps_no_other_from_it() -> None:
    broken, other = rows(2)
    claim()
    lost = {"task_id": broken.pk, "state": "lost", "ended_at": timezone.now()}
    Attempt.objects.bulk_create(Attempt(number=number, **lost) for number in (1, 2))

    def end_the_transaction(**_: Any) -> None:
        connection.connection.rollback()  # behind Django's back

    signals.task_failed.connect(end_the_transaction)
    try:
        rescue.rescue("bg~000000000000.", "it died")
    finally:
        signals.task_failed.disconnect(end_the_transaction)
    assert Task.objects.get(locked_by=None).pk == other.pk
    assert Task.objects.get(locked_by=TOKEN).pk == broken.pk


def test_being_stopped_again_and_again_is_no_suspicion() -> None:
    rows(1)
    for _ in range(5):
        claim()
        rescue.rescue("bg~000000000000.", "it was deployed", stopped=True)
    row = Task.objects.get()
    assert not rescue.suspect(row)
    assert row.attempts == 5


def test_a_dead_worker_is_buried_once(settings: Any) -> None:
    rows(3)
    register("bg~000000000000")
    claim()
    (peer,) = workers.peers("another")
    assert 10 < peer.left <= 15 + 0.001, "SQLite's julianday() is precise to 40 microseconds"
    assert not workers.bury(peer.name)
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=16))

    def rescued(_: int) -> list[int] | None:
        steps = rescue.rescue_worker(peer)
        return None if steps is None else list(steps)

    found = in_threads(3, rescued)
    assert [steps for steps in found if steps is not None] == [[1, 1, 1]]
    assert Attempt.objects.count() == 3


def test_a_worker_whose_heartbeat_comes_in_time_is_not_buried() -> None:
    register("bg~000000000000")
    rows(1)
    claim()
    (peer,) = workers.peers("another")
    assert rescue.rescue_worker(peer) is None
    assert Task.objects.get().locked_by == TOKEN


def test_a_heartbeat_renews_the_locks_and_fails_once_the_worker_is_buried() -> None:
    register("bg~000000000000")
    rows(1)
    claim()
    Task.objects.update(locked_at=timezone.now() - timedelta(hours=2))
    workers.beat("bg~000000000000")
    assert Task.objects.get().locked_at > timezone.now() - timedelta(minutes=1)
    Worker.objects.all().delete()
    with pytest.raises(exceptions.LeaseLost, match="declared dead"):
        workers.beat("bg~000000000000")


def test_claims_of_workers_that_nobody_knows_are_taken_back_after_the_lease() -> None:
    rows(2)
    claim(1)
    assert rescue.rescue_orphans(15) == 0
    Task.objects.exclude(locked_by=None).update(locked_at=timezone.now() - timedelta(seconds=30))
    assert rescue.rescue_orphans(15) == 1
    assert "not in the workers' table" in Attempt.objects.get().error


@pytest.mark.parametrize("name", ["4711", "bgweb1.example.com:1:2", "bg-1"])
def test_locks_of_others_are_taken_back_by_their_age_alone(name: str) -> None:
    rows(1)
    Task.objects.update(locked_by=name, locked_at=timezone.now() - timedelta(minutes=50))
    assert rescue.rescue_orphans(15) == claims.release_expired() == 0
    Task.objects.update(locked_at=timezone.now() - timedelta(minutes=70))
    assert claims.release_expired() == 1


def test_what_a_dead_childs_last_claim_left_behind_is_handed_back() -> None:
    rows(3)
    for child in (1, 2, 12):
        claim(1, f"bg~000000000000.{child}-5")
    assert rescue.release_strays("bg~000000000000", children=[1, 12]) == 1
    (free,) = Task.objects.filter(locked_by=None)
    assert free.attempts == 0
    assert rescue.release_strays("bg~000000000000", children=[1, 12]) == 0


def test_a_claim_whose_answer_was_lost_is_handed_back_by_its_living_child() -> None:
    known, unknown, elsewhere = rows(3)
    claim(2)
    claim(1, "bg~000000000000.11-1")
    assert claims.release_unknown("bg~000000000000.1-", {known.pk}) == 1
    unknown.refresh_from_db()
    assert (unknown.locked_by, unknown.attempts) == (None, 0)
    assert Task.objects.exclude(locked_by=None).count() == 2
    assert elsewhere.pk


def test_the_workload_knows_what_it_holds() -> None:
    ready, running, ended, recorded = map(held, rows(4))
    work = workload(2)
    for row in (running, ended, recorded):
        work.add([row])
        assert work.take() is row
    work.leave(recorded, Ending(recorded.row))
    record(work)
    work.leave(ended, Ending(ended.row))
    work.add([ready])
    assert work.held() == {ready.pk, running.pk, ended.pk}


def test_a_lost_hosts_rows_are_suspected_the_second_time_only() -> None:
    rows(1)
    for suspected in (False, True):
        claim()
        rescue.rescue("bg~000000000000.", "the host is lost")
        Task.objects.update(run_at=timezone.now())
        row = Task.objects.get()
        row.attempts += 1  # as the next claim will
        assert rescue.suspect(row) is suspected


# --- the workload


def held(row: Task) -> ClaimedRow:
    """A row as a claim gives it."""
    return ClaimedRow(row, elapsed())


def lost(row: Task, seconds: float = 0) -> ClaimedRow:
    """A row whose last run ended with its worker, claimed so long ago."""
    row.attempts, row.last_error = 2, "Lost: it died"
    return ClaimedRow(row, elapsed() - seconds)


def test_a_suspect_that_has_waited_long_is_passed_by_no_more() -> None:
    first, suspect_, last = map(held, rows(3))
    work = workload(4)
    work.add([first])
    assert work.take() is first
    work.add([suspect_ := lost(suspect_.row, seconds=2), last])
    assert not work.wait(0)
    work.leave(first, None)
    assert work.take() is suspect_


def test_of_several_suspects_one_is_held() -> None:
    row, *others = rows(4)
    made = [lost(row), held(others[0]), lost(others[1]), lost(others[2])]
    work = workload(4)
    work.add(made)
    assert work.suspects.surplus() == [made[2], made[3]]
    assert work.held() == {made[0].pk, made[1].pk}


def workload(threads: int) -> Workload:
    wakeups.append(WakeUp())
    return Workload(Options(threads=threads), wakeups[-1], Marks(1))


wakeups: list[WakeUp] = []


@pytest.fixture(autouse=True)
def closed_wakeups() -> Iterator[None]:
    yield
    while wakeups:
        wakeups.pop().close()


def record(work: Workload) -> None:
    """Take what has ended, as a recording does that succeeds."""
    work.put_back(work.take_ended(), [])


def test_a_suspect_waits_until_nothing_runs_and_all_is_recorded_and_others_pass_it() -> None:
    first, suspect_, last = map(held, rows(3))
    work = workload(4)
    work.add([first])
    assert work.take() is first
    work.add([suspect_ := lost(suspect_.row), last])
    assert work.take() is last
    assert not work.wait(0)
    work.leave(first, Ending(first.row))
    work.leave(last, Ending(last.row))
    assert not work.wait(0), "their endings are not recorded yet"
    record(work)
    assert work.take() is suspect_
    work.add([first])
    assert not work.wait(0), "it runs alone"
    assert work.overripe() == [first]


def test_no_more_is_claimed_than_the_threads_will_start_soon() -> None:
    work = workload(2)
    assert work.wanted(work.plain) == 2
    work.add([held(row) for row in rows(2)])
    assert work.wanted(work.plain) == 0
    for _ in range(60):  # quick ones: the next hundred milliseconds have room for more
        claimed = work.take()
        assert claimed
        work.leave(claimed, Ending(claimed.row))
        record(work)
        work.add([claimed])
    assert 50 < work.wanted(work.plain) <= slots_for(Options(threads=2))


# --- enqueueing


def test_p1_a_task_exists_if_and_only_if_its_transaction_commits() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        rows(2)
        1 / 0  # noqa: B018
    assert not Task.objects.exists()


def test_an_enqueue_is_one_statement(django_assert_num_queries: Any) -> None:
    with transaction.atomic(), django_assert_num_queries(1):
        task(["a"])  # PostgreSQL's idle workers are told after the commit


def test_the_hash_is_what_it_always_was() -> None:
    row = task(["a"], queue="q")
    params = json.dumps([[["a"]], {}], sort_keys=True)
    assert row.task_params == params
    assert row.task_hash == sha1((task.name + params).encode()).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        ([object()], {}, "Argument 1 of .*discard_files is a object"),
        ([], {"names": 1j}, "Argument names .* is a complex"),
        ([{1: 2, "a": 3}], {}, "Argument 1 .* is a dict"),
        ([{1, 2}], {}, "Argument 1 .* is a set"),
    ],
)
def test_an_argument_that_is_not_json_is_named(
    arguments: list[Any], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        task(*arguments, **options)


def test_an_argument_that_contains_itself_is_named() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(exceptions.NotJSON, match="Argument 1"):
        task(endless)


def test_a_time_without_a_zone_is_taken_as_local_with_a_warning(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    moment = timezone.now().astimezone(timezone.get_current_timezone())
    with pytest.warns(RuntimeWarning, match=r"schedule of task .*discard_files"):
        row = task(["a"], schedule=moment.replace(tzinfo=None))
    assert row.run_at == moment
    with pytest.warns(RuntimeWarning, match="repeat_until of task"):
        task(["a"], repeat_until=moment.replace(tzinfo=None))


@pytest.mark.parametrize("action", [TaskSchedule.CHECK_EXISTING, TaskSchedule.RESCHEDULE_EXISTING])
def test_enqueuers_at_the_same_moment_leave_one_row_and_all_learn_of_it(action: int) -> None:
    made = in_threads(8, lambda n: task(["same"], schedule={"action": action, "priority": n}).pk)
    assert set(made) == {Task.objects.get().pk}


def test_replacing_at_the_same_moment_leaves_one_row() -> None:
    in_threads(8, lambda _: task(["same"], remove_existing_tasks=True).pk)
    assert Task.objects.count() == 1


def test_rows_of_another_queue_are_not_touched() -> None:
    there = task(["same"], queue="there")
    here = task(["same"], queue="here", schedule={"action": TaskSchedule.CHECK_EXISTING})
    task(["same"], queue="here", remove_existing_tasks=True)
    assert here.pk != there.pk
    assert set(Task.objects.values_list("queue", flat=True)) == {"here", "there"}


def test_rescheduling_gives_the_row_that_waits_its_new_time() -> None:
    first = task(["same"], schedule=60)
    later = timezone.now() + timedelta(hours=1)
    action = TaskSchedule.RESCHEDULE_EXISTING
    again = task(["same"], schedule={"run_at": later, "priority": 3, "action": action})
    assert (again.pk, again.run_at, again.priority) == (first.pk, later, 3)


def test_a_row_that_is_gone_is_not_written_anew() -> None:
    (row,) = rows(1)
    Task.objects.all().delete()
    row.priority = 9
    with pytest.raises(DatabaseError, match="finished or deleted meanwhile"):
        row.save()
    assert not Task.objects.exists()


def test_a_copy_of_a_row_can_be_saved() -> None:
    (row,) = rows(1)
    row.pk = None
    row.save()
    assert Task.objects.count() == 2


def test_whether_a_row_is_running_costs_no_query(django_assert_num_queries: Any) -> None:
    rows(2)
    claim(1)
    held, free = Task.objects.order_by("locked_by" if connection.vendor == "x" else "pk")
    with django_assert_num_queries(0):
        assert held.locked_by_pid_running() is True
        assert free.locked_by_pid_running() is None
        held.locked_at -= timedelta(minutes=5)
        assert held.locked_by_pid_running() is False
        assert CompletedTask(locked_by="bg~1.1-1").locked_by_pid_running() is False


# --- pruning


def outcome(state: str, days: float) -> Outcome:
    completed = CompletedTask.objects.create(
        task_name="t", task_params="[[], {}]", task_hash="h", run_at=timezone.now()
    )
    Attempt.objects.create(
        task_id=completed.pk, number=1, state="failed", ended_at=timezone.now(), error="e"
    )
    return Outcome.objects.create(
        task_id=completed.pk,
        completed_id=completed.pk,
        state=state,
        attempts=1,
        finished_at=timezone.now() - timedelta(days=days),
    )


def test_outcomes_are_pruned_by_age_and_state_with_all_that_belongs_to_them() -> None:
    old, failed = outcome("succeeded", 8), outcome("failed", 8)
    young, ancient = outcome("succeeded", 6), outcome("failed", 91)
    assert sum(pruning.prune(conf.retention())) == 2
    kept = {failed.pk, young.pk}
    assert set(Outcome.objects.values_list("pk", flat=True)) == kept
    assert set(CompletedTask.objects.values_list("pk", flat=True)) == kept
    assert set(Attempt.objects.values_list("task_id", flat=True)) == kept
    assert {old.pk, ancient.pk}.isdisjoint(kept)


def test_a_state_can_be_kept_for_ever(settings: Any) -> None:
    settings.BGTASKS_RETENTION = {"failed": None, "succeeded": timedelta(days=1)}
    outcome("failed", 10_000)
    outcome("succeeded", 2)
    assert sum(pruning.prune(conf.retention())) == 1
    assert Outcome.objects.get().state == "failed"


def test_pruning_goes_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    for _ in range(5):
        outcome("succeeded", 8)
    assert list(pruning.prune(conf.retention())) == [2, 2, 1]


def test_what_a_stock_worker_left_is_kept_unless_asked() -> None:
    CompletedTask.objects.create(
        task_name="t",
        task_params="[[], {}]",
        task_hash="h",
        run_at=timezone.now() - timedelta(days=1000),
    )
    assert sum(pruning.prune(conf.retention())) == 0
    assert sum(pruning.prune_upstream(timedelta(days=2000))) == 0
    assert sum(pruning.prune_upstream(timedelta(days=999))) == 1


def test_attempts_of_rows_that_were_deleted_are_pruned_too() -> None:
    (row,) = rows(1)
    for task_id in (row.pk, row.pk + 1):
        Attempt.objects.create(
            task_id=task_id,
            number=1,
            state="failed",
            ended_at=timezone.now() - timedelta(days=91),
            error="e",
        )
    assert sum(pruning.prune(conf.retention())) == 1
    assert Attempt.objects.get().task_id == row.pk


def test_enqueue_fingerprints_are_names_and_parameters() -> None:
    assert enqueue.fingerprint("a", "b") == sha1(b"ab").hexdigest()


# --- results and what is told besides


def test_an_earlier_run_that_still_tells_is_not_heard() -> None:
    task(["a"])
    (row,) = claim(1)
    late = copy(row)
    late.locked_by = f"{TOKEN}9"
    now, before = CurrentTask(row), CurrentTask(late)
    before.set_progress(9, 9, "of long ago")
    now.set_progress(1, 2, "now")
    progress.write([now, now, before])
    assert progress.read(row.pk) == (1, 2, "now")
    Task.objects.update(attempts=2)
    assert progress.read(row.pk) is None, "a further run begins anew"


@pytest.mark.parametrize(
    "error", [ValueError(10**5000), ValueError(Task.objects), ValueError(float("nan"))]
)
def test_every_exception_can_be_told_of(error: Exception) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    error.args = (*error.args, Shy())
    rebuilt = remote_errors.rebuild(remote_errors.describe(error), "told")
    assert type(rebuilt) is ValueError
    assert len(rebuilt.args) == 2


def test_an_outcome_of_another_task_with_the_same_id_is_not_believed() -> None:
    row = task(["a"])
    old = timezone.now() - timedelta(days=1)
    Outcome.objects.create(
        task_id=row.pk, completed_id=1, state="succeeded", attempts=1, finished_at=old, result="1"
    )
    result = AsyncResult(row)
    assert (result.status, bool(outcomes.ended_of([row.pk]))) == ("PENDING", False)
    (row,) = claim(1)
    assert (result.status, bool(outcomes.ended_of([row.pk]))) == ("STARTED", False)
    finish.record_successes([Ending(row, result="2")])
    assert (result.status, result.result, bool(outcomes.ended_of([row.pk]))) == ("SUCCESS", 2, True)


def test_a_receiver_of_an_end_finds_the_result() -> None:
    found = []

    def receiver(task_id: int, **_: Any) -> None:
        found.append(AsyncResult(task_id).status)

    signals.task_successful.connect(receiver)
    try:
        task(["a"])
        (row,) = claim(1)
        finish.record_with_receivers([Ending(row)])
    finally:
        signals.task_successful.disconnect(receiver)
    assert found == ["SUCCESS"]


def test_a_completed_row_is_not_taken_for_its_task() -> None:
    with pytest.raises(exceptions.UnknownResult, match="completed_id=3"):
        AsyncResult(CompletedTask(pk=3))


@pytest.mark.parametrize("id_", [2**63, 10**30, -1])
def test_what_no_id_can_be_is_no_result(id_: int) -> None:
    with pytest.raises(exceptions.UnknownResult):
        _ = AsyncResult(id_).status


@pytest.mark.parametrize("raise_", [exceptions.Retry, exceptions.Snooze])
def test_a_delay_beyond_the_calendar_is_refused(raise_: Any) -> None:
    with pytest.raises(exceptions.InvalidOption, match="hundred years"):
        raise_(1e12)


# --- creators


def test_creators_are_prefetched_as_ever(django_user_model: Any) -> None:
    users = [django_user_model.objects.create_user(name) for name in ("zoe", "mia")]
    Task.objects.all().delete()  # their welcome mails
    for user in users:
        task(["a"], creator=user)
    found = Task.objects.order_by("pk").prefetch_related("creator")
    assert [row.creator for row in found] == users


@pytest.mark.parametrize("heard", [False, True])
def test_many_rows_have_a_creator_with_any_key(django_user_model: Any, heard: bool) -> None:
    user = django_user_model.objects.create_user("zoe", pk=2**40)
    Task.objects.all().delete()  # the welcome mail
    receiver = [lambda **_: None] if heard else []
    for each in receiver:
        post_save.connect(each, sender=Task)
    try:
        made = task.map([["a"], ["b"]], creator=user)
    finally:
        for each in receiver:
            post_save.disconnect(each, sender=Task)
    rows = Task.objects.filter(pk__in=[row.pk for row in made])
    assert [row.creator for row in rows] == [user] * 2
    assert Task.objects.created_by(user).count() == 2


def test_a_creator_that_is_not_saved_is_refused(django_user_model: Any) -> None:
    with pytest.raises(exceptions.InvalidOption, match="not saved"):
        task(["a"], creator=django_user_model())
    assert not Task.objects.exists()
