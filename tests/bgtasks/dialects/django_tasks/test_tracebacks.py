"""What a traceback says."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import django
import pytest

if django.VERSION >= (6,):
    pass
else:
    pass


class Odd(Exception):
    class Inner(Exception): ...


def caught(raise_it: Callable[[], Any]) -> BaseException:
    try:
        raise_it()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def chained() -> None:
    try:
        _ = {}["missing"]
    except KeyError as error:
        raise Odd("because\nbuiltins.Nothing: of this") from error


def raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("raise_it", "path"),
    [
        (lambda: 1 / 0, "builtins.ZeroDivisionError"),
        (lambda: compile("1 +", "x", "exec"), "builtins.SyntaxError"),
        (raising(KeyboardInterrupt()), "builtins.KeyboardInterrupt"),
        (raising(Odd.Inner("text: of: many: colons")), f"{__name__}.Odd.Inner"),
        (chained, f"{__name__}.Odd"),
    ],
)
def test_the_class_of_an_exception_is_read_from_its_traceback(
    raise_it: Callable[[], Any], path: str
) -> None:
    from bgtasks.dialects.django_tasks.runs import raised

    assert raised("".join(traceback.format_exception(caught(raise_it)))) == path


def test_of_a_story_that_is_no_traceback_there_is_no_class() -> None:
    from bgtasks.dialects.django_tasks.runs import raised

    assert raised("") is None
    assert raised("Its worker was told to end while this ran.") is None
