"""What a call may be given, at every way of enqueueing."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import background_task
import pytest
from background_task.models import Task as Row
from background_task.tasks import TaskSchedule
from background_task.tasks import tasks as registry
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from bgtasks import background, exceptions
from bgtasks.dialects.celery import Request, shared_task
from bgtasks.dialects.django_q import async_task
from bgtasks.dialects.django_tasks.framework import InvalidTask
from signup.models import User
from tests.bgtasks.dialects.django_q.helpers import APP, install
from tests.bgtasks.dialects.django_tasks.helpers import BACKEND, declare
from tests.conftest import run_queued

pytestmark = pytest.mark.django_db


@background
def plain(*args: Any, **kwargs: Any) -> None: ...


@background_task.background
def as_ever(*args: Any, **kwargs: Any) -> None: ...


@background(unique=True)
def once(*args: Any, **kwargs: Any) -> None: ...


@shared_task
def shared(*args: Any, **kwargs: Any) -> None: ...


@shared_task(bind=True)
def bound(self: Any, *args: Any, **kwargs: Any) -> None: ...


@pytest.fixture(autouse=True)
def _empty_queue(db: None) -> Iterator[None]:
    Row.objects.all().delete()
    before = dict(registry._tasks)
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


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


# --- options that make no sense

NOWHERE = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
BEFORE_TIME = datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))
NAN, INF = float("nan"), float("inf")
SPANS = ["soon", NAN, INF, -INF, 1e300, 10**40, timedelta.max, [5], {}, object(), b"5"]
MOMENTS = ["soon", 5, NAN, timedelta(1), [5], object(), NOWHERE, BEFORE_TIME]
PRIORITIES = ["high", 2**31, -(2**31), 10**40, 1.5, NAN, INF, [5], object()]
QUEUES = ["q" * 191, 5, ["slow"], b"slow", object(), "nul\x00", "half \ud800"]
NAMES = ["n" * 256, "nul\x00", "half \ud800"]
# What upstream's API takes, if the database holds it. SQLite holds much.
BEYOND_POSTGRESQL = connection.vendor != "sqlite"
NO_PRIORITIES = ["high", "", 10**40, NAN, INF, [5], object()]
NO_QUEUES, NO_TASK_NAMES = ["half \ud800"], [5, ["name"], "nul\x00", "half \ud800"]
if BEYOND_POSTGRESQL:
    NO_PRIORITIES += [2**31, -(2**31) - 1]
    NO_QUEUES += ["q" * 191, "nul\x00"]
    NO_TASK_NAMES.append("n" * 191)
TIMEOUTS = [0, -1, "soon", NAN, INF, 1e300, timedelta(1), [5]]
CREATORS = [5, "zoe", object(), AnonymousUser(), User()]
STARTS = [value for value in SPANS if value != {}] + [NOWHERE, BEFORE_TIME, timedelta.min]
SCHEDULES = [
    *STARTS,
    *({"run_at": value} for value in STARTS),
    *({"priority": value} for value in NO_PRIORITIES),
    TaskSchedule(run_at=timedelta.max),
    TaskSchedule(run_at="soon"),
    TaskSchedule(priority="high"),
]
REPEATS = ["soon", -1, 0.5, NAN, INF, 10**40, 2**63, timedelta(seconds=0.5), [5]]

OF_A_CALL = {
    "schedule": SCHEDULES,
    "priority": NO_PRIORITIES,
    "queue": NO_QUEUES,
    "creator": CREATORS,
    "repeat": REPEATS,
    "repeat_until": MOMENTS,
}
OF_APPLY_ASYNC = {
    "countdown": [*SPANS, -1, timedelta(-1)],
    "eta": MOMENTS,
    "expires": [*SPANS, -1, NOWHERE, BEFORE_TIME],
    "queue": QUEUES,
    "priority": PRIORITIES,
    "timeout": TIMEOUTS,
    "creator": CREATORS,
}
OF_CELERY = {
    "countdown": [value for value in SPANS if value != -INF],  # that is past, which means now
    **{name: OF_APPLY_ASYNC[name] for name in ("eta", "expires", "queue", "priority")},
    "time_limit": TIMEOUTS,
}
OF_DJANGO_Q = {"timeout": TIMEOUTS, "task_name": [*NAMES, "5", 5, [5], object()]}
CALLS: dict[str, tuple[Callable[..., Any], dict[str, list[Any]]]] = {
    "task()": (plain, OF_A_CALL),
    "task() as ever": (as_ever, OF_A_CALL),
    "map()": (lambda **options: plain.map([1, 2], **options), OF_A_CALL),
    "map() of a unique task": (lambda **options: once.map([1, 2], **options), OF_A_CALL),
    "apply_async()": (plain.apply_async, OF_APPLY_ASYNC),
    "celery": (shared.apply_async, OF_CELERY),
    "async_task()": (lambda **options: async_task(f"{APP}.tasks.multiply", **options), OF_DJANGO_Q),
    "async_task(sync=True)": (
        lambda **options: async_task(f"{APP}.tasks.multiply", sync=True, **options),
        OF_DJANGO_Q,
    ),
}
# What an error text calls an option, where that is not the option's own name.
CALLED = {"time_limit": "timeout"}


@pytest.fixture
def _app(monkeypatch: pytest.MonkeyPatch) -> None:
    install(APP, monkeypatch)


@pytest.mark.usefixtures("_app")
@pytest.mark.parametrize(
    ("way", "option"), [(way, option) for way, (_, table) in CALLS.items() for option in table]
)
def test_p8_an_option_of_a_call_that_makes_no_sense_is_refused_by_its_name(
    way: str, option: str
) -> None:
    call, table = CALLS[way]
    for value in table[option]:
        with pytest.raises(exceptions.InvalidOption) as error:
            pytest.fail(f"took {option}={value!r}: {call(**{option: value})!r}")
        assert CALLED.get(option, option) in str(error.value)
    assert not Row.objects.exists()


OF_BACKGROUND = {
    "schedule": SCHEDULES,
    "queue": NO_QUEUES,
    "priority": PRIORITIES,
    "timeout": TIMEOUTS,
    "max_attempts": [0, -1, "3", 1.5, NAN, [5]],
    "backoff": ["soon", -1, NAN, INF, [], [None], ["soon"], {}, timedelta(1)],
    "unique": ["key", 1, None],
    "cron": ["soon", 5, ""],
    "on_worker_lost": ["retry", None, True],
    "name": NO_TASK_NAMES,
}
OF_SHARED_TASK = {
    "queue": NO_QUEUES,
    "priority": PRIORITIES,
    "time_limit": TIMEOUTS,
    "max_retries": [-1, "3", 1.5, NAN, [5]],
    "default_retry_delay": [-1, *SPANS],
    "expires": [-1, *SPANS],
    "retry_backoff": [-1, "soon", NAN, [5]],
    "retry_backoff_max": [-1, "soon", NAN, [5]],
    "name": NO_TASK_NAMES,
}
DECORATORS = {
    "background": (background, OF_BACKGROUND),
    "background_task.background": (background_task.background, OF_BACKGROUND),
    "shared_task": (shared_task, OF_SHARED_TASK),
}


def function() -> None: ...


@pytest.mark.parametrize(
    ("way", "option"), [(way, option) for way, (_, table) in DECORATORS.items() for option in table]
)
def test_p8_an_option_of_a_decorator_that_makes_no_sense_is_refused_by_its_name(
    way: str, option: str
) -> None:
    decorator, table = DECORATORS[way]
    before = dict(registry._tasks)
    for value in table[option]:
        with pytest.raises(exceptions.InvalidOption) as error:
            pytest.fail(f"took {option}={value!r}: {decorator(**{option: value})(function)!r}")
        assert CALLED.get(option, option) in str(error.value)
    assert registry._tasks == before


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("priority", [*PRIORITIES, 101]),
        ("queue_name", ["q" * 191, 5, ["slow"], "nul\x00"]),
        ("run_after", MOMENTS),
    ],
)
def test_p8_an_option_of_djangos_tasks_that_makes_no_sense_is_refused_by_its_name(
    option: str, values: list[Any], settings: Any
) -> None:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": []}}
    task = declare(function)
    for value in values:
        with pytest.raises(InvalidTask) as error:
            pytest.fail(f"took {option}={value!r}: {task.using(**{option: value})!r}")
        assert option.partition("_name")[0] in str(error.value).lower()


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("countdown", SPANS),
        ("eta", MOMENTS),
        ("max_retries", ["3", 1.5, NAN, [5], object()]),
    ],
)
def test_p8_an_option_of_a_retry_that_makes_no_sense_is_refused_by_its_name(
    option: str, values: list[Any]
) -> None:
    request = Request(id="1", task=bound.name, called_directly=False)
    with bound._running(request):
        for value in values:
            if value == -INF or value == BEFORE_TIME:
                continue  # that is past, which means now
            with pytest.raises(exceptions.InvalidOption, match=option):
                bound.retry(**{option: value})


# --- options that make sense

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Queue(enum.Enum):
    SLOW = "slow"


class TextQueue(str, enum.Enum):  # noqa: UP042, its str() is another one
    SLOW = "slow"


class StringQueue(enum.StrEnum):
    SLOW = "slow"


ON_SQLITE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"priority": 2**40}, {"priority": 2**40}),
    ({"priority": -(2**40)}, {"priority": -(2**40)}),
    ({"queue": "q" * 191}, {"queue": "q" * 191}),
    ({"queue": "nul\x00"}, {"queue": "nul\x00"}),
]


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"schedule": 0}, {}),
        ({"schedule": -5}, {}),
        ({"schedule": 0.5}, {}),
        ({"schedule": {"run_at": "2026-01-01T00:00:00Z"}}, {"run_at": NEW_YEAR}),
        ({"schedule": datetime.max.replace(tzinfo=UTC)}, {}),
        ({"schedule": ""}, {}),
        ({"schedule": []}, {}),
        ({"schedule": {"run_at": ""}}, {}),
        ({"schedule": timedelta(days=-73000)}, {}),
        ({"schedule": timedelta(days=2_000_000)}, {}),
        ({"schedule": -(10**10)}, {}),
        ({"schedule": {"priority": 3, "action": None}}, {"priority": 3}),
        ({"schedule": {"priority": 1.5, "action": "soon"}}, {"priority": 1}),
        ({"schedule": TaskSchedule(action=7)}, {}),
        ({"schedule": TaskSchedule(run_at=60, priority=4)}, {"priority": 4}),
        ({"priority": None}, {"priority": 0}),
        ({"priority": "5"}, {"priority": 5}),
        ({"priority": -1.5}, {"priority": -1}),
        ({"priority": -(2**31)}, {"priority": -(2**31)}),
        ({"priority": 2**31 - 1}, {"priority": 2**31 - 1}),
        ({"priority": 1 - 2**31}, {"priority": 1 - 2**31}),
        ({"queue": None}, {"queue": None}),
        ({"queue": "q" * 190}, {"queue": "q" * 190}),
        ({"queue": gettext_lazy("slow")}, {"queue": "slow"}),
        ({"queue": 5}, {"queue": "5"}),
        ({"queue": Queue.SLOW}, {"queue": "Queue.SLOW"}),
        ({"queue": TextQueue.SLOW}, {"queue": "slow"}),
        ({"queue": StringQueue.SLOW}, {"queue": "slow"}),
        ({"verbose_name": gettext_lazy("a name")}, {"verbose_name": "a name"}),
        ({"verbose_name": 5}, {"verbose_name": "5"}),
        ({"verbose_name": "n" * 255}, {"verbose_name": "n" * 255}),
        ({"verbose_name": "n" * 256}, {"verbose_name": "n" * 254 + "…"}),
        ({"verbose_name": "nul\x00 \ud800"}, {"verbose_name": "nul\ufffd \ufffd"}),
        ({"repeat": 60.0}, {"repeat": 60}),
        ({"repeat": timedelta(days=110 * 365)}, {"repeat": 110 * 365 * 86400}),
        ({"repeat": 2**63 - 1}, {"repeat": 2**63 - 1}),
        ({"repeat": []}, {"repeat": 0}),
        ({"repeat_until": "2026-01-01T00:00:00Z"}, {"repeat_until": NEW_YEAR}),
        ({"creator": None}, {"creator_object_id": None}),
        *([] if BEYOND_POSTGRESQL else ON_SQLITE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("many", [False, True], ids=["one", "map"])
def test_p9_what_upstream_takes_is_taken(
    options: dict[str, Any], columns: dict[str, Any], many: bool
) -> None:
    if many:
        plain.map([1], **options)
    else:
        plain(1, **options)
    row = Row.objects.get()
    assert {name: getattr(row, name) for name in columns} == columns


@pytest.mark.parametrize("decorator", [background, background_task.background])
@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"queue": TextQueue.SLOW}, {"queue": "slow"}),
        ({"queue": gettext_lazy("slow")}, {"queue": "slow"}),
        ({"schedule": ""}, {}),
        ({"schedule": []}, {}),
        ({"schedule": timedelta(days=-73000)}, {}),
        ({"schedule": {"priority": 1.5, "action": "soon"}}, {"priority": 1}),
        *([] if BEYOND_POSTGRESQL else [({"name": "n" * 191}, {"task_name": "n" * 191})]),
    ],
)
def test_p9_what_upstreams_decorator_takes_is_taken_and_run(
    decorator: Any, options: dict[str, Any], columns: dict[str, Any]
) -> None:
    task = decorator(**options)(function)
    row = task()
    row.refresh_from_db()
    assert {name: getattr(row, name) for name in columns} == columns
    run_queued()
    assert not Row.objects.exists()


@pytest.mark.parametrize(("queue", "stored"), [(5, "5"), (Queue.SLOW, "Queue.SLOW")])
def test_p9_a_queue_that_is_no_text_is_taken_by_upstreams_decorator_alone(
    queue: Any, stored: str
) -> None:
    assert background_task.background(queue=queue)(function)().queue == stored
    with pytest.raises(exceptions.InvalidOption, match="give its name, a text"):
        background(queue=queue)(function)


def test_p9_an_unknown_action_of_a_schedule_enqueues_as_upstream_does_it() -> None:
    plain(1, schedule={"action": 7})
    plain(1, schedule={"action": 7})
    assert Row.objects.count() == 2


def test_p9_a_title_as_verbose_name_of_apply_async_is_cut_too() -> None:
    plain.apply_async([1], verbose_name="n" * 256)
    assert Row.objects.get().verbose_name == "n" * 254 + "…"


@pytest.mark.parametrize("schedule", [timedelta(days=-999999), -(10**12), -1e12])
def test_p8_a_delay_before_the_calendar_is_refused_with_its_sign(schedule: Any) -> None:
    with pytest.raises(exceptions.InvalidOption, match=r"is -.* beyond the calendar"):
        plain(1, schedule=schedule)


def test_without_use_tz_a_time_of_another_zone_is_taken_as_the_same_moment(settings: Any) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Tokyo"
    eta = datetime(2026, 1, 1, 0, 0, tzinfo=UTC)
    plain.apply_async([1], eta=eta, expires=eta)
    plain(1, schedule=eta, repeat_until=eta)
    shared.apply_async([1], eta=eta)
    at_nine = datetime(2026, 1, 1, 9, 0)  # noqa: DTZ001
    assert {row.run_at for row in Row.objects.all()} == {at_nine}


@pytest.mark.parametrize("countdown", [-1, -0.5, timedelta(-1), -INF, timedelta.min])
def test_p9_a_countdown_of_celery_that_is_past_means_now(countdown: Any) -> None:
    shared.apply_async([1], countdown=countdown)
    row = Row.objects.get()
    assert abs(row.run_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_p9_a_lazy_user_is_a_creator() -> None:
    user = User.objects.create_user("zoe", "zoe@example.com", "quite-Long-99")
    Row.objects.all().delete()
    plain(creator=SimpleLazyObject(lambda: user))
    assert Row.objects.get().creator == user
