"""What runs by itself, and when next."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import background
from bgtasks.models import CronSlot
from bgtasks.operations import timetable
from bgtasks.operations.timetable import Schedule
from bgtasks.supervisor.cron import Cron
from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy
from bgtasks.testing import run_pending
from signup.tasks import discard_files as task
from tests.bgtasks.supervisor.cron_helpers import MINUTE, give_cron_line

pytestmark = pytest.mark.django_db(transaction=True)


@background(name="tests.timetable.nightly")
def _nightly() -> None: ...


@pytest.fixture
def nightly(monkeypatch: pytest.MonkeyPatch) -> Any:
    return give_cron_line(_nightly, "30 2 * * *", monkeypatch)


def of(name: str) -> Schedule:
    return next(each for each in timetable.read().cron if each.name == name)


def test_the_next_times_of_a_cron_line(nightly: Any) -> None:
    found = of(nightly.name)
    assert found.rule == "30 2 * * *"
    assert len(found.next) == 5
    assert all(one < other for one, other in zip(found.next, found.next[1:], strict=False))
    zone = timezone.get_default_timezone()
    assert all((at.tzinfo, at.minute) == (zone, 30) for at in found.next)
    assert found.last is None


def test_the_last_run_of_a_cron_task_and_its_outcome(nightly: Any) -> None:
    cron = Cron()
    cron.run()
    CronSlot.objects.filter(pk=nightly.name).update(slot=timezone.now() - timedelta(days=2))
    cron.reset()
    assert cron.run()
    row = Task.objects.get(task_name=nightly.name)
    last = of(nightly.name).last
    assert last is not None
    assert (last.id, last.state) == (row.pk, "waiting")
    run_pending()
    last = of(nightly.name).last
    assert last is not None
    assert (last.id, last.state) == (row.pk, "succeeded")
    assert last.at is not None
    assert timezone.now() - last.at < timedelta(minutes=1)


def test_a_line_whose_time_never_comes_is_named_at_once(
    nightly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("0 0 30 2 *", "* * * * * * *", "0 0 31 2,4,6,9,11 *"):
        monkeypatch.setitem(policies._policies, nightly.name, Policy(cron=line))
        began = time.process_time()
        found = of(nightly.name)
        assert time.process_time() - began < 5, "bounded, however slow the machine is"
        assert found.next == ()
        assert nightly.name in found.problem


def test_a_repeating_row_with_its_next_times_and_its_last_run() -> None:
    row = task(["a"], repeat=3600, repeat_until=timezone.now() + timedelta(hours=3.5))
    (found,) = timetable.read().repeating
    assert (found.id, found.rule) == (row.pk, "every hour")
    assert [at - found.next[0] for at in found.next] == [n * 60 * MINUTE for n in range(4)]
    assert found.next[0] == row.run_at
    run_pending()
    (found,) = timetable.read().repeating
    assert found.last is not None
    assert (found.last.id, found.last.state) == (row.pk, "succeeded")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "every second"),
        (90, "every 90 seconds"),
        (300, "every 5 minutes"),
        (604800, "every 7 days"),
    ],
)  # fmt: skip
def test_how_often_a_row_repeats(seconds: int, text: str) -> None:
    task(["a"], repeat=seconds)
    assert timetable.read().repeating[0].rule == text


def test_only_so_many_repeating_rows_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timetable, "MOST", 2)
    for number in range(3):
        task([str(number)], repeat=60)
    found = timetable.read()
    assert len(found.repeating) == 2
    assert found.more
