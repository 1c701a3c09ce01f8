"""What holds for every engine: our own workers, and a Celery fleet on each broker."""

from __future__ import annotations

import os
import signal

from tests.harness.fleets import Fleet, lives, pids
from tests.harness.waiting import eventually

WAIT = "timeout=60"


def test_a_result_comes_back(engine: Fleet) -> None:
    assert engine.run(f"print(tasks.add.delay(1, 2).get({WAIT}))") == "3\n"


def test_a_coroutine_runs(engine: Fleet) -> None:
    assert engine.run(f"print(tasks.add_later.delay(1, 2).get({WAIT}))") == "3\n"


def test_without_a_commit_nothing_runs(engine: Fleet) -> None:
    engine.run(
        "from django.db import transaction\n"
        "try:\n"
        "    with transaction.atomic():\n"
        "        tasks.work('rolled back')\n"
        "        raise KeyError\n"
        "except KeyError:\n"
        f"    tasks.add.delay(1, 1).get({WAIT})\n"
    )
    assert not engine.project.ledger("work", "rolled")


def test_p3_what_an_atomic_task_writes_happens_once(engine: Fleet) -> None:
    said = engine.run(
        "for n, fault in enumerate(['', 'raises', 'dies after']):\n"
        "    result = tasks.change.delay(f'atomic-{n}', fault)\n"
        f"    print(result.get({WAIT}), result.attempts)\n"
        "print([name for name in tasks.users() if name.startswith('atomic')])"
    )
    assert said.splitlines() == [
        *[f"changed atomic-{n} {attempts}" for n, attempts in enumerate([1, 2, 2])],
        "['atomic-0 1', 'atomic-1 2', 'atomic-2 2']",
    ]
    traces = sorted(line[1:3] for line in engine.project.wait_for("trace", count=3))
    assert traces == [["atomic-0", "1"], ["atomic-1", "2"], ["atomic-2", "2"]]


def test_a_failure_is_tried_again_and_each_attempt_is_kept(engine: Fleet) -> None:
    said = engine.run(
        "result = tasks.fail_often.delay('in vain')\n"
        "try:\n"
        f"    result.get({WAIT})\n"
        "except ValueError as error:\n"
        "    print(error, result.attempts, result.status)"
    )
    assert said == "in vain 3 FAILURE\n"
    assert len(engine.project.ledger("try", "in", "vain")) == 3


def test_a_task_that_asks_for_it_is_tried_again(engine: Fleet) -> None:
    assert engine.run(f"print(tasks.retry_once.delay('twice').get({WAIT}))") == "twice\n"


def test_a_task_knows_itself(engine: Fleet) -> None:
    said = engine.run(
        "result = tasks.tell_about_myself.delay()\n"
        f"told = result.get({WAIT})\n"
        "print(told['id'] == result.id, told['attempt'], told['deadline'])"
    )
    assert said == "True 1 None\n"


def test_progress_is_seen_while_the_task_runs(engine: Fleet) -> None:
    key = "progress"
    task_id = engine.run(f"print(tasks.progressing.delay({key!r}).id)").strip()
    engine.project.wait_for("halfway", key)
    asked = f"from bgtasks import AsyncResult; print(AsyncResult({task_id}).progress)"
    eventually(lambda: "step" in engine.run(asked), "the progress")
    (engine.project.folder / key).touch()
    waited = f"from bgtasks import AsyncResult; print(AsyncResult({task_id}).get({WAIT}))"
    assert engine.run(waited) == f"{key}\n"
    assert "20" in engine.run(asked)


def test_of_a_unique_task_one_waits(engine: Fleet) -> None:
    path = engine.project.folder / "unique"
    call = f"tasks.unique_by_arguments.delay('unique', {str(path)!r}).id"
    first = engine.run(f"print({call})")
    engine.project.wait_for("begin", "unique")
    assert engine.run(f"print({call})") == first
    path.touch()


def test_a_date_is_waited_for_and_no_longer(engine: Fleet) -> None:
    said = engine.run(
        "import datetime\n"
        "result = tasks.when.apply_async(countdown=1)\n"
        "asked = datetime.datetime.now(datetime.UTC)\n"
        f"print((result.get({WAIT}) - asked).total_seconds() > 0.5)"
    )
    assert said == "True\n"


def test_a_run_that_takes_too_long_is_ended_with_its_process(engine: Fleet) -> None:
    said = engine.run(
        "from bgtasks.exceptions import TaskTimeout\n"
        "try:\n"
        f"    tasks.patient_once.apply_async(['overdue'], timeout=1).get({WAIT})\n"
        "except TaskTimeout as error:\n"
        "    print(error)"
    )
    assert "it ran longer than 1 s and was ended with its process" in said
    [pid] = pids(engine.project.ledger("begin", "overdue"))
    eventually(lambda: not lives(pid), "its process has ended")


