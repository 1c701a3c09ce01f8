"""A stored mail is rebuilt as it was."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from typing import Any

import django
import pytest
from django.contrib.auth import get_user_model
from django.core.mail import EmailAttachment, EmailMessage, EmailMultiAlternatives
from django.utils import translation
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from bgtasks import exceptions
from bgtasks.mail import encryption, values
from bgtasks.mail import message as messages
from bgtasks.models import Mail
from tests.bgtasks.mail.helpers import attributes, backend, in_database, queued, shows
from tests.bgtasks.project.mailing.messages import BYTES, secret_mail


def as_sent(message: EmailMessage) -> bytes:
    """What the SMTP backend would send, but for what Python makes up anew each time."""
    if django.VERSION >= (6,):
        written = message.message(policy=email.policy.SMTP).as_bytes()
    else:
        written = message.message().as_bytes(linesep="\r\n")
    written = re.sub(rb"={15}\d+==", b"BOUNDARY", written)
    return re.sub(rb"(?m)^(Message-ID|Date): .*?\r\n(?!\s)", b"", written, flags=re.DOTALL)


def of_plain_text() -> EmailMessage:
    message = EmailMessage("Sübject", "Bödy", "Ä <a@example.com>", ["b@exämple.com", "c@x.org"])
    number: Any = 7 if django.VERSION < (6,) else "7"
    message.extra_headers = {"X-Number": number, "To": "Everybody <all@example.com>"}
    return message


def of_html() -> EmailMessage:
    message = EmailMessage("s", mark_safe("<i>only html</i>"), to=("a@example.com",))
    message.content_subtype = "html"
    message.encoding = "iso-8859-1"
    return message


def with_a_charset() -> EmailMessage:
    message = EmailMessage("s", "Bödy " * 300, to=["a@example.com"])
    if django.VERSION < (6,):  # where it is an object, for one kind of encoding
        message.encoding = Charset("utf-8")  # type: ignore[assignment]
        message.encoding.body_encoding = QP
        message.mixed_subtype = "related"
        message.attach("a.bin", BYTES)
    return message


def with_attachments() -> EmailMessage:
    message = secret_mail()
    message.attach("no-text.txt", b"\xff\xfe", "text/plain")
    message.attachments.append(EmailAttachment(None, b"nameless", "image/png"))
    message.attachments.append(("tuple.csv", "a;b", "text/csv"))  # as older code does
    message.attach_alternative(b"\x00\x01", "application/x-thing")
    return message


def with_mime_objects() -> EmailMessage:
    message = secret_mail()
    picture = MIMEImage(BYTES, "png")
    picture["Content-ID"] = "<picture>"
    text = MIMEText("Grüße, and " + "one long line " * 100, "plain", "utf-8")
    plain = MIMEText("From here\nFrom there\n", "plain", "us-ascii")
    message.attachments += [picture, text, plain]
    if django.VERSION >= (6,):
        part = MIMEPart()
        part.set_content(BYTES, "image", "png", cid="<modern>", filename="Grüße.png")
        message.attach(part)
    return message


def with_mails_in_it() -> EmailMessage:
    message = secret_mail()
    inner = EmailMessage("inner", "täxt", "a@example.com", ["b@example.com"])
    inner.extra_headers = {"Message-ID": "<inner@x>", "Date": "Thu, 01 Jan 2026 00:00:00 +0000"}
    message.attach("django.eml", inner, "message/rfc822")
    message.attach("old.eml", inner.message(), "message/rfc822")
    message.attach("text.eml", inner.message().as_string(), "message/rfc822")
    return message


@in_database
@pytest.mark.parametrize(
    "make",
    [of_plain_text, of_html, with_a_charset, with_attachments, with_mime_objects, with_mails_in_it],
)
def test_what_is_sent_is_what_would_have_been_sent_at_once(make: Any) -> None:
    original = make()
    (rebuilt,) = queued(original)
    assert as_sent(rebuilt) == as_sent(original)
    assert rebuilt.recipients() == original.recipients()
    assert isinstance(rebuilt, EmailMultiAlternatives) is isinstance(
        original, EmailMultiAlternatives
    )


@in_database
@pytest.mark.parametrize("make", [of_plain_text, of_html, with_attachments])
def test_a_backend_that_reads_attributes_finds_them_all(make: Any) -> None:
    original = make()
    (rebuilt,) = queued(original)
    assert attributes(rebuilt) == attributes(original)
    types = [type(attachment) for attachment in original.attachments]
    assert [type(attachment) for attachment in rebuilt.attachments] == types


@in_database
def test_mime_objects_can_be_read_as_before() -> None:
    original = with_mime_objects()
    (rebuilt,) = queued(original)
    for before, after in zip(original.attachments[2:], rebuilt.attachments[2:], strict=True):
        # Django 5.2 takes nothing but the old kind, and 6 asks which of the two it is.
        assert isinstance(after, MIMEBase) is isinstance(before, MIMEBase)
        assert isinstance(after, MIMEPart) is isinstance(before, MIMEPart)
        assert after.items() == before.items()
        assert after.get_payload(decode=True) == before.get_payload(decode=True)
        assert after.get_filename() == before.get_filename()


@in_database
def test_attributes_that_django_does_not_know_are_kept() -> None:
    original = secret_mail()
    original.tags = ["welcome", gettext_lazy("Yes")]  # type: ignore[attr-defined]
    original.metadata = {"user": 7, 8: (1.5, None)}  # type: ignore[attr-defined]
    original.send_at = datetime(2030, 1, 1, tzinfo=UTC)  # type: ignore[attr-defined]
    with translation.override("de"):
        (rebuilt,) = queued(original)
    found = attributes(rebuilt)
    assert found["tags"] == ["welcome", "Ja"]  # in the language of the one who sent it
    assert found["metadata"] == {"user": 7, 8: (1.5, None)}
    assert found["send_at"] == datetime(2030, 1, 1, tzinfo=UTC)


@in_database
def test_what_cannot_be_kept_is_refused_by_name() -> None:
    message = secret_mail()
    message.tags = {object()}  # type: ignore[attr-defined]
    with pytest.raises(exceptions.UnstorableMail, match="tags of this EmailMulti") as told:
        backend(fail_silently=True).send_messages([message])
    assert not shows(str(told.value))
    assert not Mail.objects.exists()


class Welcome(EmailMultiAlternatives):
    """As projects write them: made of an object, and otherwise as Django's."""

    content_subtype = "html"
    tags = ("welcome",)
    sender = object()

    def __init__(self, user: Any) -> None:
        super().__init__("Welcome", "<b>hello</b>", to=[user.email])
        self.user = user


