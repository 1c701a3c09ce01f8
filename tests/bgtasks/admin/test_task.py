"""The page of one task in the admin."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from bgtasks import AsyncResult
from bgtasks.admin import traces
from bgtasks.models import Action, Attempt, Child, IdMark, Outcome, Task
from bgtasks.queue import acting, retrying
from bgtasks.queue.id_marks import IdWatch
from signup.models import User
from tests.bgtasks.admin.helpers import BASE, add, fail, page, raises, succeed

pytestmark = pytest.mark.django_db


def test_a_failed_task_has_every_attempt_with_its_whole_traceback(operator: Client) -> None:
    pk = fail(1, name="<b>")
    text = page(operator, f"tasks/{pk}/")
    for fact in (
        "failed", raises.name, "1, name=&#x27;&lt;b&gt;&#x27;", "1 of 1",
        "attempt 1 failed: ValueError: in vain", "Traceback (most recent call last):",
        '<span class="bgtasks-own">  File &quot;' + __file__.replace("test_task", "helpers"),
        "bg~testing",
    ):  # fmt: skip
        assert fact in text, fact
    assert "Result" not in text


def test_a_result_is_shown_as_json(operator: Client) -> None:
    assert ">3</pre>" in page(operator, f"tasks/{succeed()}/")


def test_a_retry_and_its_task_link_to_each_other(operator: Client, failed: int) -> None:
    again = retrying.retry([failed], by="zoe").ids[failed]
    old, new = page(operator, f"tasks/{failed}/"), page(operator, f"tasks/{again}/")
    assert f'<dt>Retried as</dt><dd><a href="{BASE}tasks/{again}/">' in old
    assert f'<dt>Retry of</dt><dd><a href="{BASE}tasks/{failed}/">' in new
    assert "enqueued, as a retry of" in new
    assert "<small>by zoe</small>" in old


def test_a_task_and_those_that_it_has_enqueued_link_to_each_other(operator: Client) -> None:
    parent, child = add(1, 2).pk, add(3, 4).pk
    Child.objects.create(task_id=child, parent_id=parent)
    link = f'<dt>Has enqueued</dt><dd><a href="{BASE}tasks/{child}/">task {child}</a></dd>'
    assert link in page(operator, f"tasks/{parent}/")
    link = f'<dt>Enqueued by</dt><dd><a href="{BASE}tasks/{parent}/">task {parent}</a></dd>'
    assert link in page(operator, f"tasks/{child}/")
    Child.objects.bulk_create(Child(task_id=9000 + n, parent_id=parent) for n in range(20))
    assert "task 9018</a> and more</dd>" in page(operator, f"tasks/{parent}/")


def test_the_time_line_says_when_a_task_was_enqueued(operator: Client) -> None:
    watch = IdWatch()
    watch.look()
    first = add(1, 2, schedule=timedelta(days=1)).pk
    watch.look()
    mark = IdMark.objects.get(pk=first)
    mark.after = mark.at - timedelta(seconds=5)
    mark.save()
    IdMark.objects.exclude(pk=first).delete()
    assert "enqueued, or up to 5.000\xa0s later</span>" in page(operator, f"tasks/{first}/")
    acting.set_priority([first], 5)
    Action.objects.update(at=mark.after + timedelta(seconds=2))
    assert "enqueued, or up to 2.000\xa0s later</span>" in page(operator, f"tasks/{first}/")
    IdMark.objects.update(after=None)
    assert "enqueued, or earlier</span>" in page(operator, f"tasks/{first}/")


def test_the_log_says_who_did_what(operator: Client) -> None:
    pk = add(1, 2).pk
    acting.set_priority([pk], 5, by="zoe")
    AsyncResult(pk).revoke()
    text = page(operator, f"tasks/{pk}/")
    assert "priority changed to 5" in text
    assert "Cancelled: it was revoked" in text


def test_the_creator_leads_to_all_of_their_tasks(operator: Client) -> None:
    user = User.objects.create_user("creator")
    pk = add(1, 2, creator=user).pk
    assert f"tasks/?creator=signup.user%3A{user.pk}" in page(operator, f"tasks/{pk}/")


def test_the_rows_behind_a_task_are_linked_to_whoever_may_see_them(
    admin_client: Client, operator: Client, failed: int
) -> None:
    attempt = Attempt.objects.get(task_id=failed).pk
    outcome = Outcome.objects.get(pk=failed)
    urls = [
        f"/admin/bgtasks/attempt/{attempt}/change/",
        f"/admin/bgtasks/outcome/{failed}/change/",
        f"/admin/background_task/completedtask/{outcome.completed_id}/change/",
    ]
    text = page(admin_client, f"tasks/{failed}/")
    assert all(url in text for url in urls)
    for url in urls[:2]:
        back = admin_client.get(url).content.decode()
        assert f'<a href="{BASE}tasks/{failed}/">task {failed}</a>' in back
    assert "/change/" not in page(operator, f"tasks/{failed}/")


@pytest.mark.parametrize("pk", ["0", "123456", "9" * 40, "x"])
def test_a_task_that_is_not_there_is_not_found(operator: Client, pk: str) -> None:
    assert operator.get(f"{BASE}tasks/{pk}/").status_code == 404


def test_what_cannot_be_read_is_shown_as_it_is(operator: Client) -> None:
    pk = add(1, 2).pk
    Task.objects.filter(pk=pk).update(task_params="{no json")
    assert "{no json" in page(operator, f"tasks/{pk}/")
    assert "{no json" in page(operator, "tasks/")
    gone = ContentType.objects.create(app_label="gone", model="gone")
    Task.objects.filter(pk=pk).update(creator_content_type=gone, creator_object_id=1)
    assert "Creator" not in page(operator, f"tasks/{pk}/")
    Task.objects.all().delete()
    pk = succeed()
    Outcome.objects.filter(pk=pk).update(result="[no json")
    assert "[no json" in page(operator, f"tasks/{pk}/")


@pytest.mark.any_database
def test_frames_of_the_project_stand_out_of_a_traceback() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/srv/shop/tasks.py", line 3, in charge\n'
        "    pay()\n"
        "    ^^^\n"
        '  File "/venv/lib/python3.13/site-packages/pay/api.py", line 9, in pay\n'
        "    raise Refused\n"
        "pay.Refused: no\n"
        "  money\n"
    )
    found = traces.parts(text)
    assert "".join(part.text for part in found) == text
    assert [(part.kind, part.text.split("\n")[0][:20]) for part in found] == [
        ("", "Traceback (most rece"),
        ("own", '  File "/srv/shop/ta'),
        ("foreign", '  File "/venv/lib/py'),
        ("", "pay.Refused: no"),
    ]
