"""One odd row in a table of ours costs nobody else anything."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from background_task.models import Task
from django.db import connection
from django.utils import timezone

from bgtasks import background
from bgtasks.models import CronSlot, Worker
from bgtasks.queue import claims, rescue, workers
from bgtasks.queue import cron_slots as slots
from bgtasks.queue import database as db
from bgtasks.supervisor import lease as lease_module
from bgtasks.supervisor import lock_file
from bgtasks.supervisor.lease import Lease
from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy
from bgtasks.worker.options import Options
from tests.bgtasks.queue.helpers import TOKEN, claim, register, rows

pytestmark = pytest.mark.django_db(transaction=True)

LIVING, DEAD, ODD = "bg~00000000000a", "bg~00000000000d", "bg~0000000000dd"
ON_SQLITE = connection.vendor == "sqlite"
# What somebody can write into a column of dates, or of numbers, by hand.
ODD_DATES = (
    ["garbage", "", "2024-99-99 00:00:00", b"\xff", 10**18, "9999-12-31 00:00:00"]
    if ON_SQLITE
    else ["infinity", "-infinity", "290000-01-01", "4000-01-01 BC"]
)
ODD_NUMBERS = ["Infinity", "-Infinity", -1, 0, 1e300, *([b"x", "word"] if ON_SQLITE else ["NaN"])]


@background(name="tests.odd.hourly")
def hourly() -> None: ...


def write(table: Any, column: str, value: Any, pk: Any) -> None:
    if ON_SQLITE and value in {"Infinity", "-Infinity"}:
        value = float(value)
    sql = f"UPDATE {table._meta.db_table} SET {column} = %s WHERE {table._meta.pk.column} = %s"
    db.execute(sql, [value, pk])


# --- wildcards in a claim


@pytest.mark.parametrize("odd", ["bg~*", "bg~%", "bg~_00000000000", "bg~?00000000000", "bg~[0-9]*"])
def test_p4_a_claim_with_a_wildcard_takes_no_living_workers_rows(odd: str) -> None:
    register(LIVING)
    rows(2)
    claim(1, f"{LIVING}.1-1")
    claim(1, f"{odd}.1-1")
    Task.objects.update(locked_at=timezone.now() - timedelta(minutes=1))
    assert rescue.rescue_orphans(15) == 1
    assert Task.objects.exclude(locked_by=None).get().locked_by == f"{LIVING}.1-1"


@pytest.mark.parametrize("odd", ["bg~*", "bg~%", "%", "*", "bg~\\", "bg~[", ""])
def test_p4_a_worker_whose_name_is_a_wildcard_has_no_others_rows(odd: str) -> None:
    rows(1)
    claim(1, f"{LIVING}.1-1")
    register(odd)
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    (peer,) = workers.peers("another", 15)
    assert list(rescue.rescue_worker(peer) or ()) == []
    assert rescue.release_strays(odd, ()) == 0
    workers.renew_locks(f"{odd}.")
    assert Task.objects.get().locked_by == f"{LIVING}.1-1"


def test_p2_a_lock_that_only_looks_like_ours_expires_like_one_of_upstream() -> None:
    for odd in ("bg~", "bg~0000", *([b"bg~00.1-1", 7] if ON_SQLITE else [])):
        (row,) = rows(1)
        write(Task, "locked_by", odd, row.pk)
        write(Task, "locked_at", timezone.now() - timedelta(days=1), row.pk)
        assert rescue.rescue_orphans(15) == 0
        assert claims.release_expired() == 1, odd
        Task.objects.all().delete()


@pytest.mark.parametrize("odd", [None, *ODD_DATES])
def test_p2_rows_of_a_missing_worker_are_taken_back_whatever_the_date_of_their_lock(
    odd: Any,
) -> None:
    rows(2)
    first, second = claim(2)
    write(Task, "locked_at", odd, first.pk)
    write(Task, "locked_at", timezone.now() - timedelta(minutes=1), second.pk)
    assert rescue.rescue_orphans(15) == 2


# --- the workers' table


def keep(lease: Lease, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so many seconds pass, with a heartbeat every five."""
    now = lease_module.elapsed()
    for later in range(0, int(seconds) + 1, 5):
        monkeypatch.setattr(lease_module, "elapsed", lambda at=now + later: at)
        lease.keep()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("heartbeat_at", value) for value in ODD_DATES),
        *(("lease", value) for value in ODD_NUMBERS),
    ],
)
def test_p2_an_odd_row_of_a_worker_hides_no_dead_host(
    column: str, value: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows(2)
    for name in (ODD, DEAD):
        register(name)
        claim(1, f"{name}.1-1")
    write(Worker, column, value, ODD)
    lease = Lease(Options())
    lease.acquire()
    with caplog.at_level(logging.WARNING):
        keep(lease, monkeypatch, 10)
        Worker.objects.filter(name=DEAD).update(heartbeat_at=timezone.now() - timedelta(hours=1))
        if column == "lease":
            Worker.objects.filter(name=ODD).update(heartbeat_at="2000-01-01 00:00:00+00:00")
        keep(lease, monkeypatch, 40)
    lease.release()
    assert not Worker.objects.exists()
    assert not Task.objects.exclude(locked_by=None).exists()
    assert "does not answer" not in caplog.text
    assert "A chore failed" not in caplog.text
    if column == "heartbeat_at" and value != "4000-01-01 BC":  # which is only very long ago
        assert caplog.text.count(f"{ODD} (process 1 on h): its heartbeat") == 1


def test_p5_a_living_worker_whose_row_was_odd_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    register(LIVING)
    lease = Lease(Options())
    lease.acquire()
    for column, value in (("heartbeat_at", ODD_DATES[0]), ("lease", 0)):
        write(Worker, column, value, LIVING)
        keep(lease, monkeypatch, 5)
        workers.beat(LIVING)
        keep(lease, monkeypatch, 10)
        assert Worker.objects.filter(name=LIVING).exists()
    lease.release()


@pytest.mark.parametrize(
    "name", ["../victim", "/tmp/victim", "bg~../../victim", "bg~00\x00", "", b"bg~00", "bg~0/0"]
)
def test_p10_a_workers_name_is_no_path(
    name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "bg~" / "temporary"
    inner.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(inner))
    victims = [tmp_path / "victim.lock", tmp_path / "bg~" / "victim.lock", inner / ".lock"]
    for victim in victims:
        victim.touch()
    assert not lock_file.gone(name)
    lock_file.forget(name)
    assert all(victim.exists() for victim in victims)


# --- the slots of cron lines


@pytest.mark.parametrize("odd", ODD_DATES)
def test_an_odd_slot_is_set_to_now_and_costs_no_other_line_its_slot(
    odd: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [hourly.name, "signup.tasks.sweep_files"]
    monkeypatch.setattr(policies, "_policies", {n: Policy(cron="* * * * *") for n in names})
    for name in names:
        slots.first_seen(name, timezone.now() - timedelta(minutes=5))
    write(CronSlot, "slot", odd, hourly.name)
    Task.objects.all().delete()
    lease = Lease(Options())
    lease.acquire()
    with caplog.at_level(logging.WARNING):
        lease.keep()
    lease.release()
    assert Task.objects.get().task_name == names[1]
    assert abs(CronSlot.objects.get(pk=hourly.name).slot - timezone.now()) < timedelta(minutes=2)
    assert f"{hourly.name} " in caplog.text
    assert "counts from now on" in caplog.text
    assert "does not answer" not in caplog.text


def test_the_rows_of_the_living_stay_theirs() -> None:
    register(TOKEN.partition(".")[0])
    rows(1)
    claim()
    assert rescue.rescue_orphans(15) == 0


# --- the task table


@pytest.mark.on_sqlite  # PostgreSQL's columns have types
@pytest.mark.parametrize("column", ["attempts", "repeat", "last_error", "priority"])
@pytest.mark.parametrize("odd", ["word", b"\xff", 1.5])
def test_a_value_of_another_type_ends_neither_a_claim_nor_a_rescue(column: str, odd: Any) -> None:
    first, _second = rows(2)
    write(Task, column, odd, first.pk)
    found = claim(2)
    assert [type(row.attempts) for row in found] == [int, int]
    assert not any(rescue.suspect(row) for row in found)
    write(Task, column, odd, first.pk)
    assert rescue.rescue(TOKEN, "its child died") == 2
    Task.objects.update(run_at=timezone.now())
    found = claim(2)
    write(Task, column, odd, first.pk)
    assert claims.release(found) == 2
