"""What processes of one host can tell of each other: marks in shared memory, a lock on a file."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from bgtasks.models import Revocation, Worker
from bgtasks.queue import workers
from bgtasks.queue.listen import readable
from bgtasks.supervisor import lease, lock_file
from bgtasks.supervisor import revocations as revocations_module
from bgtasks.supervisor.lease import Lease
from bgtasks.supervisor.revocations import Revocations
from bgtasks.supervisor.supervisor import Supervisor
from bgtasks.worker import shared_state
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks
from tests.harness.process import ROOT

NAME = "bg~000000000000"
HOLD = f"""
import sys
from bgtasks.supervisor.lock_file import Presence
present = Presence()
present.hold({NAME!r})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process, and those that it starts, keep temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


# Other tests may have left threads; from Python 3.12 on a fork beside them warns.
forks = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


@forks
def test_marks_outlive_the_process_that_made_them() -> None:
    shared = Marks(slots=4)
    pid = os.fork()
    if pid == 0:
        first = shared.begin(7, None)
        shared.begin(8, None)
        shared.end([first])
        shared.begin(9, 60)
        os._exit(0)
    os.waitpid(pid, 0)
    assert shared.begun() == {8, 9}
    assert shared.overdue() == {}


def test_what_runs_longer_than_it_may_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Marks(slots=4)
    shared.begin(7, None)
    shared.begin(8, 30)
    shared.begin(9, 90)
    later = shared_state.elapsed() + 60
    monkeypatch.setattr(shared_state, "elapsed", lambda: later)
    assert shared.overdue() == {8: 30}


@forks
def test_a_parents_flags_are_seen_by_its_child() -> None:
    shared = Marks(slots=1)
    assert (shared.slow, shared.retiring) == (False, False)
    shared.slow = shared.retiring = True
    pid = os.fork()
    if pid == 0:
        os._exit(10 * shared.slow + shared.retiring)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11


def test_a_killed_process_is_gone_and_a_living_one_is_not(folder: Path) -> None:
    assert not lock_file.gone(NAME), "nothing is known of it"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    assert not lock_file.gone(NAME)
    process.kill()
    process.communicate()
    assert lock_file.gone(NAME)
    lock_file.forget(NAME)
    assert not lock_file.gone(NAME)


def test_who_leaves_in_good_order_leaves_no_file(folder: Path) -> None:
    present = lock_file.Presence()
    present.hold(NAME)
    assert [path.name for path in folder.iterdir()] == [f"{NAME}.lock"]
    present.let_go()
    assert list(folder.iterdir()) == []


def test_where_no_file_can_be_made_there_is_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    present = lock_file.Presence()
    present.hold(NAME)
    assert not lock_file.gone(NAME)
    present.let_go()


@pytest.mark.django_db
def test_p6_a_clock_that_differs_from_the_databases_is_warned_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert abs(workers.skew()) < timedelta(seconds=1)
    mine = Lease(Options())
    mine.acquire()
    assert "clock" not in caplog.text
    monkeypatch.setattr(lease.workers, "skew", lambda: timedelta(seconds=-3))
    mine.acquire()
    assert "clock is 3.0 s behind the database's" in caplog.text
    mine.release()
    assert Worker.objects.count() == 1, "the first name was not signed off"


@pytest.mark.django_db(transaction=True)
def test_a_chore_that_fails_stops_no_heartbeat(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Lease(Options())
    mine.acquire()
    monkeypatch.setattr(lease.claims, "release_expired", lambda: 1 / 0)
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    monkeypatch.setattr(mine, "_beat_at", 0.0)
    assert mine.keep() == 1.0
    assert "the heartbeats go on" in caplog.text
    assert Worker.objects.get().heartbeat_at > timezone.now() - timedelta(seconds=30)
    assert mine.keep() > 1.0, "the failed chore is not tried again at once"
    mine.release()


def test_a_revocation_does_not_hit_who_has_the_slot_next(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Marks(slots=1)
    slot = shared.begin(11, None)
    seen = list(shared._slots())  # by the parent, which is slow
    shared.end([slot])
    shared.begin(22, None)
    with monkeypatch.context() as patch:
        patch.setattr(shared, "_slots", lambda: iter(seen))
        shared.revoke({11})
    assert (shared.overdue(), shared.revoked()) == ({}, [])


@pytest.mark.django_db
def test_what_is_revoked_just_before_it_begins_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = Marks(slots=4)
    shared.begin(1, None)
    Revocation.objects.create(task_id=2, worker=NAME, requested_at=timezone.now())
    revocations = Revocations()
    assert revocations.heed(NAME, [shared]) == []
    shared.begin(2, None)
    later = shared_state.elapsed() + 1.5
    for module in (shared_state, revocations_module):
        monkeypatch.setattr(module, "elapsed", lambda: later)
    assert revocations.heed(NAME, [shared]) == [shared]
    assert shared.revoked() == [2]
    assert revocations.heed(NAME, [shared]) == [], "once"


def test_more_files_may_be_open_than_select_knows() -> None:
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD, 1100)
    try:
        assert not readable(high, 0)
        os.write(writer, b".")
        assert readable(high, 10)
    finally:
        for descriptor in (reader, writer, high):
            os.close(descriptor)


@pytest.mark.parametrize("row_id", [0, -1, 1, -(2**63), 2**63 - 1])
def test_p4_a_row_of_any_id_is_marked_as_begun(
    row_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Marks(slots=2)
    assert (shared.begun(), shared.revoke({0, row_id})) == (set(), set())
    slot = shared.begin(row_id, 30)
    assert shared.begun() == {row_id}
    assert shared.overdue() == {}
    assert shared.revoke({row_id}) == {row_id}
    assert shared.revoked() == [row_id]
    later = shared_state.elapsed() + 60
    monkeypatch.setattr(shared_state, "elapsed", lambda: later)
    assert shared.overdue() == {row_id: 0.0}
    shared.end([slot])
    assert (shared.begun(), shared.overdue(), shared.revoked()) == (set(), {}, [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", ["beat", "keep"])
def test_a_worker_that_is_declared_dead_while_it_starts_starts_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    """As one whose machine was suspended between its registration and its first child."""
    supervisor = Supervisor(Options())
    place: Any = workers if moment == "beat" else supervisor._lease
    real, buried = getattr(place, moment), []

    def after_a_burial(*args: Any) -> Any:
        if not buried:
            buried.extend(Worker.objects.values_list("name", flat=True))
            Worker.objects.all().delete()
            supervisor._lease.tell()  # the next heartbeat is due
        return real(*args)

    monkeypatch.setattr(place, moment, after_a_burial)
    waits: list[float] = []
    assert supervisor._acquire(waits.append, None)
    assert waits == [1.0], "it would take all of a processor if this went on"
    assert caplog.text.count("It registers anew") == 1
    (alive,) = Worker.objects.values_list("name", flat=True)
    assert len(buried) == 1
    assert alive not in buried
