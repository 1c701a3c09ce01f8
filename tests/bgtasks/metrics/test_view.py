"""The metrics as the site tells them, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from background_task.models import Task
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from bgtasks.models import Counter, Worker
from bgtasks.operations import queues
from bgtasks.queue import counters, pauses
from signup.models import User
from signup.tasks import build_report as other
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import claim, register

pytestmark = pytest.mark.django_db(transaction=True)

LABELS = ("queue", "task", "outcome", "state", "le")
DASHBOARD = Path(__file__).parents[3] / "docs" / "operating" / "grafana.json"


@pytest.fixture(autouse=True)
def token(settings: Any) -> str:
    Task.objects.all().delete()
    settings.BGTASKS_METRICS_TOKEN = "a-token"
    return "a-token"


def told() -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, in the order of `LABELS`."""
    text = Client().get("/metrics", headers={"Authorization": "Bearer a-token"}).content.decode()
    return {
        (sample.name, *(sample.labels[x] for x in LABELS if x in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def count(name: str = "shop.tasks.pay", queue: str = "", **counted: Any) -> None:
    Counter.objects.create(
        width=counters.TOTAL, start=0, queue=queue, name=name, worker="", **counted
    )


@pytest.mark.parametrize(
    ("who", "status"), [("nobody", 401), ("user", 401), ("former", 401), ("staff", 200)]
)
def test_staff_may_read_the_metrics(who: str, status: int) -> None:
    client = Client()
    if who != "nobody":
        options = {"is_staff": who != "user", "is_active": who != "former"}
        client.force_login(User.objects.create_user(who, **options))
    assert client.get("/metrics").status_code == status


@pytest.mark.parametrize(
    ("sent", "known", "status"),
    [
        ("Bearer a-token", "a-token", 200),
        ("bearer a-token", "a-token", 200),
        ("Bearer another", "a-token", 401),
        ("Basic a-token", "a-token", 401),
        ("Bearer ", "", 401),
        ("", "", 401),
    ],
)
def test_who_has_the_token_may_read_them(settings: Any, sent: str, known: str, status: int) -> None:
    settings.BGTASKS_METRICS_TOKEN = known
    response = Client().get("/metrics", headers={"Authorization": sent})
    assert response.status_code == status


def test_queues_are_told_as_they_are() -> None:
    task([], queue="mail", schedule=timezone.now() - timedelta(seconds=90))
    claim(1)
    for due in (-60, -30, 3600):
        task([], queue="mail", schedule=timezone.now() + timedelta(seconds=due))
    other([], queue="mail", schedule=timezone.now() - timedelta(seconds=600))
    count("shop.tasks.pay", "tills", succeeded=1)
    pauses.pause("mail")
    found = told()
    ours, its = ("mail", task.name), ("mail", other.name)
    assert [found["bgtasks_running", *each] for each in (ours, its)] == [1, 0]
    assert [found["bgtasks_waiting", *each] for each in (ours, its)] == [2, 1]
    assert [found["bgtasks_scheduled", *each] for each in (ours, its)] == [1, 0]
    assert 60 <= found["bgtasks_oldest_waiting_seconds", *ours] < 90
    assert 600 <= found["bgtasks_oldest_waiting_seconds", *its] < 660
    assert [found["bgtasks_queue_paused", each] for each in ("mail", "tills")] == [1, 0]
    assert found["bgtasks_waiting", "tills", "shop.tasks.pay"] == 0


def test_what_waits_behind_many_others_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MOST", 3)
    monkeypatch.setattr(queues, "_FIRST", "ORDER BY priority, run_at, id LIMIT 3")
    for queue in ("mail", "mail", "mail", "mail", None):
        task([], queue=queue)
    other([], queue="mail")
    other([], queue="tills")
    found = told()
    assert found["bgtasks_waiting", "mail", task.name] == 3
    assert ("bgtasks_waiting", "mail", other.name) not in found
    assert found["bgtasks_waiting", "tills", other.name] == 1


def test_workers_are_told_by_their_state() -> None:
    for name in ("bg~a", "bg~b", "bg~c", "bg~d"):
        register(name)
    Worker.objects.filter(name="bg~b").update(status={"stopping": True})
    Worker.objects.filter(name="bg~c").update(status={"stopping": False})
    Worker.objects.filter(name="bg~d").update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    found = told()
    states = ("alive", "stopping", "lost")
    assert [found["bgtasks_workers", state] for state in states] == [2, 1, 1]


def test_without_workers_there_is_a_zero_to_be_warned_of() -> None:
    assert told()["bgtasks_workers", "alive"] == 0


def test_a_histogram_has_in_each_bucket_what_is_in_the_ones_before() -> None:
    count(ran_0=1, ran_4=2, ran_5=4, ran_27=8, ran_sum=1e6, succeeded=15, failed=2)
    found = told()
    name = ("bgtasks_duration_seconds_bucket", "", "shop.tasks.pay")
    assert [found[(*name, bound)] for bound in ("0.001", "0.004", "0.016", "0.064", "+Inf")] == [
        1, 1, 3, 7, 15
    ]  # fmt: skip
    assert found["bgtasks_duration_seconds_count", "", "shop.tasks.pay"] == 15
    assert found["bgtasks_duration_seconds_sum", "", "shop.tasks.pay"] == 1e6
    assert found["bgtasks_runs_total", "", "shop.tasks.pay", "succeeded"] == 15
    assert found["bgtasks_runs_total", "", "shop.tasks.pay", "failed"] == 2


def test_totals_stay_when_the_charts_counters_are_pruned() -> None:
    count(succeeded=2**40)
    Counter.objects.create(width=60, start=0, queue="", name="a", worker="w", succeeded=1)
    assert list(counters.prune()) == [1]
    assert told()["bgtasks_runs_total", "", "shop.tasks.pay", "succeeded"] == 2**40


def test_the_metrics_need_few_statements(django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        task([], queue=f"q{number}")
        count(f"task{number}", succeeded=1)
    with django_assert_max_num_queries(12):
        told()


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    task([], queue="mail")
    count(succeeded=1)
    names = {name for name, *_ in told()}
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [each["query"] for each in board["templating"]["list"]]
    asked = {name for query in queries for name in re.findall(r"bgtasks_\w+", query)}
    assert asked - names == set()
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    there = {re.sub("_(bucket|sum|count)$", "", name) for name in names}
    assert there - shown == set(), "metrics that no panel shows"


def test_the_dashboard_filters_by_labels_that_there_are() -> None:
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            used = re.findall(r"(\w+)=~?\"", target["expr"])
            used += [
                name.strip()
                for names in re.findall(r"by \(([^)]*)\)", target["expr"])
                for name in names.split(",")
            ]
            used += re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert set(used) <= set(LABELS), target["expr"]
