"""Nobody reads a mail that waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bgtasks import exceptions
from bgtasks.mail import encryption
from tests.bgtasks.mail.helpers import shows
from tests.bgtasks.project.mailing.messages import secret_mail
from tests.harness.deployment import Deployment


def test_a_body_shows_nothing_and_no_two_are_alike() -> None:
    body = encryption.seal(secret_mail())
    assert not shows(body)
    assert body != encryption.seal(secret_mail())
    message, mailer = encryption.unseal(1, body)
    assert shows(json.dumps([message.subject, message.to, message.body])) != []
    assert mailer is None


def test_a_changed_key_reads_old_mails_as_long_as_it_is_a_fallback(settings: Any) -> None:
    settings.SECRET_KEY = "old"
    body = encryption.seal(secret_mail())
    settings.SECRET_KEY = "new"
    settings.SECRET_KEY_FALLBACKS = ["older", b"old"]
    assert encryption.unseal(1, body)[0].subject == "Quarterly figures"
    new = encryption.seal(secret_mail())
    settings.SECRET_KEY_FALLBACKS = []
    assert encryption.unseal(1, new)[0].subject == "Quarterly figures"
    with pytest.raises(exceptions.UnreadableMail, match=r"Mail 1 .* SECRET_KEY_FALLBACKS"):
        encryption.unseal(1, body)


def test_a_body_that_was_changed_is_not_read() -> None:
    body = encryption.seal(secret_mail())
    other = "A" if body[100] != "A" else "B"
    with pytest.raises(exceptions.UnreadableMail):
        encryption.unseal(1, f"{body[:100]}{other}{body[101:]}")


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
