"""Whoever reads what a table holds gets a value, a mark, or an error of ours, whatever it holds."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import CompletedTask, Task
from django.db import connection
from django.test import Client
from django.utils import timezone

from bgtasks import AsyncResult, background
from bgtasks.dialects import celery, django_q
from bgtasks.exceptions import BgtasksError, BrokenRow, InvalidProgress, UnreadableResult
from bgtasks.models import Attempt, CallOptions, Outcome, Progress, Worker
from bgtasks.queue import database as db
from bgtasks.queue import finish, outcomes
from bgtasks.queue.ending import Ending
from bgtasks.serialize import codec
from bgtasks.tasks.current import CurrentTask
from bgtasks.tasks.current import Progress as Reported
from bgtasks.testing import run_pending
from tests.bgtasks.queue.helpers import register

pytestmark = pytest.mark.django_db(transaction=True)

ON_SQLITE = connection.vendor == "sqlite"


@background(name="tests.reading.plain")
def plain(key: Any = "") -> None: ...


def tagged(tag: str, value: str) -> str:
    return f'{{"__bgtasks__": {tag}, "value": {value}}}'


MALFORMED = {
    "no JSON": "no JSON",
    "nothing": "",
    "a UUID that is a number": tagged('"UUID"', "5"),
    "a UUID that is null": tagged('"UUID"', "null"),
    "a tag that is a list": tagged('["UUID"]', "5"),
    "a tag that is null": tagged("null", "5"),
    "a date in month 99": tagged('"date"', '"2024-99-01"'),
    "a date that is a number": tagged('"datetime"', "7"),
    "a timedelta without end": tagged('"timedelta"', "[1e300, 0, 0]"),
    "a timedelta that is a number": tagged('"timedelta"', "7"),
    "a Decimal that is a list": tagged('"Decimal"', "[[]]"),
    "a Decimal that is a word": tagged('"Decimal"', '"word"'),
    "nesting of thousands": "[" * 100_000 + "]" * 100_000,
    "nesting of thousands of tags": tagged('"UUID"', "[" * 100_000 + "]" * 100_000),
    "a number of thousands of digits": "1" * 10_000,
}
malformed = pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
OF_ANOTHER_TYPE = [7, 1.5, b"\xff\xfe"] if ON_SQLITE else []


def ended(text: Any = "1", state: str = "succeeded") -> AsyncResult:
    row = plain()
    done = CompletedTask.objects.create(
        task_name=plain.name, task_params="[[], {}]", task_hash="", run_at=timezone.now()
    )
    Task.objects.all().delete()
    Outcome.objects.create(
        task_id=row.pk, completed_id=done.pk, state=state, attempts=1, finished_at=timezone.now()
    )
    column = "result" if state == "succeeded" else "exception"
    db.execute(f"UPDATE {db.OUTCOMES} SET {column} = %s", [text])
    return AsyncResult(row.pk)


@malformed
def test_a_text_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.loads(text)
    with pytest.raises(ValueError, match=r"."):
        codec.load_call(text)
    with pytest.raises(ValueError, match=r"."):
        codec.load_call(f"[[{text or '?'}], {{}}]")


@pytest.mark.parametrize("text", ["5", "[]", "[[]]", "[5, {}]", "[[], 5]", "[[], []]", "[1, 2, 3]"])
def test_arguments_that_are_no_list_and_dict_are_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.load_call(text)


@pytest.mark.parametrize("text", [*MALFORMED.values(), *OF_ANOTHER_TYPE])
def test_a_malformed_result_is_an_error_of_ours(text: Any) -> None:
    result = ended(text)
    assert (result.status, result.successful(), result.attempts) == ("SUCCESS", True, 1)
    if text in OF_ANOTHER_TYPE[:2]:  # what SQLite makes of a number in a column of text
        assert result.get() in {7, 1.5}
        return
    for read in (result.get, lambda: result.result, lambda: result.get(propagate=False)):
        with pytest.raises(UnreadableResult, match=f"task {result.id}.*bgtasks_outcome"):
            read()
    with pytest.raises(UnreadableResult):
        celery.AsyncResult(result.id).get()
    with pytest.raises(UnreadableResult):
        django_q.result(str(result.id))


@pytest.mark.parametrize(
    "text", [*MALFORMED.values(), "5", "{}", '{"type": 5, "args": 7}', *OF_ANOTHER_TYPE]
)
def test_a_malformed_exception_is_an_error_of_ours(text: Any) -> None:
    result = ended(text, "failed")
    db.execute(f"UPDATE {db.COMPLETED} SET last_error = %s", ["what happened"])
    error = result.get(propagate=False)
    assert isinstance(error, BgtasksError)
    assert str(error) == "what happened"
    assert result.traceback == "what happened"


@pytest.mark.on_sqlite  # PostgreSQL's columns have types
@pytest.mark.parametrize("text", [7, 1.5, b"\xff\xfe"])
def test_an_error_text_of_another_type_is_shown(text: Any) -> None:
    result = ended("{}", "failed")
    db.execute(f"UPDATE {db.COMPLETED} SET last_error = %s", [text])
    assert isinstance(result.get(propagate=False), BgtasksError)
    assert isinstance(result.traceback, str)
    row = plain()
    db.execute(f"UPDATE {db.TASKS} SET last_error = %s", [text])
    assert isinstance(outcomes.trouble(row.pk), str)


@malformed
def test_malformed_arguments_fail_their_row_alone(text: str) -> None:
    Task.objects.all().delete()
    broken, other = plain(), plain()
    Task.objects.filter(pk=broken.pk).update(task_params=text)
    with pytest.raises(BrokenRow, match=f"id {broken.pk}"):
        Task.objects.get(pk=broken.pk).params()
    with pytest.raises(BrokenRow):
        run_pending()
    run_pending()
    assert AsyncResult(other).successful()
    failed = AsyncResult(broken)
    assert (failed.failed(), failed.attempts) == (True, 1)
    assert isinstance(failed.get(propagate=False), BrokenRow)
    assert django_q.fetch(str(broken.pk)).args == []


# --- progress

inf, nan = float("inf"), float("nan")


@pytest.mark.parametrize("values", [(inf, inf), (nan, 1), (1, nan), (10**400, 1), ("x", 1)])
def test_a_progress_that_is_no_finite_number_is_refused(values: Any) -> None:
    with pytest.raises(InvalidProgress, match="finite"):
        CurrentTask(plain()).set_progress(*values)


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [
        (1e308, 1e308, 100),
        (1e308, 1e-308, 100),
        (-1e308, 1e-308, 0),
        (5e-324, 1e308, 0),
        (inf, inf, None),
        (nan, 1, None),
        (1, 0, None),
        (1, inf, 0),
    ],
)
def test_percents_never_fail(done: float, total: float, percent: int | None) -> None:
    assert Reported(done, total).percent == percent


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((column, value) for column in ("done", "total") for value in ("Infinity", "NaN")),
        *(
            pytest.param(column, value, marks=pytest.mark.on_sqlite)  # PostgreSQL's have types
            for column, values in {
                "done": ("word", b"\xff"),
                "total": ("word", b"\xff"),
                "message": (7, b"\xff\xfe"),
                "attempt": ("word",),
            }.items()
            for value in values
        ),
    ],
)
def test_a_malformed_progress_is_marked(column: str, value: Any) -> None:
    row = plain()
    Progress.objects.create(task_id=row.pk, attempt=0, done=1, total=2, updated_at=timezone.now())
    if ON_SQLITE and value in {"Infinity", "NaN"}:
        value = float(value) if value == "Infinity" else b"NaN"  # SQLite has no NaN
    db.execute(f"UPDATE bgtasks_progress SET {column} = %s", [value])
    found = AsyncResult(row).progress
    str(Progress(task_id=1, done=value, total=value))
    if column == "attempt":
        assert found is None
        return
    assert isinstance(found.message, str)
    if column != "message":
        assert (found.percent, "cannot be read" in found.message) == (None, True)


# --- other readers


@pytest.mark.parametrize("text", ["no JSON", "[]", "5", "[" * 100_000])
def test_malformed_options_fail_their_row_alone(text: str) -> None:
    Task.objects.all().delete()
    row = plain()
    CallOptions.objects.create(task_id=row.pk, options=text)
    with pytest.raises(BrokenRow):
        run_pending()
    assert django_q.fetch(str(row.pk)).hook is None


ODD_DATES = (
    ["2024-99-99 00:00:00", b"\xff", 7, "garbage"]
    if ON_SQLITE
    else ["infinity", "-infinity", "290000-01-01", "4000-01-01 BC"]
)
DATES = [
    ("background_task/task", Task, "run_at"),
    ("background_task/completedtask", CompletedTask, "run_at"),
    ("bgtasks/outcome", Outcome, "finished_at"),
    ("bgtasks/attempt", Attempt, "ended_at"),
    ("bgtasks/worker", Worker, "heartbeat_at"),
]


@pytest.mark.parametrize("odd", ODD_DATES)
@pytest.mark.parametrize(("page", "model", "column"), DATES)
def test_the_admin_shows_the_other_rows_and_names_one_that_cannot_be_read(
    admin_client: Client, page: str, model: Any, column: str, odd: Any
) -> None:
    Task.objects.all().delete()
    plain()
    ended()
    plain()
    Attempt.objects.create(
        task_id=1, number=1, state="failed", claim="", ended_at=timezone.now(), error="x"
    )
    register("bg~00000000000a")
    pk = model.objects.order_by("pk").first().pk
    table, key = model._meta.db_table, model._meta.pk.column
    db.execute(f"UPDATE {table} SET {column} = %s WHERE {key} = %s", [odd, pk])
    for address in (f"/admin/{page}/", f"/admin/{page}/{pk}/change/"):
        response = admin_client.get(address, follow=True)
        assert response.status_code == 200
    assert str(pk) in response.content.decode()


def test_an_ending_of_a_row_with_broken_options_is_recorded() -> None:
    row = plain()
    CallOptions.objects.create(task_id=row.pk, options="no JSON")
    db.execute(f"UPDATE {db.TASKS} SET locked_by = %s", ["bg~000000000000.1-1"])
    row = Task.objects.get(pk=row.pk)
    assert finish.record_alone(Ending(row, state=Attempt.State.FAILED, error="x"))
