"""The task table was emptied, and its ids begin anew: what our tables keep of older rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.utils import timezone

from bgtasks import background
from bgtasks.dialects import celery
from bgtasks.models import (
    Action,
    Attempt,
    CallOptions,
    Child,
    Creator,
    Outcome,
    Progress,
    Revocation,
    UniqueKey,
)
from bgtasks.queue import call_options, claims, outcomes, progress, rescue, sequences
from bgtasks.queue import database as db
from bgtasks.tasks.current import CurrentTask
from signup.models import User
from tests.bgtasks.queue.helpers import TOKEN

pytestmark = pytest.mark.django_db(transaction=True)


@background(unique=True, name="tests.reused.one")
def one(key: str = "") -> None: ...


@background(unique=lambda key: key.lower(), name="tests.reused.other")
def other(key: str = "") -> None: ...


@background(name="tests.reused.plain")
def plain(key: str = "") -> None: ...


TASKS = [one.name, other.name, plain.name]


def empty_the_table() -> None:
    if connection.vendor == "postgresql":
        db.execute(f"TRUNCATE {db.TASKS} RESTART IDENTITY")
    else:
        db.execute(f"DELETE FROM {db.TASKS}")
        db.execute("DELETE FROM sqlite_sequence WHERE name = %s", [db.TASKS])


@pytest.fixture(autouse=True)
def _from_the_first_id(_empty: None) -> None:
    empty_the_table()


def claim(token: str = TOKEN) -> Any:
    (claimed,) = claims.Frontier(TASKS).take(token, 1)
    return claimed


# --- the key of a unique task


@pytest.mark.parametrize(
    ("first", "in_its_place", "wanted"),
    [
        (lambda: one("a"), lambda: other("a"), lambda: one("a")),
        (lambda: one("a"), lambda: one("b"), lambda: one("a")),
        (lambda: one("a"), lambda: plain("a"), lambda: one("a")),
        (lambda: other("a"), lambda: other("b"), lambda: other("A")),
        (lambda: one("a", repeat=60), lambda: one("b", repeat=60), lambda: one("a")),
    ],
)
def test_p2_a_key_that_names_the_row_of_another_call_is_taken(
    first: Callable[[], Task], in_its_place: Callable[[], Task], wanted: Callable[[], Task]
) -> None:
    before = first()
    empty_the_table()
    stranger = in_its_place()
    assert stranger.pk == before.pk
    row = wanted()
    assert (row.pk != stranger.pk, Task.objects.count()) == (True, 2)
    assert wanted().pk == row.pk, "from now on it is unique again"


def test_a_key_of_an_older_version_is_believed_if_the_row_is_of_its_task() -> None:
    row = one("a")
    UniqueKey.objects.update(task_hash=None, hash_of=None)
    assert one("a").pk == row.pk
    empty_the_table()
    plain()
    UniqueKey.objects.update(task_hash=None, hash_of=None)
    assert one("a").pk != row.pk


def test_the_end_of_a_repeating_row_leaves_the_keys_of_others_alone() -> None:
    one("a")
    empty_the_table()
    other("b", repeat=60)
    following = claim().row.create_repetition()
    assert one("a").pk != following.pk
    assert other("B").pk == following.pk


def take_by_older(call: Callable[[], Task]) -> Task:
    """A call by a version that writes no hash, and leaves that of an earlier row."""
    before = UniqueKey.objects.values("task_hash", "hash_of").get()
    row = call()
    UniqueKey.objects.update(**before)
    return row


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("repeat", [0, 60])
def test_p2_a_key_that_an_older_version_has_taken_beside_ours_is_taken(
    deleted: bool, repeat: int
) -> None:
    first = other("a")
    if deleted:
        first.delete()
    else:
        assert outcomes.revoke(first.pk, terminate=False)
    row = take_by_older(lambda: other("A", repeat=repeat))
    assert row.pk != first.pk
    if repeat:
        running = claim().row
        row = running.create_repetition()
        running.delete()
    assert (other("a").pk, Task.objects.count()) == (row.pk, 1)


# --- the options of a call


@pytest.mark.parametrize("options", [{"expires": 1.0}, {"then": "no.such"}, {"timeout": 0.1}])
@pytest.mark.parametrize("call", [plain, one])
def test_p2_the_options_of_an_older_row_do_not_apply(options: dict[str, Any], call: Any) -> None:
    call_options.insert(plain("a"), options)
    plain.apply_async(("a",), expires=60)
    empty_the_table()
    row = call("a")
    assert (dict(claim().options), call_options.load(row)) == ({}, {})


def test_a_row_with_options_keeps_its_own() -> None:
    for expected in (60, 90):
        empty_the_table()
        row = plain.apply_async(("a",), timeout=expected)
        claimed = claim()
        assert (claimed.pk, claimed.options) == (row.id, {"timeout": expected})
        assert claimed.row.params() == (["a"], {})
        assert Task.objects.get_task(plain.name, ("a",)).count() == 1


def test_options_that_an_older_version_stored_apply() -> None:
    row = plain()
    CallOptions.objects.create(task_id=row.pk, options='{"timeout": 7}')
    assert claim().options == {"timeout": 7}


def test_a_repeating_row_is_not_given_the_phase_of_an_older_one() -> None:
    for _ in range(2):
        empty_the_table()
        row = plain(repeat=3600)
        claimed = claim()
        due = Task.objects.get(pk=row.pk).run_at
        claims.release([claimed.row], timedelta(seconds=5))
        row = Task.objects.get(pk=row.pk)
        assert (call_options.slot(row), row.run_at > due) == (due, True)
        following = row.create_repetition()
        assert following.run_at == due + timedelta(hours=1)
        assert (following.params(), call_options.load(following)) == (([], {}), {})


# --- what else is kept of a row


def test_p10_the_progress_of_an_older_row_is_not_shown() -> None:
    def run() -> CurrentTask:
        row = plain()
        assert progress.read(row.pk) is None
        current = CurrentTask(claim(f"{TOKEN}{timezone.now().timestamp()}").row)
        assert progress.read(row.pk) is None
        return current

    first = run()
    first.set_progress(1, 2, "secret")
    progress.write([first])
    assert progress.read(first.id) == (1, 2, "secret")
    empty_the_table()
    run()
    rescue.rescue(TOKEN, "its child died")
    assert (Task.objects.get().attempts, progress.read(first.id)) == (1, None)


@pytest.mark.parametrize("waits", [False, True])
def test_the_progress_of_a_revoked_task_is_still_shown(waits: bool) -> None:
    row = plain()
    current = CurrentTask(claim().row)
    current.set_progress(1, 2, "half")
    progress.write([current])
    if waits:
        rescue.rescue(TOKEN, "its child died")
        assert progress.read(row.pk) == (1, 2, "half")
    assert outcomes.revoke(row.pk, terminate=True)
    assert progress.read(row.pk) == (1, 2, "half")


@pytest.mark.parametrize("stopped", [False, True])
def test_the_progress_that_an_older_version_beside_ours_stores_is_shown(stopped: bool) -> None:
    row = plain()
    current = CurrentTask(claim().row)
    current.set_progress(1, 2, "ours")
    progress.write([current])
    if stopped:
        claims.release([current.row], timedelta(0))
    else:
        rescue.rescue(TOKEN, "its child died")
    Task.objects.update(run_at=timezone.now())
    later = claim(f"{TOKEN}1").row
    assert (later.attempts, progress.read(row.pk)) == ((1, None) if stopped else (2, None))
    Progress.objects.update(
        attempt=later.attempts, done=2, message="theirs", updated_at=timezone.now()
    )
    assert progress.read(row.pk) == (2, 2, "theirs")
    assert outcomes.revoke(row.pk, terminate=True)
    assert progress.read(row.pk) == (2, 2, "theirs")


def lose(times: int) -> Task:
    row = plain()
    for _ in range(times):
        Task.objects.update(run_at=timezone.now())
        claim()
        rescue.rescue(TOKEN, "its child died")
    return row


def test_p4_lost_runs_of_an_older_row_are_not_counted() -> None:
    lose(2)
    empty_the_table()
    row = lose(1)
    assert Task.objects.get(pk=row.pk).last_error.startswith(rescue.LOST_WITH_ALL)
    lost = lose(2)
    assert not Outcome.objects.filter(pk=lost.pk).exists()


def test_p4_a_row_that_costs_three_workers_fails() -> None:
    assert Outcome.objects.get(pk=lose(3).pk).state == Outcome.State.FAILED


def test_failed_runs_of_an_older_row_are_no_retries_in_celerys_words() -> None:
    row = plain()
    for number in (1, 2, 3):
        Attempt.objects.create(
            task_id=row.pk, number=number, state="failed", claim="old", ended_at=timezone.now(),
            error="",
        )  # fmt: skip
    row = claim().row
    assert celery._retries(CurrentTask(row)) == 0
    row.attempts = 3
    assert celery._retries(CurrentTask(row)) == 2


def test_p10_a_creators_rows_are_not_those_that_others_enqueued_under_the_same_ids() -> None:
    ann = User.objects.create(username="ann")
    Task.objects.all().delete()
    row = plain(creator=ann)
    Creator.objects.get_or_create(
        pk=row.pk, defaults={"model": ann._meta.label_lower, "object_id": str(ann.pk)}
    )
    key = ContentType.objects.get_for_model(User).pk
    Task.objects.update(creator_content_type_id=key, creator_object_id=None)
    assert list(Task.objects.created_by(Keyed(ann))) == [row]
    empty_the_table()
    plain()
    assert list(Task.objects.created_by(Keyed(ann))) == []


class Keyed:
    """Stands for a user whose primary key does not fit into the row's own column."""

    def __init__(self, user: User) -> None:
        self._meta, self.pk, self._state = user._meta, f"{user.pk}", user._state


