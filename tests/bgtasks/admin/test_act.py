"""Acting on tasks in the admin: what is chosen, what is confirmed, what is done, and who may."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from bgtasks import AsyncResult
from bgtasks.admin import actions, work
from bgtasks.models import Action, Outcome, Task
from bgtasks.operations import matching
from bgtasks.queue import claims
from bgtasks.testing import run_pending
from tests.bgtasks.admin.helpers import (
    BASE,
    add,
    choose,
    do,
    once,
    page,
    raises,
    signed,
    succeed,
    told,
)

pytestmark = pytest.mark.django_db
ACT, WORK = f"{BASE}tasks/act/", f"{BASE}tasks/progress/"


def running() -> int:
    """The id of a task that a worker has."""
    row = add(5, 6)
    claims.claim_row(Task.objects.get(pk=row.pk), "bg~abc.0-1")
    return int(row.pk)


def logged() -> list[tuple[str, str]]:
    """What the admin's own log has: who, and what."""
    entries = LogEntry.objects.order_by("pk").select_related("user")
    return [(entry.user.username, entry.change_message) for entry in entries]


def test_a_retry_asks_first_and_then_tells_and_logs(operator: Client, failed: int) -> None:
    asked = choose(operator, "retry", failed).content.decode()
    assert "Retry: 1 task." in asked
    assert not Task.objects.exists()
    response = do(operator, "retry", failed, query="state=failed")
    assert told(response) == ["1 task was retried."]
    assert response.redirect_chain[-1][0] == f"{BASE}tasks/?state=failed"
    assert Task.objects.get().task_name == raises.name
    assert Action.objects.get().by == "zoe"
    assert logged() == [("zoe", f"Retry: 1 retried, 0 left ({failed})")]
    (entry,) = LogEntry.objects.all()
    assert entry.get_admin_url() == f"{BASE}tasks/{failed}/"


def test_each_action_does_what_it_says(operator: Client) -> None:
    later = [add(n, n, schedule=3600).pk for n in range(4)]
    do(operator, "run_now", later[0])
    assert Task.objects.get(pk=later[0]).run_at <= timezone.now()
    do(operator, "priority", later[1], options={"priority": "-5"})
    do(operator, "move", later[2], options={"queue": "slow"})
    assert logged()[-1] == (
        "zoe", f"Move to another queue: 1 moved, 0 left ({later[2]}; queue: slow)",
    )  # fmt: skip
    do(operator, "cancel", later[3])
    assert Task.objects.get(pk=later[1]).priority == -5
    assert Task.objects.get(pk=later[2]).queue == "slow"
    assert AsyncResult(later[3]).cancelled()
    held, ended = running(), succeed()
    do(operator, "cancel_running", held)
    assert AsyncResult(held).cancelled()
    do(operator, "delete", ended)
    assert not Outcome.objects.filter(pk=ended).exists()
    kinds = dict(Action.objects.values_list("task_id", "kind"))
    assert [kinds[pk] for pk in (*later, held, ended)] == [
        "run_now", "priority", "moved", "cancelled", "cancelled", "deleted",
    ]  # fmt: skip


def test_on_a_stale_page_what_has_changed_is_left_and_named(operator: Client, failed: int) -> None:
    succeeded, held = succeed(), running()
    response = do(operator, "retry", failed, succeeded, held, 99_999)
    done, left = told(response)
    assert done == "1 task was retried."
    assert "3 tasks were left as before" in left
    for reason in (
        f"Task {succeeded}: it has succeeded; only what has failed or was cancelled can be retried",
        f"Task {held}: it has not ended",
        "Task 99999: there is no such task, or not any more",
    ):
        assert reason in left
    (left,) = told(do(operator, "retry", failed))
    assert "it was retried already, as task" in left
    (left,) = told(do(operator, "cancel", succeeded, held))
    assert f"Task {succeeded}: it has succeeded." in left
    assert f"Task {held}: a worker has it." in left
    (left,) = told(do(operator, "delete", held))
    assert f"Task {held}: a worker has it." in left


def test_what_ends_between_the_question_and_the_answer_is_left(operator: Client) -> None:
    pk = add(1, 2).pk
    text = signed(choose(operator, "cancel", pk))
    AsyncResult(pk).revoke()
    response = operator.post(WORK, {"work": text}, follow=True)
    assert f"Task {pk}: it was cancelled." in told(response)[0]
    assert Action.objects.count() == 0


def test_a_retry_of_a_unique_task_whose_key_is_in_use_says_so(operator: Client) -> None:
    first = once("k").pk
    run_pending(raise_failures=False)
    second = once("k").pk
    (left,) = told(do(operator, "retry", first))
    assert f"{once.name} is unique, and task {second} has the same key" in left


