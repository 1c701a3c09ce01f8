"""Rows that may have killed their worker run alone."""

from __future__ import annotations

import pytest
from background_task.models import Task
from django.db import (
    OperationalError,
)
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.queue import claims
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.claims import Claimant
from bgtasks.worker import suspects
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.worker import Worker
from bgtasks.worker.workload import Workload
from signup.tasks import discard_files as task
from tests.bgtasks.worker.mishaps import broken, claimed, needs_rows


def lost(row: Task) -> ClaimedRow:
    row.attempts, row.last_error = 2, f"{claims.LOST}it died"
    return ClaimedRow(row, elapsed())


@needs_rows
def test_p2_a_suspect_does_not_wait_for_a_quiet_moment_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy, row = claimed(2)
    wakeup = WakeUp()
    work = Workload(Options(threads=2), wakeup, Marks(1))
    work.add([running := ClaimedRow(busy, elapsed())])
    assert work.take() is running
    now = elapsed()
    for seconds in (0, 10, 20):
        monkeypatch.setattr(suspects, "elapsed", lambda seconds=seconds: now + seconds)
        work.add([lost(row)])
        assert not work.wait(0)
        work.suspects.clear()  # it is handed back, for something runs long
    monkeypatch.setattr(suspects, "elapsed", lambda: now + suspects.TRIED_ALONE + 1)
    work.add([lost_row := lost(row)])
    assert work.take() is lost_row
    wakeup.close()


@needs_rows
def test_p2_a_drain_waits_for_suspects_that_were_handed_back_for_a_moment() -> None:
    (row,) = claimed()
    claims.release([row], claims.SUSPECTS_WAIT)
    assert not claims.ready([task.name])
    Task.objects.update(last_error=f"{claims.LOST}it died")
    assert claims.ready([task.name])
    Task.objects.update(run_at=timezone.now() + 3 * claims.SUSPECTS_WAIT)
    assert not claims.ready([task.name])


@needs_rows
def test_p4_rows_whose_release_was_not_answered_are_confirmed_before_they_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (row,) = claimed()
    worker = Worker(Claimant("bg~000000000000", 1), Marks(slots_for(Options())), Options())
    monkeypatch.setattr(claims, "release", broken(OperationalError("no answer")))
    with pytest.raises(OperationalError):
        worker._keeper._handing_back.release([ClaimedRow(row, elapsed())])
    Task.objects.update(locked_by=None)  # for it was carried out
    taken = worker._work.take()
    assert taken is not None
    assert taken.row == row
    assert not worker._runner._is_ours(taken)
    worker.close()
