"""Forgetting what was done long ago."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha1
from typing import Any
from unittest.mock import Mock

import pytest
from background_task.models import CompletedTask
from django.db.models.signals import post_delete
from django.utils import timezone

from bgtasks import conf
from bgtasks.models import Action, Attempt, Outcome
from bgtasks.queue import enqueue, pruning
from tests.bgtasks.queue.helpers import rows

pytestmark = pytest.mark.django_db(transaction=True)


def outcome(state: str, days: float) -> Outcome:
    completed = CompletedTask.objects.create(
        task_name="t", task_params="[[], {}]", task_hash="h", run_at=timezone.now()
    )
    Attempt.objects.create(
        task_id=completed.pk, number=1, state="failed", ended_at=timezone.now(), error="e"
    )
    return Outcome.objects.create(
        task_id=completed.pk,
        completed_id=completed.pk,
        state=state,
        attempts=1,
        finished_at=timezone.now() - timedelta(days=days),
    )


def test_outcomes_are_pruned_by_age_and_state_with_all_that_belongs_to_them() -> None:
    old, failed = outcome("succeeded", 8), outcome("failed", 8)
    young, ancient = outcome("succeeded", 6), outcome("failed", 91)
    assert sum(pruning.prune(conf.retention())) == 2
    kept = {failed.pk, young.pk}
    assert set(Outcome.objects.values_list("pk", flat=True)) == kept
    assert set(CompletedTask.objects.values_list("pk", flat=True)) == kept
    assert set(Attempt.objects.values_list("task_id", flat=True)) == kept
    assert {old.pk, ancient.pk}.isdisjoint(kept)


def test_a_state_can_be_kept_for_ever(settings: Any) -> None:
    settings.BGTASKS_RETENTION = {"failed": None, "succeeded": timedelta(days=1)}
    outcome("failed", 10_000)
    outcome("succeeded", 2)
    assert sum(pruning.prune(conf.retention())) == 1
    assert Outcome.objects.get().state == "failed"


def test_pruning_goes_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    monkeypatch.setattr(pruning, "BATCH_OF_STATEMENT", 2)
    for _ in range(5):
        outcome("succeeded", 8)
    assert list(pruning.prune(conf.retention())) == [2, 2, 1]


def test_whoever_watches_deletions_sees_each() -> None:
    seen = []

    def see(instance: CompletedTask, **_: object) -> None:
        seen.append(instance.pk)

    old = [outcome("succeeded", 8) for _ in range(3)]
    post_delete.connect(see, sender=CompletedTask)
    try:
        assert sum(pruning.prune(conf.retention())) == 3
    finally:
        post_delete.disconnect(see, sender=CompletedTask)
    assert sorted(seen) == [each.completed_id for each in old]
    assert not Attempt.objects.exists()


def test_rows_that_refer_to_completed_tasks_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pruning._is_deleting_watched()
    hidden = Mock(auto_created=True, concrete=False)  # as of a ForeignKey with related_name="+"

    def fields(include_hidden: bool = False) -> list[Mock]:
        return [hidden] if include_hidden else []

    monkeypatch.setattr(CompletedTask._meta, "get_fields", fields)
    assert pruning._is_deleting_watched()


def test_outcomes_of_one_moment_are_pruned_in_several_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    monkeypatch.setattr(pruning, "BATCH_OF_STATEMENT", 2)
    for _ in range(5):
        outcome("succeeded", 8)
    Outcome.objects.update(finished_at=timezone.now() - timedelta(days=8))
    assert sum(pruning.prune(conf.retention())) == 5
    assert not Outcome.objects.exists()
    assert not CompletedTask.objects.exists()


def test_what_a_stock_worker_left_is_kept_unless_asked() -> None:
    CompletedTask.objects.create(
        task_name="t",
        task_params="[[], {}]",
        task_hash="h",
        run_at=timezone.now() - timedelta(days=1000),
    )
    assert sum(pruning.prune(conf.retention())) == 0
    assert sum(pruning.prune_upstream(timedelta(days=2000))) == 0
    assert sum(pruning.prune_upstream(timedelta(days=999))) == 1


def test_attempts_of_rows_that_were_deleted_are_pruned_too() -> None:
    (row,) = rows(1)
    for task_id in (row.pk, row.pk + 1):
        Attempt.objects.create(
            task_id=task_id,
            number=1,
            state="failed",
            ended_at=timezone.now() - timedelta(days=91),
            error="e",
        )
    assert sum(pruning.prune(conf.retention())) == 1
    assert Attempt.objects.get().task_id == row.pk


def test_enqueue_fingerprints_are_names_and_parameters() -> None:
    assert enqueue.fingerprint("a", "b") == sha1(b"ab").hexdigest()


def test_actions_are_pruned_with_their_tasks() -> None:
    old, young = outcome("failed", 91), outcome("failed", 1)
    now = timezone.now()
    for task_id in (old.pk, young.pk, 10**9):
        Action.objects.create(task_id=task_id, kind="retried", at=now - timedelta(days=100))
    list(pruning.prune(conf.retention()))
    assert [action.task_id for action in Action.objects.all()] == [young.pk]
