"""The setting TASKS."""

from __future__ import annotations

from typing import Any

import django
import pytest
from django.apps import apps

if django.VERSION >= (6,):
    from django import tasks as framework
else:
    import django_tasks as framework
from tests.bgtasks.dialects.django_tasks.helpers import BACKEND, backend


def test_a_backend_is_found_by_its_alias_and_the_default_one_besides() -> None:
    assert type(backend()).__name__ == "DatabaseBackend"
    assert framework.default_task_backend.alias == backend().alias == "default"


def test_it_supports_all_that_a_backend_can() -> None:
    flags = [name for name in dir(backend()) if name.startswith("supports_")]
    assert sorted(flags) == [
        "supports_async_task", "supports_defer", "supports_get_result", "supports_priority"
    ]  # fmt: skip
    assert all(getattr(backend(), flag) for flag in flags)


def found(settings: Any, **options: Any) -> list[str]:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}
    return [f"{message.id} {message.msg}" for message in backend().check()]


def test_the_checks_find_nothing_wrong_with_a_right_setting(settings: Any) -> None:
    assert found(settings) == []
    assert found(settings, max_attempts=None, backoff=[1, 5], on_worker_lost="fail") == []


def test_the_checks_name_an_option_that_nobody_reads(settings: Any) -> None:
    (message,) = found(settings, max_attempts=3, max_retries=2, retries=4)
    assert message.startswith("bgtasks.E011")
    assert "max_retries, retries" in message
    assert 'TASKS["default"]' in message


def test_the_checks_refuse_an_option_that_makes_no_sense(settings: Any) -> None:
    (message,) = found(settings, max_attempts=0)
    assert message.startswith("bgtasks.E011")
    assert "max_attempts" in message


def test_the_checks_say_if_bgtasks_is_not_installed(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tasks: Any
) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "bgtasks")
    (message,) = found(settings)
    assert message.startswith("bgtasks.E010")
    with pytest.raises(django.core.exceptions.ImproperlyConfigured, match="bgtasks"):
        tasks.double.enqueue(1)
