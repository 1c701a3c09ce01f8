"""Rows and arguments that nobody should have written. None of them stops the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bgtasks.project import broken
from tests.harness.deployment import Deployment

WORK = "tests.bgtasks.project.tasks.work"


def write(project: Deployment, params: str = "[[1], {}]", name: str = WORK, **columns: str) -> None:
    """A row as somebody's SQL would write it."""
    values = {
        "task_name": f"'{name}'",
        "task_params": f"'{params}'",
        "task_hash": "'x'",
        "priority": "1",
        "run_at": "'2020-01-01 00:00:00'",
        "repeat": "0",
        "attempts": "0",
        "last_error": "''",
        **columns,
    }
    project.database.query(
        f"INSERT INTO background_task ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    )


def drain_with_a_good_neighbour(project: Deployment) -> str:
    project.run("tasks.work('good', priority=-1)")
    output = project.drain()
    assert project.ledger("work", "good"), output
    assert project.completed("task_params LIKE '%good%' AND failed_at IS NULL")
    return output


def test_broken_arguments_fail_once_and_say_why(project: Deployment) -> None:
    broken = ["", "[[", "{}", "[]", "[1, 2]", '["a"]', "[[], []]", "null", '[[1], {"a": 1}, 3]']
    for params in broken:
        write(project, params)
    drain_with_a_good_neighbour(project)
    failed = project.completed("failed_at IS NOT NULL")
    assert project.rows() == []
    # `[[], []]` is a list and something that makes an empty dict: it may run.
    assert len(failed) >= len(broken) - 1
    assert {row["attempts"] for row in failed} == {1}
    assert all("cannot be read" in row["last_error"] for row in failed)


def test_arguments_that_do_not_fit_the_function_are_a_failed_attempt(project: Deployment) -> None:
    write(project, "[[1, 2, 3], {}]")
    drain_with_a_good_neighbour(project)
    assert "takes from 0 to 1 positional arguments" in project.rows()[0]["last_error"]


def test_unknown_tasks_wait_and_are_named(project: Deployment) -> None:
    for _ in range(30):
        write(project, name="gone.tasks.away")
    output = drain_with_a_good_neighbour(project)
    assert "does not know: gone.tasks.away" in output
    assert "declared in another module, import it in tasks.py" in output
    assert [row["attempts"] for row in project.rows()] == [0] * 30


def test_ten_megabytes_of_arguments_run(project: Deployment) -> None:
    project.run("tasks.size('x' * 10_000_000)")
    drain_with_a_good_neighbour(project)
    assert project.ledger("size", "10000000")


def test_a_repeat_of_minus_one_is_no_repeat(project: Deployment) -> None:
    write(project, repeat="-1")
    drain_with_a_good_neighbour(project)
    assert project.rows() == []


def test_a_repeat_beyond_the_calendar_ends_and_says_so(project: Deployment) -> None:
    write(project, repeat=str(10**18))
    drain_with_a_good_neighbour(project)
    assert project.rows() == []
    (row,) = project.completed("repeat > 0")
    assert row["failed_at"] is None
    assert "will not repeat" in row["last_error"]


def test_absurd_dates_stop_nobody(project: Deployment) -> None:
    if project.database.on_postgresql:
        absurd = ["'-infinity'", "'4712-01-01 BC'", "'0001-01-01'", "'9999-12-31'", "'infinity'"]
        past = 3
    else:
        absurd = ["'0000-00-00'", "''", "'1'", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59'"]
        past = 4
    for number, run_at in enumerate(absurd):
        write(project, f"[[{number}], {{}}]", run_at=run_at, repeat="60")
    drain_with_a_good_neighbour(project)
    # Those in the past run once; where no next run can be told, the row says so.
    assert [line[1] for line in project.ledger("work")].count("good") == 1
    ran = {line[1] for line in project.ledger("work")} - {"good"}
    assert ran == {str(number) for number in range(past)}
    assert len(project.completed("failed_at IS NULL")) == past + 1


def test_absurd_attempts_and_priorities_stop_nobody(project: Deployment) -> None:
    write(project, attempts=str(2**31 - 1), priority=str(2**31 - 1))
    write(project, "[[2], {}]", attempts="-5", priority=str(-(2**31)))
    write(project, "[[3], {}]", name="tests.bgtasks.project.tasks.fail", attempts=str(2**31 - 1))
    drain_with_a_good_neighbour(project)
    assert len(project.completed("failed_at IS NULL")) == 3
    assert len(project.completed("failed_at IS NOT NULL")) == 1


@pytest.mark.on_sqlite  # PostgreSQL refuses such a text
@pytest.mark.parametrize(
    "column", ["verbose_name", "task_params", "last_error", "queue", "task_hash"]
)
def test_p2_a_text_that_is_no_utf8_stops_nobody(project: Deployment, column: str) -> None:
    project.run("tasks.work('odd'); tasks.work('good')")
    project.database.query(
        f"UPDATE background_task SET {column} = CAST(x'ff41' AS TEXT) WHERE id = 1"
    )
    project.drain()
    assert len(project.ledger("work", "good")) == 1
    ended = project.database.query("SELECT state FROM bgtasks_outcome ORDER BY task_id")
    broken = "failed" if column == "task_params" else "succeeded"
    assert [row["state"] for row in ended] == [broken, "succeeded"]


def test_a_tasks_module_that_fails_to_import_is_named_and_the_others_run(
    project: Deployment,
) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.broken"}
    project.run("tasks.work('good')", **more)
    output = project.drain(**more)
    assert project.ledger("work", "good")
    assert "tests.bgtasks.project.broken.tasks cannot be imported" in output
    file = Path(broken.__file__).with_name("tasks.py")
    assert f"tasks cannot be imported. {file}, line 1: ModuleNotFoundError: No module" in output
    assert "no_such_module" in output
    assert f'File "{file}", line ' in output  # of the traceback
    done = project.manage("process_tasks", "--check", **more)
    assert done.returncode == 1
    assert "tests.bgtasks.project.broken.tasks cannot be imported" in done.stderr


def test_check_is_content_with_a_project_that_is_ready(project: Deployment) -> None:
    done = project.manage("process_tasks", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ready" in done.stdout


def test_check_names_missing_tables(project: Deployment) -> None:
    project.manage("migrate", "bgtasks", "zero")
    done = project.manage("process_tasks", "--check")
    assert done.returncode == 1
    assert "bgtasks_worker" in done.stderr


def test_nonsense_on_the_command_line_is_refused(project: Deployment) -> None:
    for arguments in (
        ["--processes", "0"], ["--threads", "-1"], ["--queue"], ["--sleep", "x"], ["--sleep", "-1"],
        ["--sleep", "nan"], ["--duration", "nan"], ["--duration", "inf"], ["--duration", "-inf"],
    ):  # fmt: skip
        done = project.manage("process_tasks", *arguments)
        assert done.returncode != 0
        assert arguments[0] in done.stderr
