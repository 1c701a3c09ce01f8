"""What a worker's processes find when they start: the project's log, its threads, its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.deployment import Deployment


@pytest.fixture
def queued(project: Deployment) -> Deployment:
    """A project that logs into a queue, which a thread empties that `ready()` starts."""
    project.settings = {"QUEUED_LOG": str(project.folder / "log")}
    return project


APP = "tests.bgtasks.project.queued_log"
BUSY = "tests.bgtasks.project.busy_log"


def test_what_a_failed_task_logs_is_not_lost_with_the_thread_that_writes_the_log(
    queued: Deployment,
) -> None:
    queued.run("tasks.refuse(1)")
    output = queued.drain(MORE_APPS=APP)
    assert "Start a listener when bgtasks.signals.worker_started is sent" in output
    assert " tests.bgtasks.project.policied.refuse (attempt 1" in output
    assert "Traceback" in output


@pytest.mark.parametrize("mode", [[], ["--threads", "2", "--processes", "2"]])
def test_a_receiver_of_worker_started_starts_the_log_of_each_process(
    queued: Deployment, mode: list[str]
) -> None:
    queued.settings["RESTART_LOG"] = True
    queued.run("tasks.refuse.map(range(10))")
    output = queued.drain(*mode, MORE_APPS=APP)
    log = Path(queued.settings["QUEUED_LOG"]).read_text()
    assert log.count(" tests.bgtasks.project.policied.refuse (attempt 1") == 10
    assert log.count("Traceback") == 10
    assert "Start a listener" not in log + output


@pytest.mark.parametrize("past_the_log", [False, True])
def test_a_worker_forked_while_a_thread_writes_the_log_comes_to_its_end(
    project: Deployment, past_the_log: bool
) -> None:
    """A child has the lock of the stream as it was at the fork, and nobody there to free it."""
    log = project.folder / "log"
    project.settings = {"BUSY_LOG": str(log), "PAST_THE_LOG": past_the_log}
    if past_the_log:  # nothing may be logged in the child: that waits for the stream, in any case
        project.run("tasks.work(1)")
        worker = project.worker("--drain", MORE_APPS=BUSY, LOG_LEVEL="ERROR")
        assert worker.wait() == 0, worker.output
        assert "Traceback" not in worker.output
        assert project.ledger("work", "1")
    else:
        project.run("tasks.refuse.map(range(3))")
        project.drain(MORE_APPS=BUSY)
        assert log.read_text().count("Traceback") == 3


def test_a_worker_that_gevent_has_patched_refuses_coroutines(project: Deployment) -> None:
    worker = project.worker(MORE_APPS="tests.bgtasks.project.patched_by_gevent")
    assert worker.wait() == 1
    assert "gevent has replaced the threads of this process" in worker.output
    assert "Do not call" in worker.output


@pytest.mark.parametrize("mode", [[], ["--threads", "4"]])
def test_with_debug_no_process_keeps_the_statements(project: Deployment, mode: list[str]) -> None:
    project.settings = {"DEBUG": True}
    project.run("tasks.query_much.map(range(60))")
    project.run("tasks.count_kept_statements(priority=-1)")
    project.drain(*mode)
    [(_, count, _)] = project.ledger("kept")
    assert int(count) < 100


def test_statements_are_kept_for_a_test_that_counts_them(project: Deployment) -> None:
    project.run(
        "from django.db import connection\n"
        "from django.test.utils import CaptureQueriesContext\n"
        "from bgtasks import testing\n"
        "tasks.query_much(1)\n"
        "with CaptureQueriesContext(connection) as captured: testing.run_pending()\n"
        "tasks.note('captured', len([q for q in captured if 'auth_user' in q['sql']]))"
    )
    assert project.ledger("captured")[0][1] == "10"


def test_what_a_task_sets_in_its_session_is_reset_by_a_receiver(project: Deployment) -> None:
    """As the page on reliability shows it."""
    if not project.database.on_postgresql:
        return
    project.run("tasks.leave_a_search_path(); tasks.note_search_path(priority=-1)")
    project.drain(MORE_APPS="tests.bgtasks.project.resetting")
    assert project.ledger("search_path")[0][1] == '"$user",'
