"""How an idle worker hears of work. These workers look by themselves once in ten minutes."""

from __future__ import annotations

import select
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import connection, transaction

from bgtasks.queue import listen, notify
from bgtasks.worker.wakeup import WakeUp
from signup.tasks import discard_files as task
from tests.harness.deployment import Deployment
from tests.harness.process import Process
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]
SELDOM = ("--sleep", "600")


def idle_worker(project: Deployment, *arguments: str, **more: str) -> Process:
    """A worker that has found the queue empty and fallen asleep."""
    worker = project.worker(*SELDOM, *arguments, **more)
    project.run("tasks.work('first')")
    project.wait_for("work", "first")
    eventually(lambda: not project.rows(), "recorded")
    return worker


def test_p7_an_idle_worker_starts_what_is_enqueued(project: Deployment) -> None:
    idle_worker(project)
    project.run("tasks.work('next')")
    project.wait_for("work", "next")


def test_p7_no_row_is_overlooked_however_close_they_come(project: Deployment) -> None:
    idle_worker(project)
    project.run("import time\nfor n in range(60): tasks.work(f'n{n}'); time.sleep(n % 13 / 1000)")
    project.wait_for("work", count=61)


def test_p7_every_process_and_both_kinds_of_tasks_are_woken(project: Deployment) -> None:
    idle_worker(project, "--processes", "2")
    project.run("for n in range(2): tasks.until(n, '/nowhere')\ntasks.coroutine('a')")
    project.wait_for("begin", count=3)


def test_p7_a_task_for_later_starts_when_it_is_due(project: Deployment) -> None:
    idle_worker(project)
    project.run("tasks.work('later', schedule=2)")
    project.wait_for("work", "later")


def test_p7_what_a_task_enqueues_is_run(project: Deployment) -> None:
    idle_worker(project)
    project.run("tasks.enqueue_another(1)")
    project.wait_for("work", count=2)


def test_p7_what_a_worker_hands_back_wakes_the_others(project: Deployment) -> None:
    idle_worker(project)
    project.run("tasks.work('locked', schedule=3600)")
    project.database.query("UPDATE background_task SET locked_by = 'bg~x.1-1', attempts = 1")
    project.run(
        "from datetime import timedelta\n"
        "from background_task.models import Task\n"
        "from bgtasks.queue import claims\n"
        "claims.release(list(Task.objects.all()), delay=timedelta(0, 0, 1))"
    )
    project.wait_for("work", "locked")


def test_p7_listening_goes_on_after_a_lost_connection(project: Deployment) -> None:
    worker = idle_worker(project)
    if project.database.on_postgresql:
        mark = worker.mark()
        project.database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        worker.wait_for("does not answer", after=mark)
        project.run("tasks.work('seen when it looked')")
        project.wait_for("work", count=2)
        # Until it has ceased to look by itself.
        recent = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND state_change > now() - interval '1 second'"
        )
        eventually(lambda: not project.database.query(recent), "asleep")
        project.run("tasks.work('heard')")
        project.wait_for("work", "heard")


def test_p7_without_inotify_sqlite_is_asked_for_its_version(project: Deployment) -> None:
    idle_worker(project, MORE_APPS="tests.bgtasks.project.deaf")
    project.run("tasks.work('next')")
    project.wait_for("work", "next")


# --- the parts


def told(listener: listen.Listener) -> bool:
    """Whether the listener hears something within ten seconds."""
    fd = listener.fileno()
    assert fd is not None
    return bool(select.select([fd], [], [], 10)[0]) and listener.changed()


@pytest.mark.django_db(transaction=True)
def test_p1_nobody_is_woken_before_the_commit() -> None:
    if connection.vendor != "postgresql":
        return
    notify._last_sent.clear()
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(f"LISTEN {notify.CHANNEL}")
        with transaction.atomic():
            task(["a"])
            assert list(other.notifies(timeout=0.1)) == []
        assert list(other.notifies(timeout=10, stop_after=1))


@pytest.mark.django_db(transaction=True)
def test_a_burst_of_calls_is_one_notification() -> None:
    if connection.vendor != "postgresql":
        return
    notify._last_sent.clear()
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(f"LISTEN {notify.CHANNEL}")
        task.map([[str(n)] for n in range(100)])
        with transaction.atomic():
            for number in range(100):
                task([str(number)])
        other.execute(f"NOTIFY {notify.CHANNEL}, 'the end'")
        heard = []
        for each in other.notifies(timeout=10):
            heard.append(each.payload)
            if each.payload == "the end":
                break
    assert heard in (["", "the end"], ["", "", "the end"]), "one, or two if they took longer"


def _parameters() -> dict[str, str]:
    told = connection.get_connection_params()
    return {
        name: told[name] for name in ("dbname", "user", "password", "host", "port") if name in told
    }


@pytest.mark.django_db(transaction=True)
def test_notifications_that_come_during_other_statements_are_heard() -> None:
    if connection.vendor != "postgresql":
        return
    listener = listen.listener()
    assert listener.prepare(), "what came before is unknown"
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(f"NOTIFY {notify.CHANNEL}")
    assert told(listener)
    assert not listener.changed()
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(f"NOTIFY {notify.CHANNEL}")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")  # whose answer brings the notification along
    assert listener.prepare()
    assert not listener.prepare()
    connection.close()
    assert listener.prepare(), "another connection"


def database(path: Path) -> sqlite3.Connection:
    made = sqlite3.connect(path, isolation_level=None)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER)")
    return made


def test_where_the_file_cannot_be_watched_inotify_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        listen.FileChanges(tmp_path / "nowhere")


def test_inotify_tells_of_writes_to_the_log_and_of_a_log_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    path.touch()
    listener = listen.FileChanges(path)
    with closing(database(path)) as writer:
        assert listener.prepare(), "the log is new"
        assert not listener.prepare()
        writer.execute("INSERT INTO rows VALUES (1)")
        assert told(listener)
        assert not listener.changed()
    with closing(database(path)) as writer:  # the last connection took the log along
        assert listener.prepare()
        listener.changed()
        writer.execute("INSERT INTO rows VALUES (2)")
        assert told(listener)
    listener.close()


@pytest.mark.django_db(transaction=True)
def test_the_version_counter_tells_of_other_connections_only() -> None:
    if connection.vendor != "sqlite":
        return
    listener = listen.DataVersion()
    listener.prepare()
    task(["by ourselves"])
    assert not listener.changed()
    with closing(sqlite3.connect(connection.settings_dict["NAME"], uri=True)) as other:
        other.execute("UPDATE background_task SET priority = 1")
        other.commit()
    assert listener.changed()
    assert not listener.changed()


def test_a_signal_in_the_middle_of_the_end_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wakeup = WakeUp()
    closed = []

    def close(end: socket.socket) -> None:
        real_close(end)
        closed.append(end)
        wakeup.poke()  # as the handler of SIGTERM does, whenever it comes

    real_close = socket.socket.close
    monkeypatch.setattr(socket.socket, "close", close)
    wakeup.close()
    assert len(closed) == 2


def test_a_poke_while_another_thread_closes_does_nothing() -> None:
    wakeup = WakeUp()
    assert wakeup._writer is not None
    wakeup._writer.close()  # of `close`, this much is done
    wakeup.poke()
    wakeup.close()
