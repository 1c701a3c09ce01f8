"""What a call may be given, at every way of enqueueing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from background_task.models import Task as Row

from bgtasks import background, exceptions
from bgtasks.dialects.celery import shared_task
from bgtasks.dialects.django_q import async_task
from tests.bgtasks.dialects.django_q.helpers import APP, install

pytestmark = pytest.mark.django_db


@background
def plain(*args: Any, **kwargs: Any) -> None: ...


@shared_task
def shared(*args: Any, **kwargs: Any) -> None: ...


@shared_task(bind=True)
def bound(self: Any, *args: Any, **kwargs: Any) -> None: ...


@pytest.fixture(autouse=True)
def _empty_queue(db: None) -> None:
    Row.objects.all().delete()


APPLY = pytest.mark.parametrize(
    "apply", [plain.apply_async, shared.apply_async, bound.apply_async, shared.proxy.apply_async],
    ids=["bgtasks", "celery", "celery, bound", "celery, the row's task"],
)  # fmt: skip


# --- arguments that are given as one value


@APPLY
@pytest.mark.parametrize(
    "args",
    [{"user_id": 5}, "s", "several", b"s", 5, {1, 2}, iter([1]), {"a": 1}.values(), range(2)],
    ids=lambda value: type(value).__name__,
)
def test_p8_positional_arguments_that_are_no_list_are_refused(
    apply: Callable[..., Any], args: Any
) -> None:
    with pytest.raises(TypeError, match=f"of type {type(args).__name__}. Give a list or tuple"):
        apply(args)
    assert not Row.objects.exists()


@APPLY
@pytest.mark.parametrize("kwargs", ["s", [("a", 1)], 5, {"a"}, {1: 2}, {None: 1}], ids=repr)
def test_p8_keyword_arguments_that_are_no_dict_of_texts_are_refused(
    apply: Callable[..., Any], kwargs: Any
) -> None:
    with pytest.raises(TypeError, match=r"[Kk]eyword argument.* Give a dict|: give a text"):
        apply([1], kwargs)
    assert not Row.objects.exists()


@APPLY
@pytest.mark.parametrize(
    ("given", "params"),
    [
        (([1, "s"],), '[[1, "s"], {}]'),
        (((1, "s"), {"a": 1}), '[[1, "s"], {"a": 1}]'),
        ((None, None), "[[], {}]"),
        (([{"user_id": 5}],), '[[{"user_id": 5}], {}]'),
    ],
)
def test_lists_tuples_and_dicts_are_taken(
    apply: Callable[..., Any], given: Any, params: str
) -> None:
    apply(*given)
    assert Row.objects.get().task_params == params


@pytest.mark.parametrize(
    ("iterables", "text"),
    [
        ((), "without arguments"),
        (("several",), "Argument 1 of .* is of type str"),
        (([1, 2], "ab"), "Argument 2 of .* is of type str"),
        ((b"ab",), "is of type bytes"),
        (({"a": 1},), "is of type dict"),
        ((5,), "is of type int"),
        ((None,), "is of type NoneType"),
    ],
)
def test_p8_what_is_no_list_of_values_is_not_mapped(iterables: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        plain.map(*iterables)
    assert not Row.objects.exists()


def test_every_other_iterable_is_mapped() -> None:
    for values in ([1, 2], (1, 2), {1, 2}, range(2), iter([1, 2]), {"a": 1, "b": 2}.values()):
        assert len(plain.map(values)) == 2


@pytest.mark.parametrize("options", ["task_name", ["timeout"], 5, [("timeout", 5)]], ids=repr)
def test_p8_options_of_django_q_that_are_no_dict_are_refused(
    options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(APP, monkeypatch)
    with pytest.raises(exceptions.InvalidOption, match="q_options of async_task"):
        async_task(f"{APP}.tasks.multiply", 2, 3, q_options=options)
    assert not Row.objects.exists()
