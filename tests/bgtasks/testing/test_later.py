"""Tasks that are due later, in a test."""

from __future__ import annotations

from datetime import timedelta

import pytest
from background_task.models import CompletedTask
from django.utils import timezone

from bgtasks.testing import (
    enqueued,
    run_pending,
)
from tests.bgtasks.testing.helpers import fail, later, note, ran


def test_what_is_for_later_stays(either: None) -> None:
    note("later", schedule=60)
    note("now")
    run_pending()
    assert ran == ["now"]
    assert [call.args for call in enqueued(note)] == [("later",)]


def test_or_is_run_in_the_order_in_which_it_is_due(either: None) -> None:
    note("third", schedule=120, priority=9)
    note("second", schedule=60)
    note("first")
    run_pending(include_later=True)
    assert ran == ["first", "second", "third"]


def test_it_may_be_as_if_it_were_another_time(either: None) -> None:
    note("second", schedule=60)
    note("first", schedule=120, priority=9)
    note("third", schedule=3600)
    with pytest.raises(ValueError, match="no"):
        fail(schedule=90)
        run_pending(at=(moment := later(minutes=5)))
    assert (ran, timezone.now() < moment) == (["first", "second", "no"], True)
    assert CompletedTask.objects.filter(run_at=moment).count() == 2
    assert enqueued(fail)[0].run_at >= moment + timedelta(seconds=60)


def test_of_what_repeats_one_run(either: None) -> None:
    first = later(minutes=10)
    note("hourly", repeat=3600, schedule=first)
    run_pending(include_later=True)
    assert (ran, enqueued()[0].run_at) == (["hourly"], first + timedelta(hours=1))
    run_pending(at=first + timedelta(hours=2.5))
    assert (ran, enqueued()[0].run_at) == (["hourly"] * 2, first + timedelta(hours=3))


def test_a_clock_that_stands_still_is_the_tests_clock(
    either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    note("tomorrow", schedule=timedelta(days=1))
    tomorrow = later(days=1, seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    run_pending()
    assert ran == ["tomorrow"]
    assert CompletedTask.objects.get().run_at == tomorrow