def test_a_coroutine_that_takes_too_long_is_cancelled(engine: Fleet) -> None:
    task_id = engine.run("print(tasks.patient_coroutine.apply_async(['overdue'], timeout=1).id)")
    [pid] = pids(engine.project.wait_for("cleaned", "up", "overdue"))
    where = f"task_id = {task_id} AND state = 'timed_out'"
    [attempt] = eventually(lambda: engine.project.rows("bgtasks_attempt", where), "the attempt")
    assert "ran longer than 1 s and was cancelled" in attempt["error"]
    if engine.engine != "rq":  # which ends each process with its one job
        assert lives(pid)
    engine.forget(task_id)


def test_a_waiting_task_is_cancelled(engine: Fleet) -> None:
    said = engine.run(
        "result = tasks.work.apply_async(['cancelled'], countdown=2)\n"
        "print(result.revoke(), result.cancelled())"
    )
    assert said == "True True\n"


def test_a_running_task_is_cancelled(engine: Fleet) -> None:
    task_id = engine.run("print(tasks.endless_without_limit.delay('revoked').id)").strip()
    [pid] = pids(engine.project.wait_for("begin", "revoked"))
    said = engine.run(
        f"from bgtasks import AsyncResult; print(AsyncResult({task_id}).revoke(terminate=True))"
    )
    assert said == "True\n"
    eventually(lambda: not lives(pid), "the end of its process")
    assert engine.run(f"print(tasks.add.delay(1, 2).get({WAIT}))") == "3\n"


def test_a_paused_queue_waits(engine: Fleet) -> None:
    engine.manage("tasks", "pause", "urgent")
    task_id = engine.run("print(tasks.add.apply_async([1, 1], queue='urgent').id)").strip()
    assert engine.run(f"print(tasks.add.delay(1, 2).get({WAIT}))") == "3\n"
    state = f"from bgtasks import AsyncResult; print(AsyncResult({task_id}).status)"
    assert engine.run(state) == "PENDING\n"
    engine.manage("tasks", "resume", "urgent")
    waited = f"from bgtasks import AsyncResult; print(AsyncResult({task_id}).get({WAIT}))"
    assert engine.run(waited) == "2\n"


def test_a_task_that_kills_its_process_runs_again(engine: Fleet) -> None:
    task_id = engine.run("print(tasks.slow('killed', 3600).pk)").strip()
    [pid] = pids(engine.project.wait_for("begin", "killed"))
    os.kill(pid, signal.SIGKILL)
    engine.project.wait_for("begin", "killed", count=2)
    [lost] = engine.project.rows("bgtasks_attempt", f"task_id = {task_id}")
    assert lost["state"] == "lost"
    assert "was killed" in lost["error"]
    engine.forget(task_id)


def test_what_has_expired_is_cancelled(engine: Fleet) -> None:
    engine.manage("tasks", "pause", "urgent")
    task_id = engine.run(
        "import time\n"
        "print(tasks.work.apply_async(['late'], queue='urgent', expires=0.001).id)\n"
        "time.sleep(0.01)"
    )
    engine.manage("tasks", "resume", "urgent")
    where = f"task_id = {task_id}"
    [outcome] = eventually(lambda: engine.project.rows("bgtasks_outcome", where), "the outcome")
    assert outcome["state"] == "cancelled"
    assert not engine.project.ledger("work", "late")


def test_a_repeating_task_runs_again(engine: Fleet) -> None:
    engine.run("tasks.work('again', repeat=1)")
    engine.project.wait_for("work", "again", count=2)
    engine.run("from bgtasks.models import Task; Task.objects.filter(repeat=1).delete()")


def test_a_mail_is_sent(engine: Fleet) -> None:
    engine.run(
        "from django.core.mail import send_mail\n"
        "send_mail('Hello', 'World', 'a@example.com', ['b@example.com'])"
    )
    mails = engine.project.folder / "mails"
    [mail] = eventually(lambda: list(mails.glob("*.log")), "the mail")
    eventually(lambda: "Subject: Hello" in mail.read_text(), "the mail is written")


def test_what_it_runs_is_counted(engine: Fleet) -> None:
    before = _counted(engine)
    engine.run(f"tasks.add.delay(1, 2).get({WAIT})")
    eventually(lambda: _counted(engine) > before, "the counters")


def _counted(engine: Fleet) -> int:
    found = engine.project.rows("bgtasks_counter", "width = 0 AND name LIKE '%.add'")
    return sum(row["succeeded"] for row in found)
