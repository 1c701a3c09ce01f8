"""Which task enqueued which."""

from __future__ import annotations

from typing import Any

import pytest

from bgtasks import background, current_task
from bgtasks.calls import submit
from bgtasks.models import Child, Outcome
from bgtasks.queue import families, pruning
from bgtasks.tasks import current
from bgtasks.testing import run_pending
from tests.harness.deployment import Deployment


@background
def child(number: int = 0) -> None: ...


@background(unique=True)
def only(key: str) -> None: ...


@background(max_attempts=2, backoff=0)
def twice() -> None:
    child(current_task().attempt)
    if current_task().attempt == 1:
        raise ValueError("not yet")


@background
def several() -> None:
    only("a")
    child.map(range(3))


def all_children(parent: Any) -> list[int]:
    return families.children_of(parent.pk, 100)


@pytest.mark.django_db(transaction=True)
class TestOneProcess:
    def test_a_child_and_its_parent_name_each_other(self) -> None:
        parent = several()
        run_pending()
        found = all_children(parent)
        assert len(found) == 4
        assert {families.parent_of(pk) for pk in found} == {parent.pk}
        assert families.parent_of(parent.pk) is None
        assert families.children_of(parent.pk, 2) == found[:2]

    def test_who_finds_the_row_of_a_unique_task_is_not_its_parent(self) -> None:
        there = only("a")
        parent = several(priority=1)  # it runs first
        run_pending()
        assert families.parent_of(there.pk) is None
        assert len(all_children(parent)) == 3

    def test_each_attempt_has_its_children(self) -> None:
        parent = twice()
        run_pending(raise_failures=False)
        assert len(all_children(parent)) == 2

    def test_what_follows_a_task_is_its_child(self) -> None:
        parent = submit(child, [1], options={"then": only.name})
        run_pending()
        (follower,) = all_children(parent)
        assert Outcome.objects.filter(pk=follower).exists()

    def test_a_multitude_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(current, "MOST_CHILDREN", 2)
        parent = several()
        run_pending()
        assert len(all_children(parent)) == 2

    def test_without_children_nothing_is_written(self, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            families.write([])
        child()
        run_pending()
        assert not Child.objects.exists()

    def test_they_are_pruned_with_the_child(self) -> None:
        parent = several()
        run_pending()
        first, *others = all_children(parent)
        pruning.forget({first: 0})
        assert all_children(parent) == others


def test_a_worker_writes_them_with_the_endings(project: Deployment) -> None:
    project.run("[tasks.enqueue_some(3) for _ in range(40)]")
    project.drain("--processes", "2")
    pairs = project.rows("bgtasks_child")
    parents = [row["parent_id"] for row in pairs]
    assert len(pairs) == 120
    assert all(parents.count(parent) == 3 for parent in set(parents))
    assert all(row["task_id"] > row["parent_id"] for row in pairs)
