"""Rows that somebody listens to share a transaction, and no receiver harms another row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from background_task.models import CompletedTask, Task
from background_task.signals import task_successful
from django.contrib.auth import get_user_model
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models.signals import post_delete, post_save, pre_delete

from bgtasks.models import Outcome
from bgtasks.queue import claims
from bgtasks.queue.counters import Counts
from bgtasks.queue.ending import Ending
from bgtasks.queue.pacing import Pace
from bgtasks.worker import recorder
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.shared_state import Marks
from signup.tasks import discard_files as task

pytestmark = pytest.mark.django_db(transaction=True)
User = get_user_model()


@pytest.fixture(autouse=True)
def _empty_and_unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of any number of rows, however slow the machine."""
    Task.objects.all().delete()
    monkeypatch.setattr(recorder, "RECEIVERS_TIME", 60)
    monkeypatch.setattr(Pace, "most", 1000)


@pytest.fixture
def listen() -> Iterator[Callable[..., list[str]]]:
    """Connects a receiver of successes that is called with a row's id; returns what it heard."""
    connected = []

    def connect(receiver: Callable[[int], None]) -> list[int]:
        heard: list[int] = []

        def listener(task_id: int, **_: Any) -> None:
            heard.append(task_id)
            receiver(task_id)

        task_successful.connect(listener, weak=False)
        connected.append(listener)
        return heard

    yield connect
    for listener in connected:
        task_successful.disconnect(listener)


def ended(count: int) -> list[Ending]:
    for number in range(count):
        task([str(number)])
    return [Ending(row) for row in claims.claim("bg~000000000000.1-1", [task.name], count)]


def record(waiting: list[Ending]) -> None:
    Recorder(Marks(1), Pace(), Counts("bg~test")).record(waiting)
    assert waiting == []


def test_each_row_is_told_of_with_its_completed_row() -> None:
    told = []

    def receiver(task_id: int, completed_task: CompletedTask, **_: Any) -> None:
        told.append((task_id, completed_task.task_params, Task.objects.filter(pk=task_id).exists()))

    waiting = ended(8)
    expected = [(each.row.pk, each.row.task_params, True) for each in waiting]
    task_successful.connect(receiver)
    try:
        record(waiting)
    finally:
        task_successful.disconnect(receiver)
    assert told == expected
    assert not Task.objects.exists()


def test_djangos_signals_are_sent_for_each_row() -> None:
    heard: dict[str, list[int]] = {"saved": [], "deleting": [], "deleted": []}
    connections = []
    for name, signal, model in (
        ("saved", post_save, CompletedTask),
        ("deleting", pre_delete, Task),
        ("deleted", post_delete, Task),
    ):

        def receiver(instance: Any, name: str = name, **_: Any) -> None:
            heard[name].append(instance.pk)

        signal.connect(receiver, sender=model, weak=False)
        connections.append((signal, receiver, model))
    waiting = ended(5)
    ids = [each.row.pk for each in waiting]
    try:
        record(waiting)
    finally:
        for signal, receiver, model in connections:
            signal.disconnect(receiver, sender=model)
    assert heard["deleting"] == heard["deleted"] == ids
    assert heard["saved"] == list(CompletedTask.objects.order_by("pk").values_list("pk", flat=True))


@pytest.mark.parametrize("harm", ["raise", "statement", "exit"])
def test_a_receiver_that_raises_keeps_what_others_wrote(listen: Any, harm: str) -> None:
    waiting = ended(6)
    bad = waiting[3].row.pk

    def receiver(task_id: int) -> None:
        User.objects.create_user(f"user{task_id}", f"{task_id}@example.com")
        if task_id == bad:
            if harm == "statement":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT * FROM nowhere")
            raise SystemExit if harm == "exit" else ValueError("as it should")

    heard = listen(receiver)
    record(waiting)
    assert len(heard) == 6
    assert Outcome.objects.filter(state="succeeded").count() == 6
    assert User.objects.count() == 5
    assert not User.objects.filter(username=f"user{bad}").exists()


def test_what_a_receiver_that_raises_left_for_the_commit_is_not_run(listen: Any) -> None:
    ran = []
    waiting = ended(3)
    bad = waiting[1].row.pk

    def receiver(task_id: int) -> None:
        transaction.on_commit(lambda: ran.append(task_id))
        if task_id == bad:
            raise ValueError("as it should")

    heard = listen(receiver)
    record(waiting)
    assert sorted(ran) == sorted(set(heard) - {bad})


def test_a_receiver_that_breaks_the_transaction_costs_nobody_an_outcome(listen: Any) -> None:
    waiting = ended(5)
    bad = waiting[2].row.pk

    def receiver(task_id: int) -> None:
        if task_id == bad:
            connection.connection.rollback()  # behind Django's back

    listen(receiver)
    record(waiting)
    assert Outcome.objects.count() == CompletedTask.objects.count() == 5
    assert list(Outcome.objects.exclude(state="succeeded").values_list("task_id")) == [(bad,)]
    assert (
        "leave the connection's own"
        in CompletedTask.objects.get(failed_at__isnull=False).last_error
    )
    assert not Task.objects.exists()


def test_a_receiver_may_delete_the_row(listen: Any) -> None:
    waiting = ended(3)
    listen(lambda task_id: Task.objects.filter(pk=task_id).delete())
    record(waiting)
    assert Outcome.objects.filter(state="succeeded").count() == 3


def test_while_the_database_is_away_the_others_go_first_the_next_time(
    monkeypatch: pytest.MonkeyPatch, listen: Any
) -> None:
    waiting = ended(3)
    first = waiting[0].row.pk
    listen(lambda _: None)
    record_with_receivers = recorder.finish.record_with_receivers

    def away(group: list[Ending]) -> Any:
        if group[0].row.pk == first:
            raise OperationalError("gone")
        return record_with_receivers(group)

    monkeypatch.setattr(recorder.finish, "record_with_receivers", away)
    with pytest.raises(DatabaseError):
        Recorder(Marks(1), Pace(), Counts("bg~test")).record(waiting)
    assert [each.row.pk == first for each in waiting] == [False, False, True]


def test_receivers_that_make_no_statement_cost_none(
    listen: Any, django_assert_max_num_queries: Any
) -> None:
    waiting = ended(64)
    listen(lambda _: None)
    # One row, then two, four and so on, six statements each.
    with django_assert_max_num_queries(50):
        record(waiting)
