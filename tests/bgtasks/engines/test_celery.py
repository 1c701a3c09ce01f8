"""What can go wrong between the database and a Celery fleet, on each broker."""

from __future__ import annotations

import json
import os
import signal
from urllib.parse import urlsplit

import pytest

from tests.harness.fleets import APP, Fleet, MakeFleet, lives, pids
from tests.harness.forwarder import Forwarder
from tests.harness.process import Process
from tests.harness.waiting import eventually


def held(fleet: Fleet) -> list[str]:
    """The claims of the rows that are sent, and that nobody has taken over."""
    rows = fleet.project.rows(where="locked_by IS NOT NULL")
    return [row["locked_by"] for row in rows if ".relay-" in row["locked_by"]]


def purge(fleet: Fleet) -> bool:
    """Lose what was sent; returns whether there was anything."""
    command = fleet.celery("purge", "--force", "--queues", fleet.queues)
    command.wait()
    return "Purged" in command.output


def running(make_fleet: MakeFleet, key: str, seconds: int) -> tuple[Fleet, Process]:
    """A fleet that has begun a task which takes so long, and its worker."""
    fleet = make_fleet()
    fleet.relay()
    workers = fleet.workers()
    fleet.run(f"tasks.slow({key!r}, {seconds})")
    fleet.project.wait_for("begin", key)
    return fleet, workers


def troubles(fleet: Fleet) -> str:
    done = fleet.project.manage("task_health", "--json")
    return " ".join(json.loads(done.stdout)["problems"])


def test_a_message_that_was_lost_is_sent_again(make_celery: MakeFleet) -> None:
    fleet = make_celery()
    fleet.relay()
    fleet.run("tasks.work('lost')")
    eventually(lambda: purge(fleet), "the message is sent, and lost")
    fleet.workers()
    fleet.project.wait_for("work", "lost")


def test_a_message_that_comes_twice_or_late_changes_nothing(make_celery: MakeFleet) -> None:
    fleet = make_celery()
    relay = fleet.relay()
    fleet.run("tasks.work('once')")
    [token] = eventually(lambda: held(fleet), "the row is sent")
    [row] = fleet.project.rows()
    relay.stop()
    assert not held(fleet)  # it has handed the row back, with the attempt
    assert fleet.project.rows()[0]["attempts"] == 0
    fleet.relay()
    send = f"from bgtasks.engines.celery import run; run.delay({row['id']}, {token!r})\n"
    fleet.run(f"import {APP}\n{send * 3}")
    fleet.workers()
    fleet.project.wait_for("work", "once")
    fleet.run("print(tasks.add.delay(1, 2).get(timeout=60))")  # behind the void messages
    assert len(fleet.project.ledger("work", "once")) == 1
    [completed] = fleet.project.completed("task_name LIKE '%.work'")
    assert completed["attempts"] == 1


def test_while_the_broker_is_away_rows_wait_and_operators_are_told(make_celery: MakeFleet) -> None:
    broker = urlsplit(make_celery.broker)
    away = Forwarder(broker.port or 0)
    fleet = make_celery(broker=broker._replace(netloc=_at(broker.netloc, away.port)).geturl())
    relay = fleet.relay()
    away.cut()
    fleet.run("[tasks.work(key) for key in range(5)]")
    relay.wait_for("They wait in the database")
    assert "Tasks are not sent to Celery" in eventually(lambda: troubles(fleet), "the trouble")
    rows = fleet.project.rows()
    assert [row["attempts"] for row in rows] == [0] * 5
    away.join()
    fleet.workers()
    fleet.project.wait_for("work", count=5)
    eventually(lambda: not troubles(fleet), "the end of the trouble")
    assert [row["attempts"] for row in fleet.project.completed()] == [1] * 5


