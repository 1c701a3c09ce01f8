"""A process of a fleet: what it does with a row when something comes in between."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from background_task.models import Task
from django.db import InterfaceError, OperationalError, connections

from bgtasks.engines.fleet import NO_SLOT, Process, Taking
from bgtasks.engines.seat import SPARE, Seat
from bgtasks.models import Outcome
from bgtasks.queue import claims, deliveries
from bgtasks.queue.claims import Claimant
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import register
from tests.harness.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

RELAY = Claimant("bg~000000000000", deliveries.RELAY)
WORKER = "bg~111111111111"


@pytest.fixture
def process() -> Iterator[Process]:
    """One that can run one row at a time."""
    register(WORKER)
    seat = Seat(1, 1)
    member: Any = SimpleNamespace(name=WORKER, seats=SimpleNamespace(mine=seat), abandon=print)
    made = Process(member)
    yield made

    def end() -> None:  # the thread lives on
        made.clerk._strays_at.clear()
        connections.close_all()

    made.clerk.call(end)


@pytest.fixture
def row() -> Task:
    """A row that a relay has claimed."""
    task(["x"])
    [made] = claims.claim(RELAY.claim(1), [task.name], 1)
    return made


def holder(row: Task) -> str | None:
    """Who holds the row."""
    row.refresh_from_db()
    assert row.attempts == (1 if row.locked_by and row.locked_by.startswith(WORKER) else 0)
    return row.locked_by


def test_a_row_is_run_once(process: Process, row: Task) -> None:
    token = str(row.locked_by)
    assert process.run(row.pk, token)
    assert not process.run(row.pk, token)
    assert Outcome.objects.get().state == "succeeded"
    assert process.marks.begun() == set()


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_row_that_was_taken_though_the_answer_was_lost_goes_back(
    error: type[Exception],
    process: Process,
    row: Task,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    take_over = deliveries.take_over

    def cut(*arguments: Any) -> None:
        take_over(*arguments)
        raise error("the connection was lost")

    monkeypatch.setattr(deliveries, "take_over", cut)
    assert not process.run(row.pk, str(row.locked_by))
    assert f"Row {row.pk} was not taken over: the connection was lost" in caplog.text
    eventually(lambda: holder(row) is None, "the row is handed back")


def test_a_row_that_is_taken_after_its_thread_has_given_up_goes_back(
    process: Process, row: Task
) -> None:
    taking = Taking()
    process._give_up(taking)
    process._take_over(taking, row.pk, str(row.locked_by))
    assert holder(row) is None
    assert process.marks.begun() == set()


def test_a_row_whose_thread_gives_up_after_it_was_taken_goes_back(
    process: Process, row: Task
) -> None:
    taking = Taking()
    process._take_over(taking, row.pk, str(row.locked_by))
    assert str(holder(row)).startswith(WORKER)
    process.clerk.call(int)  # its thread runs, and looks for strays when it is told so
    process._give_up(taking)
    eventually(lambda: holder(row) is None, "the row is handed back")


def test_what_has_begun_is_no_stray_at_any_moment(
    process: Process, row: Task, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.MAX_RUN_TIME = 60  # which is written to the mark of a run that has begun
    end = process.marks.end

    def end_and_look(slots: Sequence[int]) -> None:
        end(slots)
        process._release_strays()

    monkeypatch.setattr(process.marks, "end", end_and_look)
    assert process.run(row.pk, str(row.locked_by))
    assert Outcome.objects.get().state == "succeeded"


def test_a_process_without_a_free_place_takes_nothing(
    process: Process, row: Task, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1 + SPARE):
        process.marks.begin(number, None)
    with caplog.at_level(logging.ERROR):
        assert not process.run(row.pk, str(row.locked_by))
    assert NO_SLOT in caplog.text
    assert str(holder(row)).startswith(RELAY.worker)
