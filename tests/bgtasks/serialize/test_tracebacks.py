"""The one line of a kept failure that is quoted where there is room for one."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
from background_task.models import Task
from django.db import connection

from bgtasks import background, exceptions
from bgtasks.dialects.django_tasks.runs import raised
from bgtasks.serialize.tracebacks import gist
from tests.conftest import run_queued


class Odd(Exception): ...


def sql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT no_such_column FROM (SELECT 1) AS some_rows")


def raising(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> None:
        raise error

    return raise_it


def chained(text: str) -> Callable[[], Any]:
    def raise_it() -> None:
        try:
            _ = {}["missing"]
        except KeyError as error:
            raise Odd(text) from error

    return raise_it


def handled() -> None:
    try:
        _ = {}["missing"]
    except KeyError:
        raise Odd("while handling") from None


def noted() -> None:
    error = Odd("a text")
    error.add_note("a note\nof two lines")
    raise error


def deep(depth: int = 0) -> None:
    deep(depth + 1)


GROUP = ExceptionGroup("both failed", [ValueError("one"), KeyError("two")])
ODD = f"{__name__}.Odd"
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "one line": (raising(Odd("a text")), f"{ODD}: a text"),
    "no text": (raising(Odd()), ODD),
    "several lines": (raising(Odd("a text\nDETAIL: more\n       ^")), f"{ODD}: a text"),
    "the first line is empty": (raising(Odd("\n\n  a text\nmore")), f"{ODD}: a text"),
    "the text is a traceback's": (raising(Odd("a text\n  File\nKeyError: 1")), f"{ODD}: a text"),
    "a cause": (chained("a text\n    ^"), f"{ODD}: a text"),
    "none but its own": (handled, f"{ODD}: while handling"),
    "a note": (noted, f"{ODD}: a text"),
    "a group": (raising(GROUP), "ExceptionGroup: both failed (2 sub-exceptions)"),
    "a group in a group": (
        raising(ExceptionGroup("outer\nmore", [GROUP])), "ExceptionGroup: outer"
    ),
    "the syntax": (lambda: compile("1 +", "x", "exec"), "SyntaxError: invalid syntax"),
    "an exit": (raising(SystemExit(3)), "SystemExit: 3"),
    "many frames": (deep, "RecursionError: maximum recursion depth exceeded"),
}  # fmt: skip


def text_of(raise_it: Callable[[], Any]) -> str:
    try:
        raise_it()
    except BaseException as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it raised nothing")


@pytest.mark.parametrize("case", CASES)
def test_the_line_that_names_the_exception_is_quoted(case: str) -> None:
    raise_it, line = CASES[case]
    text = text_of(raise_it)
    assert gist(text) == line
    assert raised(text) in {line.partition(":")[0], f"builtins.{line.partition(':')[0]}"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("Cancelled: enough", "Cancelled: enough"),
        ("\nIts worker ended.\nand will not repeat: never.", "Its worker ended."),
        ("bgtasks.TaskTimeout: It ran longer.", "bgtasks.TaskTimeout: It ran longer."),
        ("Traceback (most recent call last):\n  File", "File"),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
    ],
)  # fmt: skip
def test_of_another_text_the_first_line_is_quoted(text: str, line: str) -> None:
    assert gist(text) == line


@pytest.mark.django_db
def test_of_an_error_of_the_database_its_first_line_is_quoted() -> None:
    line = gist(text_of(sql))
    assert line.startswith("django.db.utils.")
    assert "no_such_column" in line
    assert "^" not in line


@pytest.mark.django_db(transaction=True)
def test_who_waits_in_vain_reads_what_the_database_said(caplog: pytest.LogCaptureFixture) -> None:
    Task.objects.all().delete()
    result = background(name="fails by sql")(sql).delay()
    run_queued()
    with pytest.raises(exceptions.ResultTimeout, match=r"\(django.db.utils.*no_such_column"):
        result.get(timeout=0)
    [line] = [each for each in caplog.messages if each.startswith("Task ")]
    assert "no_such_column" in line