@in_database
def test_a_class_that_only_fills_in_attributes_is_sent_by_attributes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    original = Welcome(get_user_model()(email="ottilie@example.com"))
    messages._warn_once.cache_clear()
    rebuilt, _ = queued(original, original)
    assert as_sent(rebuilt) == as_sent(original)
    assert (rebuilt.content_subtype, attributes(rebuilt)["tags"]) == ("html", ("welcome",))
    assert not hasattr(rebuilt, "user")
    (told,) = [record.getMessage() for record in caplog.records]
    assert "Welcome are queued without their attribute user" in told
    assert not shows(told)


class Signed(EmailMessage):
    """A mail with bytes that must stay as they are."""

    exact = (
        b"From: a@example.com\r\nTo: b@example.com\r\nMessage-ID: <own@x>\r\n"
        b"Subject:  two  spaces and a line so long that whoever folds it breaks the signature\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4 \r\n.\r\nFrom here\r\n"
    )

    def message(self, **options: Any) -> Any:
        built = messages.RawMessage.of(self.exact, options.get("policy", email.policy.compat32))
        built["X-Checked"] = "not in the bytes"
        return built

    def recipients(self) -> list[str]:
        return ["hidden@example.com"]


@in_database
def test_a_class_with_a_message_of_its_own_is_sent_byte_for_byte() -> None:
    original = Signed("subject", "text", "a@example.com", ["b@example.com"])
    (rebuilt,) = queued(original)
    built = rebuilt.message()
    assert built.as_bytes() == Signed.exact.replace(b"\r\n", b"\n")
    assert built.as_bytes(linesep="\r\n") == Signed.exact
    assert built["Message-ID"] == "<own@x>"
    assert rebuilt.recipients() == ["hidden@example.com"]
    assert (rebuilt.subject, rebuilt.to, rebuilt.from_email) == (
        "subject", ["b@example.com"], "a@example.com",
    )  # fmt: skip
    if django.VERSION >= (6,):
        assert rebuilt.message(policy=email.policy.SMTP).as_bytes() == Signed.exact


class FromBeforePolicies(EmailMessage):
    def message(self) -> Any:  # type: ignore[override]
        built = super().message()
        built["X-Own"] = "yes"
        return built


@in_database
def test_a_class_whose_message_takes_no_policy_is_queued() -> None:
    (rebuilt,) = queued(FromBeforePolicies("subject", "text", "a@example.com", ["b@example.com"]))
    assert rebuilt.message()["X-Own"] == "yes"


@in_database
def test_a_part_in_utf8_keeps_its_headers() -> None:
    part = MIMEPart(policy=email.policy.SMTPUTF8)
    part.set_content("text")
    part["X-Name"] = "Zoë"
    read = values._parsed(MIMEPart, email.policy.default)
    assert read(values._part(part))["X-Name"] == "Zoë"


@in_database
def test_a_mail_has_one_message_id_and_one_date_however_often_it_is_built() -> None:
    (rebuilt,) = queued(secret_mail())
    again, _ = encryption.unseal(*Mail.objects.values_list("pk", "body").get())
    built = [message.message() for message in (rebuilt, rebuilt, again)]
    for name in ("Message-ID", "Date"):
        assert built[0][name]
        assert len({str(message[name]) for message in built}) == 1
        assert all(len(message.get_all(name)) == 1 for message in built)
        assert name not in rebuilt.extra_headers  # some services refuse them
    assert built[0]["Message-ID"] != secret_mail().message()["Message-ID"]


@in_database
def test_a_message_id_of_the_senders_own_stays() -> None:
    message = secret_mail()
    message.extra_headers["message-id"] = "<own@example.com>"
    (rebuilt,) = queued(message)
    assert rebuilt.message().get_all("Message-ID") == ["<own@example.com>"]


def test_a_header_with_a_line_break_fails_where_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"newline|linefeed"):
        backend().send_messages([EmailMessage("a\nb", to=["a@example.com"])])
