"""What a task finds and leaves."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import translation

from bgtasks.running import isolation
from bgtasks.running.isolation import Surroundings

pytestmark = pytest.mark.django_db(transaction=True)
User = get_user_model()


def leak() -> None:
    transaction.atomic().__enter__()
    User.objects.create_user("leaked", "leaked@example.com")


def test_a_transaction_that_a_receiver_left_open_is_not_the_next_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    around = Surroundings(ours=True)
    around.enter()
    assert around.leave() == []
    leak()
    around.distrust()
    with caplog.at_level(logging.ERROR):
        around.enter()
    assert "between tasks" in caplog.text
    User.objects.create_user("kept", "kept@example.com")
    assert around.leave() == []
    assert [user.username for user in User.objects.all()] == ["kept"]


def test_a_transaction_that_was_open_before_stays_open() -> None:
    with transaction.atomic():
        around = Surroundings()
        around.enter()
        User.objects.create_user("kept", "kept@example.com")
        assert around.leave() == []
        assert connection.in_atomic_block
    assert User.objects.exists()


def test_a_leak_is_named_and_rolled_back() -> None:
    around = Surroundings()
    around.enter()
    leak()
    assert around.leave() == ["default"]
    assert not User.objects.exists()


def test_a_task_does_not_see_the_language_that_its_thread_has() -> None:
    with translation.override("de"):
        around = Surroundings()
        assert around.context().run(translation.get_language) != "de"


def test_with_debug_the_statements_of_a_task_are_forgotten_but_not_those_of_a_test(
    settings: Any,
) -> None:
    settings.DEBUG = True
    User.objects.exists()
    Surroundings().leave()
    assert connection.queries_log
    Surroundings(ours=True).leave()
    assert not connection.queries_log
    User.objects.exists()
    isolation._tidy()  # what coroutines share
    assert not connection.queries_log