def test_a_revocation_of_an_older_row_ends_no_run_of_a_new_one() -> None:
    worker = TOKEN.partition(".")[0]
    revoked = plain()
    claim()
    assert outcomes.revoke(revoked.pk, terminate=True)
    empty_the_table()
    assert plain().pk == revoked.pk
    claim()
    assert outcomes.revoked(worker) == []
    assert not Revocation.objects.exists()


# --- the next migrate


NOW = timezone.now()


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (UniqueKey, {"key": "k", "nonce": 1, "taken_at": NOW}),
        (CallOptions, {"options": "{}"}),
        (Child, {"parent_id": 1}),
        (Action, {"kind": "retried", "at": NOW}),
        (Creator, {"model": "a.b", "object_id": "c"}),
        (Progress, {"attempt": 1, "done": 1, "updated_at": NOW}),
        (Attempt, {"number": 1, "state": "failed", "claim": "", "ended_at": NOW, "error": ""}),
        (Revocation, {"worker": "w", "requested_at": NOW}),
        (Outcome, {"completed_id": 1, "state": "failed", "attempts": 1, "finished_at": NOW}),
    ],
)
def test_the_ids_of_new_rows_are_above_all_that_our_tables_name(
    model: Any, values: dict[str, Any]
) -> None:
    model.objects.create(task_id=7000, **values)
    sequences.lift(connection)
    assert plain().pk == 7001
    sequences.lift(connection)
    assert plain().pk == 7002


def test_the_ids_of_new_rows_are_above_those_of_restored_rows() -> None:
    Task.objects.bulk_create([Task(pk=9000, task_name=plain.name, run_at=timezone.now())])
    sequences.lift(connection)
    assert plain().pk == 9001
