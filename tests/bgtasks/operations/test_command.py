"""``manage.py tasks`` as an operator types it."""

from __future__ import annotations

import json
import time
from io import StringIO
from typing import Any

import pytest
from background_task.models import Task
from django.core.management import CommandError, call_command

from bgtasks import AsyncResult, background
from bgtasks.models import Action, Counter
from bgtasks.queue import pauses
from bgtasks.testing import run_pending

pytestmark = pytest.mark.django_db(transaction=True)


@background(name="tests.command.fail", max_attempts=1)
def fail(*args: Any) -> None:
    raise ValueError("in vain")


@background(name="tests.command.add")
def add(a: int, b: int) -> int:
    return a + b


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("tasks", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def asked(*arguments: str) -> Any:
    return json.loads(command(*arguments, "--json"))


def failed(count: int = 1) -> list[int]:
    ids = [row.pk for row in fail.map(range(count))]
    run_pending(raise_failures=False)
    return ids


def test_list_names_the_newest_first_with_what_failed() -> None:
    (first,) = failed()
    second = add(1, 2).pk
    newest, older = command("list").splitlines()
    assert newest.split()[:2] == [str(second), "waiting"]
    assert older.split()[:2] == [str(first), "failed"]
    assert older.endswith("tests.command.fail(0)  - ValueError: in vain")
    assert [task["id"] for task in asked("list", "--state", "failed")["tasks"]] == [first]
    page = asked("list", "--limit", "1")
    assert [task["id"] for task in page["tasks"]] == [second]
    rest = asked("list", "--before", page["next"])
    assert [task["id"] for task in rest["tasks"]] == [first]
    assert "--before" in command("list", "--limit", "1")


def test_list_takes_times_in_the_projects_zone() -> None:
    add(1, 2)
    assert asked("list", "--since", "2020-01-01")["tasks"]
    assert not asked("list", "--until", "2020-01-01 12:30")["tasks"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list", "--since", "soon"], "'soon' is no time"),
        (["list", "--since", "2026-13-45"], "2026-13-45"),
        (["list", "--state", "lost"], "invalid choice: 'lost'"),
        (["show", "x"], "'x' is no id of a task"),
        (["show", "123"], "There is no task 123"),
        (["retry"], "Name the ids of tasks; or give --all"),
        (["cancel", "1", "--all"], "Name the ids of tasks"),
        (["cancel", "1", "--name", "x"], "Name the ids of tasks"),
        ([], "ACTION"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        command(*arguments)


def test_show_tells_all_that_is_known() -> None:
    (pk,) = failed()
    again = asked("retry", pk, "--by", "zoe")["retried"][str(pk)]
    shown = command("show", pk)
    for fact in (
        "tests.command.fail",
        "failed",
        "arguments:     0",
        f"retried as:    {again}",
        "by zoe",
    ):
        assert fact in shown
    assert "Traceback" in shown
    found = asked("show", pk)
    assert (found["state"], found["retried_as"], len(found["attempts_made"])) == (
        "failed", again, 1,
    )  # fmt: skip
    assert asked("show", again)["retried_from"] == pk
    AsyncResult(again).revoke()
    task_id = add(1, 2).pk
    run_pending()
    assert asked("show", task_id)["result"] == "3"


def test_retry_by_id_or_all_that_matches() -> None:
    ids = failed(3)
    add(1, 2)
    assert command("retry", ids[0]) == "Tasks retried: 1.\n"
    assert "is not retried: it was retried already" in command("retry", ids[0])
    assert command("retry", "--all", "--name", "tests.command.add") == "Tasks retried: 0.\n"
    assert len(asked("retry", "--all", "--error", "ValueError")["retried"]) == 2
    assert Task.objects.filter(task_name=fail.name).count() == 3


def test_cancel_leaves_what_runs_unless_it_is_asked_to() -> None:
    waiting, running = add(1, 2).pk, add(3, 4).pk
    Task.objects.filter(pk=running).update(locked_by="bg~1.1-1")
    assert asked("cancel", "--all", "--by", "zoe")["cancelled"] == [waiting]
    assert AsyncResult(waiting).cancelled()
    assert asked("cancel", running, "--running")["cancelled"] == [running]
    assert asked("cancel", running, "--running")["cancelled"] == []
    assert Action.objects.filter(kind="cancelled", by="zoe").count() == 1


def test_pause_and_resume() -> None:
    assert "Queue slow is paused" in command("pause", "slow")
    assert "was paused already" in command("pause", "slow")
    assert [each.queue for each in pauses.paused()] == ["slow"]
    assert asked("resume", "slow") == {"resumed": True}
    assert "was not paused" in command("resume", "slow")
    assert "What has no queue is paused" in command("pause", "")


def test_stats_shows_the_queues_and_what_has_run() -> None:
    add(1, 2, queue="sums")
    pauses.pause("sums", "zoe")
    now = int(time.time())
    for width in (60, 900):
        start = now // width * width
        Counter.objects.create(
            width=width, start=start, queue="sums", name=add.name, worker="", succeeded=3, ran_4=3
        )
    lines = [line.split() for line in command("stats").splitlines()]
    assert lines[0][:3] == ["queue", "waiting", "oldest"]
    assert lines[1][0] == "sums"
    assert lines[1][-1] == "paused"
    assert lines[-1][:4] == [add.name, "3", "0", "12"]
    found = asked("stats", "--range", "hour")
    assert (
        found["queues"][0] | {"queue": "sums", "waiting": 1, "paused_by": "zoe"}
        == (found["queues"][0])
    )
    assert found["tasks"][0]["succeeded"] == 3
    assert 0.008 < found["tasks"][0]["ran"]["p50"] < 0.016
    assert found["tasks"][0]["waited"]["p50"] is None
