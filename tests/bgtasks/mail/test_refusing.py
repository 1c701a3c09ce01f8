"""Mails that cannot be stored, and settings that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import Task
from django.db import DatabaseError, transaction

from bgtasks import conf, exceptions
from bgtasks.models import Mail
from tests.bgtasks.mail.helpers import BACKENDS, backend, in_database, shows, table_away
from tests.bgtasks.project.mailing.messages import BYTES, secret_mail


@in_database
def test_a_mail_that_is_too_large_is_refused_with_both_sizes(settings: Any) -> None:
    settings.BGTASKS_MAIL_MAX_SIZE = 3000
    large = secret_mail()
    large.attach("more.bin", BYTES * 10)
    with pytest.raises(exceptions.MailTooLarge, match=r"3 attachments takes [4-6],\d+ .* 3,000"):
        backend().send_messages([secret_mail(), large])
    assert not Mail.objects.exists()


@in_database
def test_with_fail_silently_the_others_go(settings: Any, caplog: Any) -> None:
    settings.BGTASKS_MAIL_MAX_SIZE = 3000
    large = secret_mail()
    large.attach("more.bin", BYTES * 10)
    assert backend(fail_silently=True).send_messages([large, secret_mail()]) == 1
    assert Mail.objects.count() == Task.objects.count() == 1
    assert "BGTASKS_MAIL_MAX_SIZE" in caplog.text
    assert not shows(caplog.text)


def test_a_mail_of_ten_mebibytes_is_the_default_limit() -> None:
    assert conf.mail_max_size() == 10 * 1024 * 1024


@in_database
@pytest.mark.parametrize("silently", [True, False])
def test_a_database_that_takes_no_mail_ends_no_transaction_around_it(
    silently: bool, caplog: pytest.LogCaptureFixture
) -> None:
    mail_backend = backend(fail_silently=silently)
    with table_away("bgtasks_mail"), transaction.atomic():
        if silently:
            assert mail_backend.send_messages([secret_mail()]) == 0
        else:
            with pytest.raises(DatabaseError):
                mail_backend.send_messages([secret_mail()])
        assert not Task.objects.exists()
    assert ("1 mail(s) lost: the database" in caplog.text) is silently
    assert not shows(caplog.text)


def test_options_of_a_connection_are_refused_by_name_and_never_by_value() -> None:
    with pytest.raises(exceptions.MailOptionRefused, match="take password, username along") as told:
        backend(username="ottilie", password="the treasure is buried", host=None)
    assert not shows(str(told.value))
    # As Django's send_mail() says that it has none.
    assert backend(fail_silently=True, username=None, password=None).fail_silently


def test_a_real_backend_that_queues_again_is_refused_at_once(sent_by: Any) -> None:
    for path in (f"{BACKENDS}.Again", "bgtasks.mail.BackgroundEmailBackend"):
        sent_by(path)
        with pytest.raises(exceptions.InvalidMailSettings, match="again and again"):
            backend()


def test_a_real_backend_that_cannot_be_imported_is_refused_at_once(sent_by: Any) -> None:
    sent_by("nowhere.Backend")
    with pytest.raises(exceptions.InvalidMailSettings, match=r"nowhere\.Backend"):
        backend()
