"""Claimed rows on their way through a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from background_task.models import Task

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload
from tests.bgtasks.queue.helpers import rows

pytestmark = pytest.mark.django_db(transaction=True)


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
def _empty() -> None:
    Task.objects.all().delete()


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
