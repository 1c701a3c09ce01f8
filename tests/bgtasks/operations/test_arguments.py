"""Arguments as they are shown, and those that are shown to nobody."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from bgtasks import background, exceptions
from bgtasks.models import Attempt, Outcome
from bgtasks.operations import arguments, task_list
from bgtasks.operations.task_list import Filter
from bgtasks.tasks.sensitive import MASK
from bgtasks.testing import enqueued, run_pending
from tests.conftest import run_queued

pytestmark = pytest.mark.django_db

SECRET = "s3cret"


@background(sensitive=["token"], name="tests.arguments.call")
def call(user_id: int, token: str, *rest: Any, path: str = "") -> None: ...


@background(name="tests.arguments.other")
def other(text: str) -> None: ...


@background(sensitive=["token"], name="tests.arguments.anything")
def anything(*args: Any, **kwargs: Any) -> None: ...


@background(sensitive=["token"], unique=lambda *args: set(args), name="tests.arguments.one")
def one(user_id: int, token: str) -> None: ...


@pytest.mark.parametrize(
    ("name", "params", "shown"),
    [
        (call.name, [[5], {"token": SECRET, "path": "x"}], "5, token=•••, path='x'"),
        (call.name, [[5, SECRET], {"path": "x"}], "5, •••, path='x'"),
        (call.name, [[5, SECRET, SECRET], {}], "5, •••, •••"),
        (anything.name, [[1, 2], {"token": SECRET, "user": 3}], "•••, •••, token=•••, user=3"),
        ("a.task.of.another.release", [[5, SECRET], {}], f"5, {SECRET!r}"),
    ],
)
def test_a_sensitive_value_is_masked_however_it_is_given(
    name: str, params: Any, shown: str
) -> None:
    assert arguments.shown(name, json.dumps(params)) == shown


def test_what_cannot_be_read_is_shown_as_it_is() -> None:
    assert arguments.shown(call.name, "[[") == "[["
    assert arguments.as_json(call.name, "[[") == "[["


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_terminal_shows_no_sensitive_value(options: list[str]) -> None:
    pk = call(5, SECRET).pk
    out = StringIO()
    for command in (["list"], ["show", str(pk)]):
        call_command("tasks", *command, *options, stdout=out)
    assert SECRET not in out.getvalue()
    assert len(re.findall(r"•••|(?:\\+u2022){3}", out.getvalue())) == 2


def test_neither_do_the_log_and_the_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    call(5, SECRET)
    assert SECRET not in str(enqueued()[-1])
    run_queued()
    assert "succeeded" in caplog.text
    with pytest.raises(exceptions.NotJSON, match="a set") as caught:
        one(5, SECRET)
    assert SECRET not in f"{caught.value}{caplog.text}"


@pytest.mark.parametrize("sensitive", [["pasword"], "token", [5]])
def test_names_that_are_no_arguments_are_refused(sensitive: Any) -> None:
    def login(user_id: int, token: str) -> None: ...

    login.__qualname__ = "login"
    with pytest.raises(exceptions.InvalidOption, match=r"^sensitive of task \S+login"):
        background(sensitive=sensitive)(login)


def test_what_a_function_with_any_keywords_may_take_is_not_refused() -> None:
    assert anything(token=SECRET).task_name == anything.name


@background(sensitive=["token"], name="tests.arguments.raises", max_attempts=1)
def raises(user_id: int, token: Any) -> None:
    raise ValueError(f"no page for {user_id} with {token!r}")


@pytest.mark.parametrize(
    ("token", "secret"),
    [
        (SECRET, SECRET),
        ('it\'s "quoted"\n', "quoted"),
        ({"key": [SECRET, 1]}, SECRET),
        (471100, "471100"),
        ("geheimnisvoll-ü", "geheimnisvoll"),
    ],
)
def test_what_a_task_raises_is_kept_and_logged_without_sensitive_values(
    token: Any, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = raises(5, token)
    run_pending(raise_failures=False)
    attempt, outcome = Attempt.objects.get(), Outcome.objects.get(pk=row.pk)
    for text in (attempt.error, str(outcome.exception), caplog.text):
        assert secret not in text
        assert f"no page for 5 with {MASK}" in text.replace("'", "").replace("\\u2022", "•") or (
            isinstance(token, dict)
        )
    assert "ValueError" in caplog.text


def test_a_short_value_is_left_in_what_a_task_raises() -> None:
    raises(5, "no")
    run_pending(raise_failures=False)
    assert "no page for 5 with 'no'" in Attempt.objects.get().error


def test_no_search_finds_a_sensitive_value() -> None:
    hidden, shown = call(5, SECRET).pk, other(SECRET).pk
    for wanted in (Filter(text=SECRET), Filter(search=SECRET)):
        assert [task.id for task in task_list.page(wanted).tasks] == [shown]
    found = task_list.page(Filter(search="arguments.call")).tasks
    assert [task.id for task in found] == [hidden]