def test_everything_that_matches_is_done_in_steps(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [add(n, n, queue="slow").pk for n in range(5)]
    kept = add(1, 2).pk
    monkeypatch.setattr(work, "STEP", 0)
    monkeypatch.setitem(actions.ACTIONS, "cancel", _in_twos("cancel"))
    asked = choose(operator, "cancel", all="1", query="queue=slow")
    assert "Cancel what waits: 5 tasks." in asked.content.decode()
    assert "Everything that matches: queue slow" in asked.content.decode()
    done, response = [], operator.post(WORK, {"work": signed(asked)}, follow=True)
    while "data-goes-on" in (text := response.content.decode()):
        done += re.findall(r"(\d+) tasks cancelled", text)
        later = add(9, 9, queue="slow").pk  # what is enqueued meanwhile does not count
        response = operator.post(WORK, {"work": signed(response)}, follow=True)
    assert done == ["2", "4"]
    assert told(response) == ["5 tasks were cancelled."]
    assert all(AsyncResult(pk).cancelled() for pk in ids)
    assert Task.objects.filter(pk__in=[kept, later]).count() == 2
    assert [text for _, text in logged()] == [
        "Cancel what waits: begun (queue slow)",
        "Cancel what waits: 5 cancelled, 0 left (queue slow)",
    ]


def _in_twos(name: str) -> Any:
    return replace(actions.ACTIONS[name], batch=2)


def test_a_large_number_is_not_counted_to_its_end(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        add(n, n)
    monkeypatch.setattr(matching, "MOST", 2)
    assert (
        "Cancel what waits: more than 2 tasks."
        in choose(operator, "cancel", all="1", query="").content.decode()
    )


def test_a_period_is_fixed_when_it_is_confirmed(operator: Client, failed: int) -> None:
    response = choose(operator, "retry", all="1", query="within=hour&state=failed")
    conditions = response.context["work"].about
    assert "due since 20" in conditions
    assert "within" not in conditions
    assert told(operator.post(WORK, {"work": signed(response)}, follow=True)) == [
        "1 task was retried."
    ]


@pytest.mark.parametrize(
    ("action", "options", "text"),
    [
        ("priority", {"priority": "much"}, "Enter a whole number."),
        ("priority", {"priority": ""}, "This field is required."),
        ("priority", {"priority": str(2**40)}, "give a whole number from"),
        ("move", {"queue": "q" * 300}, "give at most 190"),
        ("move", {"queue": "a\0b"}, "Null characters are not allowed."),
    ],
)
def test_what_an_action_asks_for_is_checked(
    operator: Client, action: str, options: Any, text: str
) -> None:
    pk = add(1, 2).pk
    before = Task.objects.values().get()
    assert text in do(operator, action, pk, options=options).content.decode()
    assert Task.objects.values().get() == before


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"action": "retry"}, "Choose at least one task."),
        ({"action": "retry", "id": ["x", "9" * 30]}, "Choose at least one task."),
        ({"action": "", "id": "1"}, "Choose what to do."),
        ({"action": "explode", "id": "1"}, "Choose what to do."),
        ({"action": "retry", "all": "1", "query": "state=lost"}, "The filter makes no sense."),
        ({"action": "retry", "id": [str(n) for n in range(501)]}, "Choose 500 tasks at most"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_in_words(
    operator: Client, data: Any, text: str
) -> None:
    response = operator.post(ACT, data, follow=True)
    assert text in told(response)[0]


def test_a_step_that_is_not_signed_for_this_user_does_nothing(
    operator: Client, staff: Any, failed: int
) -> None:
    text = signed(choose(operator, "retry", failed))
    other = staff("view", "act", name="other")
    for client, given in ((other, text), (operator, text[:-1]), (operator, "")):
        response = client.post(WORK, {"work": given}, follow=True)
        assert "cannot be continued" in told(response)[0]
    assert not Task.objects.filter(task_name=raises.name).exists()


def test_whoever_comes_by_a_link_is_sent_to_the_list(operator: Client) -> None:
    for url in (ACT, WORK):
        assert operator.get(url).url == f"{BASE}tasks/"  # type: ignore[attr-defined]


def test_who_may_only_view_can_change_nothing(staff: Any, operator: Client, failed: int) -> None:
    viewer = staff("view", "pause", name="viewer")
    assert 'name="action"' not in page(viewer, "tasks/")
    assert 'name="action"' not in page(viewer, f"tasks/{failed}/")
    pk = add(1, 2).pk
    rows = list(Task.objects.values())
    text = signed(choose(operator, "retry", failed))
    for action in actions.ACTIONS:
        for data in ({"id": [pk, failed]}, {"all": "1"}):
            assert viewer.post(ACT, {"action": action, **data}).status_code == 403
    assert viewer.post(WORK, {"work": text}).status_code == 403
    for path in ("", "tasks/", f"tasks/{pk}/"):
        assert viewer.post(BASE + path, {"action": "cancel", "id": pk}).status_code in (403, 405)
    assert list(Task.objects.values()) == rows
    assert Action.objects.count() == LogEntry.objects.count() == 0


def test_who_may_act_but_not_view_is_refused(staff: Any, failed: int) -> None:
    assert choose(staff("act"), "retry", failed).status_code == 403


def test_requests_from_elsewhere_are_refused(operator: Client, failed: int) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert choose(strict, "retry", failed).status_code == 403
    assert strict.post(WORK, {"work": "x"}).status_code == 403


def test_an_action_on_a_tasks_own_page_leads_back_there(operator: Client, failed: int) -> None:
    response = do(operator, "retry", failed, back="1")
    assert response.redirect_chain[-1][0] == f"{BASE}tasks/{failed}/"
    response = do(operator, "delete", failed, back="1")
    assert response.redirect_chain[-1][0] == f"{BASE}tasks/?"
    assert told(response) == ["1 task was deleted."]
