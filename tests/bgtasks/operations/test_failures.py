"""What has failed of late, by what was raised and where."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from bgtasks.models import Attempt
from bgtasks.operations import failures

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/orders/tasks.py", line {line}, in send
    client.post(order)
  File "/srv/venv/lib/python3.13/site-packages/client/api.py", line 9, in post
    raise Refused({number})
client.Refused: order {number}
is not known
"""


def failed(text: str, ago: timedelta = timedelta(0), task_id: int = 1, **values: str) -> None:
    given = {"number": 1, "state": Attempt.State.FAILED, "claim": "c", **values}
    Attempt.objects.create(task_id=task_id, ended_at=timezone.now() - ago, error=text, **given)


@pytest.mark.django_db
def test_failures_are_grouped_by_class_and_place() -> None:
    for number in range(3):
        text = TRACEBACK.format(line=12, number=number)
        failed(text, timedelta(minutes=number), task_id=number)
    failed(TRACEBACK.format(line=40, number=7))
    failed("Lost: worker process 5 on h was killed by SIGKILL while attempt 1 of this task ran.")
    failed(TRACEBACK.format(line=12, number=8), timedelta(days=2))
    failed("Stopped: it was asked to.", state=Attempt.State.STOPPED)
    first, *others = failures.recent()
    assert (first.error, first.message) == ("client.Refused", "order 0")
    assert (first.place, first.function) == ("/srv/app/orders/tasks.py:12", "send")
    assert (first.count, first.task_id) == (3, 0)
    assert sorted((each.error, each.place, each.count) for each in others) == [
        ("Lost", "", 1),
        ("client.Refused", "/srv/app/orders/tasks.py:40", 1),
    ]


@pytest.mark.django_db
def test_only_the_last_failures_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MOST", 2)
    for minutes in range(4):
        failed(f"E{minutes}: no", timedelta(minutes=minutes))
    assert [each.error for each in failures.recent()] == ["E0", "E1"]


@pytest.mark.django_db
def test_of_a_long_text_the_end_is_read() -> None:
    frame = '  File "/srv/app/deep.py", line 1, in deep\n    deep()\n'
    failed(
        "Traceback (most recent call last):\n" + frame * 2_000 + TRACEBACK.format(line=12, number=1)
    )
    (found,) = failures.recent()
    assert found.error == "client.Refused"
