"""Nobody reads a mail that waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone

from bgtasks import exceptions
from bgtasks.mail import encryption
from bgtasks.models import Mail
from bgtasks.queue import mails
from tests.bgtasks.mail.helpers import backend, in_database, shows
from tests.bgtasks.project.mailing.messages import secret_mail
from tests.harness.deployment import Deployment


def test_a_body_shows_nothing_and_no_two_are_alike() -> None:
    body = encryption.seal(1, secret_mail())
    assert not shows(body)
    assert body != encryption.seal(1, secret_mail())
    message, mailer = encryption.unseal(1, body)
    assert shows(json.dumps([message.subject, message.to, message.body])) != []
    assert mailer is None


def test_a_changed_key_reads_old_mails_as_long_as_it_is_a_fallback(settings: Any) -> None:
    settings.SECRET_KEY = "old"
    body = encryption.seal(1, secret_mail())
    settings.SECRET_KEY = "new"
    settings.SECRET_KEY_FALLBACKS = ["older", b"old"]
    assert encryption.unseal(1, body)[0].subject == "Quarterly figures"
    new = encryption.seal(1, secret_mail())
    settings.SECRET_KEY_FALLBACKS = []
    assert encryption.unseal(1, new)[0].subject == "Quarterly figures"
    with pytest.raises(exceptions.UnreadableMail, match=r"Mail 1 .* SECRET_KEY_FALLBACKS"):
        encryption.unseal(1, body)


def test_a_body_that_was_changed_is_not_read() -> None:
    body = encryption.seal(1, secret_mail())
    other = "A" if body[100] != "A" else "B"
    with pytest.raises(exceptions.UnreadableMail):
        encryption.unseal(1, f"{body[:100]}{other}{body[101:]}")


def test_p10_a_body_that_was_moved_to_another_row_is_not_sent() -> None:
    one, other = next(mails.new_ids()), next(mails.new_ids())
    body = encryption.seal(one, secret_mail())
    assert encryption.unseal(one, body)[0].subject == "Quarterly figures"
    for row in (other, 1, 2**62):
        with pytest.raises(exceptions.UnreadableMail, match=f"Mail {row} .* for another row"):
            encryption.unseal(row, body)


@in_database
def test_p9_mails_of_an_older_version_beside_ours_are_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while it runs beside ours during a deployment, or after going back to it."""

    def store_by_older() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(encryption.json, "dumps", without_id(json.dumps))
            body = encryption.seal(0, secret_mail())
        Mail.objects.create(body=body, created_at=timezone.now())

    store_by_older()
    assert backend().send_messages([secret_mail()]) == 1
    store_by_older()
    found = [encryption.unseal(row.pk, row.body)[0] for row in Mail.objects.all()]
    assert [message.subject for message in found] == ["Quarterly figures"] * 3


def without_id(dumps: Any) -> Any:
    def older(mail: dict[str, Any], **options: Any) -> str:
        return dumps({name: value for name, value in mail.items() if name != "id"}, **options)

    return older


def test_without_cryptography_the_caller_is_told_what_to_install(project: Deployment) -> None:
    told = project.run(
        "import sys; sys.modules['cryptography'] = None\n"
        "from django.core.mail import EmailMessage\n"
        "from bgtasks.mail import BackgroundEmailBackend\n"
        "from bgtasks.exceptions import CryptographyMissing\n"
        "mail = EmailMessage('s', 'b', to=['a@example.com'])\n"
        "try: BackgroundEmailBackend(fail_silently=True).send_messages([mail])\n"
        "except CryptographyMissing as error: print(error)\n"
    )
    assert 'pip install "cryptography>=45"' in told
    assert project.rows("bgtasks_mail") == project.rows() == []
