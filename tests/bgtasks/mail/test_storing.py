"""What is stored of a mail, and when."""

from __future__ import annotations

import pytest
from background_task.models import Task
from django.core.mail import EmailMessage
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from bgtasks.models import Mail
from bgtasks.queue import mails
from tests.bgtasks.mail.helpers import backend, in_database, queued, table_away
from tests.bgtasks.project.mailing.messages import secret_mail


@in_database
def test_a_mail_is_a_row_and_a_task_that_has_its_id_alone() -> None:
    assert backend().send_messages([secret_mail()]) == 1
    (row,) = Mail.objects.all()
    (task,) = Task.objects.all()
    assert (task.task_name, task.params()) == ("bgtasks.mail.send", ([row.pk], {}))


@in_database
def test_several_mails_are_counted_and_those_to_nobody_are_not() -> None:
    messages = [EmailMessage("n", "n", "a@example.com", to) for to in (["b@example.com"], [])]
    assert backend().send_messages(iter(messages * 3)) == 3
    assert Mail.objects.count() == Task.objects.count() == 3
    assert backend().send_messages([]) == 0


@in_database
def test_p1_a_mail_exists_if_its_transaction_commits() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        backend().send_messages([secret_mail()])
        assert Mail.objects.count() == Task.objects.count() == 1
        _ = 1 / 0
    assert not Mail.objects.exists()
    assert not Task.objects.exists()
    with transaction.atomic():
        backend().send_messages([secret_mail()])
    assert Mail.objects.count() == Task.objects.count() == 1


@in_database
def test_many_large_mails_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mails, "STATEMENT", 3000)
    messages = [EmailMessage(f"{n}", "n" * n * 100, to=["a@example.com"]) for n in range(20)]
    with CaptureQueriesContext(connection) as statements:
        rebuilt = queued(*messages)
    assert [message.subject for message in rebuilt] == [f"{n}" for n in range(20)]
    inserts = [q["sql"] for q in statements if q["sql"].startswith('INSERT INTO "bgtasks_mail"')]
    assert len(inserts) == 20  # one is longer than a statement may be


@in_database
def test_p1_no_mail_without_its_task() -> None:
    with table_away("background_task"), pytest.raises(DatabaseError):
        backend().send_messages([secret_mail()])
    assert not Mail.objects.exists()
