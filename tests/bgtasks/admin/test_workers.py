"""The page of workers."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bgtasks.models import Worker
from bgtasks.queue import workers
from tests.bgtasks.queue.helpers import register, rows

pytestmark = pytest.mark.django_db

URL = "/admin/bgtasks/operations/workers/"


def text(client: Client, query: str = "") -> str:
    response = client.get(URL + query)
    assert response.status_code == 200
    return response.content.decode()


def test_without_workers_it_says_how_to_start_one(admin_client: Client) -> None:
    assert "<code>python manage.py process_tasks</code>" in text(admin_client)


def test_it_shows_what_each_worker_is_and_runs(admin_client: Client) -> None:
    (row,) = rows(1)
    register("bg~a")
    Worker.objects.update(host="somewhere", pid=12345, queues=["emails", "reports"])
    child = {"pid": 23456, "memory": 1024**2, "since": 1e9, "running": 3, "runs": [[row.pk, 1e9]]}
    workers.beat("bg~a", {"stopping": True, "memory": 1024**2, "children": [child]})
    page = text(admin_client)
    for shown in (
        "somewhere", "process 12345", "emails, reports", ">stopping<", "2.0\xa0MB",
        "Process 23456, 1.0\xa0MB", f'operations/tasks/{row.pk}/">{row.task_name}</a>',
        "and 2 more",
    ):  # fmt: skip
        assert shown in page


def test_a_worker_whose_lease_has_run_out_is_lost(admin_client: Client) -> None:
    register("bg~a")
    Worker.objects.update(lease=1e-9)
    assert '<span class="bgtasks-worker lost">lost</span>' in text(admin_client, "?live=1")


def test_the_cost_does_not_grow_with_workers(admin_client: Client) -> None:
    for number in range(20):
        register(f"bg~{number}")
    with CaptureQueriesContext(connection) as queries:
        text(admin_client)
    assert len(queries) <= 6