def test_a_broker_that_is_silent_holds_nothing_up(make_celery: MakeFleet) -> None:
    broker = urlsplit(make_celery.broker)
    silent = Forwarder(broker.port or 0)
    fleet = make_celery(broker=broker._replace(netloc=_at(broker.netloc, silent.port)).geturl())
    relay = fleet.relay()
    fleet.run("tasks.work('before')")
    eventually(lambda: held(fleet), "the row is sent")
    silent.freeze()
    fleet.run("[tasks.work(key) for key in range(5)]")
    relay.wait_for("is connected and takes nothing")
    assert "is connected and takes nothing" in eventually(lambda: troubles(fleet), "the trouble")
    fleet.run("print(tasks.add.delay(1, 2).id)")
    assert relay.stop() == 0
    assert [row["attempts"] for row in fleet.project.rows()] == [0] * 7
    assert not held(fleet)
    fleet.relay()
    silent.thaw()
    fleet.workers()
    fleet.project.wait_for("work", count=6)
    eventually(lambda: not troubles(fleet), "the end of the trouble")
    assert len(fleet.project.ledger("work")) == 6


def _at(netloc: str, port: int) -> str:
    user = netloc.rpartition("@")[0]
    return f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}"


def test_if_no_worker_of_the_fleet_runs_operators_are_told(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.run("tasks.work('alone')")
    told = eventually(lambda: troubles(fleet), "the trouble")
    assert "none of its processes starts them. Start `celery" in told
    workers = fleet.workers()
    fleet.project.wait_for("work", "alone")
    eventually(lambda: not troubles(fleet), "the end of the trouble")
    workers.stop()


def test_without_a_relay_operators_are_told(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.workers()
    fleet.run("tasks.work('alone')")
    told = eventually(lambda: troubles(fleet), "the trouble")
    assert "no worker runs. Start `python manage.py process_tasks`" in told


@pytest.mark.parametrize("acks_late", ["", "1"], ids=["early", "late"])
def test_when_a_worker_is_killed_its_rows_run_again(make_celery: MakeFleet, acks_late: str) -> None:
    fleet = make_celery(BGTASKS_LEASE=3)
    fleet.relay()
    workers = fleet.workers(FLEET_ACKS_LATE=acks_late)
    fleet.run("tasks.slow('killed', 3600)")
    fleet.project.wait_for("begin", "killed")
    workers.stop(signal.SIGKILL)
    fleet.workers(FLEET_ACKS_LATE=acks_late)
    fleet.project.wait_for("begin", "killed", count=2)
    [lost] = fleet.project.attempts()
    assert lost["state"] == "lost"


def test_when_the_relay_is_killed_another_sends_its_rows_and_no_attempt_is_lost(
    make_celery: MakeFleet,
) -> None:
    fleet = make_celery(BGTASKS_LEASE=3)
    relay = fleet.relay()
    fleet.run("tasks.work('killed')")
    eventually(lambda: held(fleet), "the row is sent")
    relay.stop(signal.SIGKILL)
    purge(fleet)  # if it had sent it
    fleet.relay()
    fleet.workers()
    fleet.project.wait_for("work", "killed")
    assert not fleet.project.attempts()
    [completed] = eventually(fleet.project.completed, "the outcome")
    assert completed["attempts"] == 1


def test_a_worker_that_is_asked_to_end_finishes_its_tasks(make_fleet: MakeFleet) -> None:
    fleet, workers = running(make_fleet, "warm", 1)
    os.kill(workers.pid, signal.SIGTERM)
    assert workers.wait() == 0
    assert fleet.project.ledger("end", "warm")
    assert not fleet.project.attempts()
    assert not [each for each in fleet.project.rows("bgtasks_worker") if each["processes"] > 1]


def test_a_signal_to_all_processes_lets_them_finish_their_tasks(make_fleet: MakeFleet) -> None:
    fleet, workers = running(make_fleet, "warm", 1)
    assert workers.stop(signal.SIGTERM) == 0  # to the whole group, as honcho and systemd do
    assert fleet.project.ledger("end", "warm")
    assert not fleet.project.attempts()
    assert len(fleet.project.completed()) == 1


def test_a_run_that_a_cold_shutdown_ends_is_no_failure(make_fleet: MakeFleet) -> None:
    fleet, workers = running(make_fleet, "cold", 3600)
    os.kill(workers.pid, signal.SIGQUIT)
    workers.wait()
    [attempt] = eventually(fleet.project.attempts, "the attempt")
    assert attempt["state"] == "stopped"
    assert len(fleet.project.rows()) == 1


def test_a_drain_waits_until_the_fleet_has_run_all(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.workers()
    fleet.run("tasks.slow('drained', 1); tasks.enqueue_some(3)")
    drain = fleet.project.worker("--drain", **fleet.environment)
    assert drain.wait() == 0
    assert fleet.project.ledger("end", "drained")
    assert len(fleet.project.completed()) == 5


def test_two_relays_do_not_hide_that_nobody_starts_their_rows(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.project.worker("--queue", "urgent", **fleet.environment).wait_for("is ready")
    fleet.run("tasks.work('usual'); tasks.work('urgent', queue='urgent')")
    eventually(lambda: "none of its processes starts them" in troubles(fleet), "the trouble")


def test_a_queue_leads_to_the_celery_queue_that_the_setting_names(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.workers(1, "--queues", f"{fleet.queue}-urgent")
    fleet.run("tasks.work('usual'); tasks.work('urgent', queue='urgent')")
    fleet.project.wait_for("work", "urgent")
    assert not fleet.project.ledger("work", "usual")
    fleet.workers(1, "--queues", fleet.queue)
    fleet.project.wait_for("work", "usual")


def test_the_most_urgent_are_sent_first(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.run("for urgency in (1, 3, 2): tasks.work(urgency, priority=urgency)")
    fleet.relay()
    fleet.workers(1)
    fleet.project.wait_for("work", count=3)
    assert [key for _, key, _ in fleet.project.ledger("work")] == ["3", "2", "1"]


def test_a_task_that_was_sent_and_not_taken_is_waiting_and_can_be_cancelled(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet()
    fleet.relay()
    task_id = fleet.run("print(tasks.work.delay('cancelled').id)").strip()
    eventually(lambda: held(fleet), "the row is sent")
    asked = f"from bgtasks import AsyncResult; it = AsyncResult({task_id})\n"
    assert fleet.run(f"{asked}print(it.status, it.revoke(), it.cancelled())") == (
        "PENDING True True\n"
    )
    fleet.workers()
    fleet.run("tasks.add.delay(1, 2).get(timeout=60)")  # behind the void message
    assert not fleet.project.ledger("work")


def test_a_task_that_was_sent_and_not_taken_counts_as_one_that_waits(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.run("tasks.work('waits'); tasks.work('scheduled', schedule=3600)")
    eventually(lambda: held(fleet), "the row is sent")
    said = fleet.run(
        "from bgtasks.operations import queues, snapshots\n"
        "from bgtasks.models import Task\n"
        "[state] = queues.states()\n"
        "print(state.waiting, state.scheduled, state.running, state.oldest > 0)\n"
        "ids = list(Task.objects.order_by('run_at').values_list('pk', flat=True))\n"
        "print([snapshots.of(ids)[pk].state.value for pk in ids])\n"
        "print([row.attempts for row in Task.objects.all()])"
    )
    assert said == "1 1 0 True\n['waiting', 'scheduled']\n[0, 0]\n"


SENT_ACTIONS = {
    "move": "acting.move([pk], 'urgent')",
    "priority": "acting.set_priority([pk], 7)",
    "run now": "acting.run_now([pk])",
    "reschedule": "tasks.work(KEY, schedule={'action': 1}, priority=7)",
    "replace": "tasks.work(KEY, remove_existing_tasks=True)",
}


@pytest.mark.parametrize("action", SENT_ACTIONS.values(), ids=SENT_ACTIONS)
def test_what_is_done_to_a_task_that_waits_is_done_to_one_that_was_sent(
    make_fleet: MakeFleet, action: str
) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.run("tasks.work('sent')")
    [before] = eventually(lambda: held(fleet), "the row is sent")
    fleet.run(
        "from bgtasks.queue import acting\n"
        "from bgtasks.models import Task\n"
        f"pk = Task.objects.get().pk\n{action.replace('KEY', repr('sent'))}"
    )
    eventually(lambda: held(fleet) not in ([], [before]), "the row is sent anew")
    if "move" in action:
        fleet.workers(1, "--queues", f"{fleet.queue}-urgent")
    fleet.workers()
    fleet.project.wait_for("work", "sent")
    fleet.run("tasks.add.delay(1, 2).get(timeout=60)")  # behind the void message
    assert len(fleet.project.ledger("work", "sent")) == 1
    completed = fleet.project.completed("task_name LIKE '%.work'")
    assert [each["attempts"] for each in completed] == [1]


def test_a_task_that_was_sent_does_not_start_once_its_queue_is_paused(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.run("tasks.work('paused', queue='urgent')")
    eventually(lambda: held(fleet), "the row is sent")
    fleet.project.manage("tasks", "pause", "urgent")
    eventually(lambda: not held(fleet), "the row is handed back")
    fleet.workers()
    fleet.run("tasks.add.apply_async([1, 2]).get(timeout=60)")
    assert not fleet.project.ledger("work")
    fleet.project.manage("tasks", "resume", "urgent")
    fleet.project.wait_for("work", "paused")


def test_a_task_that_the_fleet_does_not_know_is_handed_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    workers = fleet.workers(FORGET="tests.bgtasks.project.tasks.work")
    fleet.run("tasks.work('unknown')")
    workers.wait_for("unknown here")
    assert not fleet.project.ledger("work")
    workers.stop()
    fleet.workers()
    fleet.project.wait_for("work", "unknown")
    assert not fleet.project.attempts()


def test_in_a_pool_of_threads_rows_run_beside_each_other(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    fleet.workers(3, "--queues", fleet.queues, "--pool", "threads")
    path = fleet.project.folder / "go"
    fleet.run(f"[tasks.until(key, {str(path)!r}) for key in range(3)]")
    lines = fleet.project.wait_for("begin", count=3)
    path.touch()
    fleet.project.wait_for("end", count=3)
    assert len(set(pids(lines))) == 1
    assert lives(pids(lines)[0])
    eventually(lambda: len(fleet.project.completed()) == 3, "the outcomes")


def test_what_is_due_by_a_cron_line_runs(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.environment["MORE_APPS"] = "tests.bgtasks.project.ticking"
    fleet.relay().stop()
    fleet.project.database.query(
        "UPDATE bgtasks_cronslot SET slot = '2019-06-01 00:00:00' WHERE name LIKE '%new_year'"
    )
    fleet.relay()
    fleet.workers()
    fleet.project.wait_for("new", "year")


def test_a_relay_that_was_declared_dead_begins_anew(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    relay = fleet.relay()
    fleet.workers()
    fleet.project.database.query("DELETE FROM bgtasks_worker WHERE processes = 1")
    relay.wait_for("The relay registers anew")
    fleet.run("tasks.work('anew')")
    fleet.project.wait_for("work", "anew")
    assert relay.stop() == 0


def test_a_copy_that_a_task_forks_records_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    workers = fleet.workers(1)
    fleet.run("tasks.fork_and_return('copied')")
    workers.wait_for("The copy (process")
    eventually(lambda: fleet.project.completed(), "the outcome")
    assert fleet.run("print(tasks.add.delay(1, 2).get(timeout=60))") == "3\n"
    assert not fleet.project.attempts()


def test_a_lost_lease_is_taken_anew(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.relay()
    workers = fleet.workers()
    fleet.project.database.query("DELETE FROM bgtasks_worker WHERE processes = 2")
    workers.wait_for("It registers anew")
    fleet.run("tasks.work('anew')")
    fleet.project.wait_for("work", "anew")
