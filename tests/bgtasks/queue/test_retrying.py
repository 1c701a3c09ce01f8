"""What has failed or was cancelled is retried: once, with the same arguments and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from background_task.models import Task
from django.db.models.signals import post_save
from django.utils import timezone

from bgtasks import AsyncResult, background
from bgtasks.calls import submit
from bgtasks.exceptions import NotRetried
from bgtasks.models import Action, Outcome
from bgtasks.queue import call_options, retrying
from bgtasks.testing import run_pending
from signup.models import User
from tests.harness.deployment import Deployment
from tests.harness.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@background(name="tests.retrying.fail", max_attempts=1)
def fail(*args: Any, **kwargs: Any) -> None:
    raise ValueError(args)


@background(name="tests.retrying.only_one", max_attempts=1, unique=True)
def only_one(*args: Any) -> None:
    raise ValueError(args)


@background(name="tests.retrying.succeed")
def succeed() -> None: ...


def failed(task: Any = fail, *args: Any, **kwargs: Any) -> AsyncResult:
    result = AsyncResult(task(*args, **kwargs))
    run_pending(raise_failures=False)
    assert result.failed()
    return result


def run_each_alone(**_: Any) -> None: ...


@pytest.fixture(params=["together", "alone"])
def either(request: pytest.FixtureRequest) -> Any:
    """Many at once by few statements, or one by one, for a receiver has to see each row."""
    if request.param == "alone":
        post_save.connect(run_each_alone, sender=Task)
    yield
    post_save.disconnect(run_each_alone, sender=Task)


@pytest.mark.parametrize("key", [7, 2**40], ids=["a creator's key", "a large one"])
def test_a_retried_task_has_what_the_first_one_had(either: None, key: int) -> None:
    user = User.objects.create_user("zoe", "zoe@example.com", "quite-Long-99", pk=key)
    options = {"timeout": 30, "expires": timezone.now().timestamp() + 60}
    row = submit(fail, [1], {"b": [2]}, options=options, priority=5, queue="slow", creator=user)
    run_pending(raise_failures=False)
    result = AsyncResult(row)
    again = result.retry("zoe")
    assert (again.status, result.status) == ("PENDING", "FAILURE")
    row = Task.objects.get(pk=again.id)
    assert (row.params(), row.priority, row.queue) == (([1], {"b": [2]}), 5, "slow")
    assert (row.attempts, row.creator, row.failed_at, row.last_error) == (0, user, None, "")
    assert row.run_at <= timezone.now()
    assert call_options.load(row) == {"timeout": 30}
    action = Action.objects.get()
    assert (action.task_id, action.kind, action.by, action.other_id) == (
        result.id, "retried", "zoe", again.id,
    )  # fmt: skip
    run_pending(raise_failures=False)
    assert again.failed()


def test_it_is_retried_once_and_its_retry_once_more(either: None) -> None:
    result = failed()
    again = result.retry()
    with pytest.raises(NotRetried, match=f"retried already, as task {again.id}"):
        result.retry()
    run_pending(raise_failures=False)
    assert again.retry().status == "PENDING"


def test_what_was_cancelled_is_retried(either: None) -> None:
    result = AsyncResult(fail(1))
    result.revoke()
    assert result.retry().status == "PENDING"


def of_success() -> AsyncResult:
    result = AsyncResult(succeed())
    run_pending()
    return result


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (of_success, "it has succeeded"),
        (lambda: AsyncResult(fail(1)), "it waits or runs"),
        (lambda: AsyncResult(10**9), "no such task"),
        (lambda: AsyncResult(10**19), "no such task"),
    ],
)
def test_what_cannot_be_retried_is_refused(make: Callable[[], AsyncResult], reason: str) -> None:
    with pytest.raises(NotRetried, match=reason):
        make().retry()


def test_a_repeating_task_is_retried_without_its_repetition(either: None) -> None:
    result = failed(fail, repeat=60)
    again = result.retry()
    assert Task.objects.get(pk=again.id).repeat == 0


def test_an_expiry_of_the_first_time_does_not_hold(either: None) -> None:
    result = AsyncResult(submit(fail, options={"expires": 1}))
    run_pending(raise_failures=False)
    assert result.cancelled()
    again = result.retry()
    run_pending(raise_failures=False)
    assert not again.cancelled()


def test_a_retry_whose_unique_key_is_in_use_is_refused() -> None:
    result = failed(only_one, 1)
    other = AsyncResult(only_one(1))
    with pytest.raises(NotRetried, match=f"is unique, and task {other.id} has the same key"):
        result.retry()
    assert not Action.objects.exists()
    other.revoke()
    again = result.retry()
    assert AsyncResult(only_one(1)) == again


def test_two_who_retry_the_same_at_once_retry_it_once() -> None:
    ids = [AsyncResult(fail(n)).id for n in range(50)]
    run_pending(raise_failures=False)
    assert sum(in_threads(4, lambda _: len(retrying.retry(ids).ids))) == 50
    assert Task.objects.count() == 50
    assert {*Action.objects.values_list("other_id", flat=True)} == {
        *Task.objects.values_list("pk", flat=True)
    }
    assert Outcome.objects.count() == 50


def test_the_key_of_a_unique_task_holds_in_a_process_that_has_not_imported_it(
    project: Deployment,
) -> None:
    code = (
        "first = tasks.unique_by_arguments('a')\n"
        "from bgtasks import AsyncResult\nAsyncResult(first.pk).revoke()\n"
        "print(first.pk, tasks.unique_by_arguments('a').pk)"
    )
    first, second = project.run(code).split()
    done = project.manage("tasks", "retry", first)
    assert f"is unique, and task {second} has the same key" in done.stderr
    assert len(project.rows()) == 1
