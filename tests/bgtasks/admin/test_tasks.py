"""The list of tasks in the admin, its filters and its pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from bgtasks.models import Outcome, Progress, Task
from bgtasks.operations import task_list
from bgtasks.queue import claims
from signup.models import User
from tests.bgtasks.admin.helpers import BASE, add, fail, ids_in, page, raises, succeed

pytestmark = pytest.mark.django_db


def test_a_row_shows_all_facts(operator: Client) -> None:
    row = add(1, b=2, queue="slow", priority=7)
    Task.objects.filter(pk=row.pk).update(run_at=timezone.now() - timedelta(minutes=3))
    claims.claim_row(Task.objects.get(pk=row.pk), "bg~abc.0-1")
    Progress.objects.create(
        task_id=row.pk, attempt=1, done=1, total=4, message="a quarter", claim="bg~abc.0-1",
        updated_at=timezone.now(),
    )  # fmt: skip
    text = page(operator, "tasks/")
    for fact in (
        "running", add.name, "<code>1, b=2</code>", "slow", '<td data-label="Priority">7<',
        "1 of 25", 'value="1.000000" max="4.000000"', "25 % a quarter", "3\xa0minutes ago",
        "bg~abc", 'title="20', " UTC\"",
    ):  # fmt: skip
        assert fact in text, fact


def test_a_row_that_has_ended_says_how_long_to_the_millisecond(operator: Client) -> None:
    pk = succeed()
    began = timezone.now() - timedelta(days=1)
    Outcome.objects.filter(pk=pk).update(
        due_at=began - timedelta(seconds=1.25),
        started_at=began,
        finished_at=began + timedelta(hours=1, seconds=2.003),
    )
    text = page(operator, "tasks/").replace("\xa0", " ")
    assert '<td data-label="Waited" class="bgtasks-span">1.250 s</td>' in text
    assert '<td data-label="Ran" class="bgtasks-span">1 h 0 min 2.003 s</td>' in text


def test_long_arguments_are_shortened(operator: Client) -> None:
    raises("x" * 5_000)
    text = page(operator, "tasks/")
    assert "xxx…</code>" in text
    assert len(text) < 50_000


def test_the_filters_are_parameters_that_can_be_shared(operator: Client) -> None:
    user = User.objects.create_user("creator")
    Task.objects.all().delete()
    failed, other, waiting = fail("needle"), succeed(), add(1, 2, queue="slow").pk
    created = add(3, 4, creator=user, schedule=3600).pk
    for query, ids in {
        "state=failed": [failed],
        "state=failed&state=succeeded": [other, failed],
        "queue=slow": [waiting],
        "queue=-": [created, other, failed],
        f"name={raises.name}": [failed],
        "error=ValueError": [failed],
        "worker=bg~testing": [other, failed],
        "q=needle": [failed],
        "q=tests.admin.add": [created, waiting, other],
        f"creator=signup.user:{user.pk}": [created],
        "creator=creator": [created],
        "within=hour&until=2999-01-01": [created, waiting, other, failed],
        "until=2020-01-01T12:30": [],
        "": [created, waiting, other, failed],
    }.items():
        assert ids_in(page(operator, f"tasks/?{query}")) == ids, query


def test_a_search_for_an_id_names_the_task_wherever_it_is(operator: Client) -> None:
    pk = succeed()
    for text in (f"{pk}", f"%23{pk}"):
        assert f'Task <a href="{BASE}tasks/{pk}/">{pk}</a> is' in page(operator, f"tasks/?q={text}")
    assert "is tests.admin" not in page(operator, f"tasks/?q={pk + 1}")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("state=lost", "State: Select a valid choice. lost is not one of"),
        ("since=soon", "Due since: Enter a valid date/time."),
        ("since=0001-01-01", "There are no tasks of the year 1."),
        ("until=9999-12-31T23:59:59", "There are no tasks of the year 9999."),
        ("within=century", "Due within: Select a valid choice."),
        ("creator=nobody", "There is no user nobody."),
        ("creator=no.model:7", "There is no user no.model:7."),
        ("creator=signup.avatar:%20", "is no key of signup.avatar"),
        ("name=a%00b", "Name: Null characters are not allowed."),
        ("q=%00", "Search: Null characters are not allowed."),
        ("before=x", "Page: Enter a whole number."),
        ("before=99999999999999999999999", "Page: Ensure this value is less than or equal"),
        ("before=-1", "Page: Ensure this value is greater than or equal"),
        (f"name={'x' * 300}", "Name: Ensure this value has at most 200 characters"),
    ],
)
def test_an_absurd_filter_is_answered_in_words(operator: Client, query: str, text: str) -> None:
    add(1, 2)
    shown = page(operator, f"tasks/?{query}")
    assert text in shown
    assert ids_in(shown) == []


@pytest.mark.parametrize(
    "query",
    ["creator=signup.user:9999999999999999999", "q=%25_~%27%22", "worker=%5B*", "q=%ff"],
)
def test_a_strange_filter_matches_nothing(operator: Client, query: str) -> None:
    add(1, 2)
    assert "No task matches the filter." in page(operator, f"tasks/?{query}")


def test_the_pages_follow_each_other(operator: Client) -> None:
    ids = [add(n, n).pk for n in range(task_list.PAGE + 2)]
    first = page(operator, "tasks/?queue=-")
    assert ids_in(first) == ids[:1:-1]
    assert f'href="?queue=-&amp;before={ids[2]}"' in first
    add(1, 2)
    assert ids_in(page(operator, f"tasks/?queue=-&before={ids[2]}")) == [ids[1], ids[0]]


def test_a_search_that_takes_long_says_so_and_goes_on_by_a_link(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [add(n, n).pk for n in range(3)]
    monkeypatch.setattr(task_list, "FIRST_WINDOW", 1)
    monkeypatch.setattr(task_list, "BUDGET", 0)
    text = page(operator, f"tasks/?name={raises.name}")
    assert f"came down to task {ids[-1]}" in text
    assert "No task matches" not in text
    text = page(operator, f"tasks/?name={raises.name}&before={ids[-1]}")
    assert f"before={ids[-2]}" in text


def test_no_page_counts_all_or_asks_for_each_row(
    operator: Client, django_assert_max_num_queries: Any
) -> None:
    for n in range(30):
        add(n, n)
    page(operator, "tasks/")
    with django_assert_max_num_queries(20) as asked:
        page(operator, "tasks/")
    assert not [each for each in asked.captured_queries if "COUNT(" in each["sql"].upper()]


def test_ids_and_figures_are_the_same_in_every_language(
    operator: Client, settings: Any, failed: int
) -> None:
    settings.USE_THOUSAND_SEPARATOR, settings.LANGUAGE_CODE = True, "de"
    row = Task(task_name="shop.gone", task_params="[[], {}]", task_hash="", priority=5_000)
    row.pk = 1_234_567
    row.run_at = timezone.now()
    Task.objects.bulk_create([row])
    Progress.objects.create(
        task_id=row.pk, attempt=0, done=1500.5, total=2000, updated_at=timezone.now()
    )
    text = page(operator, "tasks/")
    assert ids_in(text) == [row.pk, failed]
    assert 'value="1500.500000" max="2000.000000"' in text
    assert f'href="{BASE}tasks/1234567/"' in text
    assert 'name="id" value="1234567"' in page(operator, "tasks/1234567/")
