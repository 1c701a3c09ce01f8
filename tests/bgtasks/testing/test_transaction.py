"""Tasks inside the transaction of a test."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from bgtasks import exceptions
from bgtasks.models import Attempt
from bgtasks.testing import (
    run_pending,
)
from tests.bgtasks.testing.helpers import (
    catch_what_fails,
    leak,
    note,
    on_commit,
    ran,
    settle,
    settle_and_raise_on_commit,
    write_then_fail,
)


def test_an_error_of_the_database_ends_neither_the_test_nor_other_tasks(either: None) -> None:
    Group.objects.create(name="of the test")
    write_then_fail("twice")
    note("next")
    run_pending(raise_failures=False)
    assert ran == ["next"]
    assert "IntegrityError" in Attempt.objects.get().error
    # What came before the failing statement stays in a worker; a test's transaction cannot do that.
    kept = [] if connection.in_atomic_block else ["twice"]
    assert list(Group.objects.values_list("name", flat=True)) == ["of the test", *kept]


def test_one_that_is_caught_is_warned_of_where_it_undoes_all(atomic: None) -> None:
    catch_what_fails("a")
    with pytest.warns(RuntimeWarning, match=r"catch_what_fails caught an error .*\.atomic"):
        run_pending()
    assert not Group.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_and_not_where_it_undoes_nothing() -> None:
    catch_what_fails("a")
    run_pending()
    assert Group.objects.exists()


def test_a_transaction_that_is_left_open_fails_the_task(either: None) -> None:
    leak()
    with pytest.raises(exceptions.LeakedTransaction, match="left a transaction open on default"):
        run_pending()
    assert not Group.objects.exists()
    with transaction.atomic():  # all is well with the connection
        note("next")
    run_pending()
    assert ran == ["next"]


def test_what_a_task_wants_done_on_commit_is_done(either: None) -> None:
    committed = []
    if connection.in_atomic_block:
        transaction.on_commit(lambda: committed.append("the test's own"))
    on_commit("commit")
    run_pending()
    assert sorted(ran) == ["after", "commit"]
    assert committed == []


def test_an_atomic_task_that_fails_leaves_nothing_and_one_that_does_not_leaves_all(
    either: None,
) -> None:
    Group.objects.create(name="of the test")
    settle("in vain", fault=True)
    result = settle.delay("well")
    with pytest.raises(ValueError, match="in vain"):
        run_pending()
    run_pending()
    assert ran == ["committed by well", "enqueued by well"]
    assert result.result == "well"
    assert list(Group.objects.values_list("name", flat=True)) == ["of the test", "well"]


@pytest.mark.parametrize("fault", [False, True])
def test_an_atomic_task_in_eager_mode(either: None, settings: Any, fault: bool) -> None:
    settings.BGTASKS_EAGER = True
    settings.BGTASKS_EAGER_PROPAGATES = False
    result = settle.delay("eager", fault)
    assert result.successful() is not fault
    assert Group.objects.exists() is not fault
    assert ("committed by eager" in ran) is not fault


def test_what_is_called_on_commit_changes_nothing_in_the_outcome_of_an_atomic_task(
    either: None, caplog: pytest.LogCaptureFixture
) -> None:
    result = settle_and_raise_on_commit.delay()
    run_pending()
    assert result.successful()
    assert Group.objects.get().name == "settled"
    assert "ZeroDivisionError" in caplog.text
