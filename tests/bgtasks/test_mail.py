"""Mails through the queue: what is stored, what is sent, and who can read it meanwhile."""

from __future__ import annotations

import email
import email.policy
import json
import queue
import re
import smtplib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.charset import QP, Charset
from email.message import EmailMessage as ModernMessage
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import django
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from background_task.models import Task
from django.contrib.auth import get_user_model
from django.core.mail import EmailAttachment, EmailMessage, EmailMultiAlternatives
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from bgtasks import conf, exceptions
from bgtasks.mail import BackgroundEmailBackend, encryption, send, sending, values
from bgtasks.mail import message as messages
from bgtasks.models import Mail
from bgtasks.queue import mails
from tests.bgtasks.project.mailing.messages import BYTES, secret_mail
from tests.harness.deployment import Deployment
from tests.harness.servers import free_port

Deploy = Callable[..., Deployment]
APP = {"MORE_APPS": "tests.bgtasks.project.mailing"}
BACKENDS = "tests.bgtasks.project.mailing.backends"
SECRETS = ("Ottilie", "Quarterly figures", "the treasure is buried", "zahlen.bin")
in_database = pytest.mark.django_db(transaction=True)
HAS_MAILERS = django.VERSION >= (6, 1)


@pytest.fixture
def sent_by(settings: Any) -> Callable[..., None]:
    """Sets the backend that really sends, as this version of Django has it set."""

    def sent_by(path: str, **options: Any) -> None:
        if HAS_MAILERS:
            settings.MAILERS = {"real": {"BACKEND": path, "OPTIONS": options}}
            return
        settings.BGTASKS_EMAIL_BACKEND = path
        for name, value in options.items():
            setattr(settings, f"EMAIL_{name.upper()}", value)

    return sent_by


@pytest.fixture(autouse=True)
def _in_memory(sent_by: Callable[..., None]) -> None:
    sent_by("django.core.mail.backends.locmem.EmailBackend")


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("django_db"):
        Task.objects.all().delete()


def backend(**options: Any) -> BackgroundEmailBackend:
    mailer = {"mailer": "real"} if HAS_MAILERS else {}
    return BackgroundEmailBackend(**mailer, **options)


@contextmanager
def table_away(name: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE away RENAME TO {name}")


def queued(*messages: EmailMessage) -> list[EmailMessage]:
    """What a worker makes of mails."""
    assert backend().send_messages(messages) == len(messages)
    found = Mail.objects.order_by("pk")[: len(messages)]
    return [encryption.unseal(row.pk, row.body)[0] for row in found]


def as_sent(message: EmailMessage) -> bytes:
    """What the SMTP backend would send, but for what Python makes up anew each time."""
    if django.VERSION >= (6,):
        written = message.message(policy=email.policy.SMTP).as_bytes()
    else:
        written = message.message().as_bytes(linesep="\r\n")
    written = re.sub(rb"={15}\d+==", b"BOUNDARY", written)
    return re.sub(rb"(?m)^(Message-ID|Date): .*?\r\n(?!\s)", b"", written, flags=re.DOTALL)


# --- stored


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


# --- and rebuilt


def attributes(message: EmailMessage) -> dict[str, Any]:
    names = ("connection", "_connection", "stored_headers")
    return {name: value for name, value in vars(message).items() if name not in names}


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
    with pytest.raises(exceptions.UnstorableMail, match="tags of a EmailMultiAlternatives") as told:
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


# --- encrypted


def shows(text: str) -> list[str]:
    """The secrets that stand in a text."""
    encoded = [*SECRETS, "example.com", email.base64mime.body_encode(BYTES)[:40]]
    return [secret for secret in encoded if secret.lower() in text.lower()]


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


# --- refused


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
    assert ("did not take them: 1 mails." in caplog.text) is silently
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


# --- run


@in_database
def test_a_mail_is_forgotten_once_it_is_sent_and_a_second_run_does_nothing(
    mailoutbox: list[EmailMessage],
) -> None:
    backend().send_messages([secret_mail()])
    pk = Mail.objects.get().pk
    assert send.now(pk) == "sent"
    assert not Mail.objects.exists()
    assert send.now(pk) == f"Nothing to do: mail {pk} was sent by an earlier run, or deleted."
    (sent,) = mailoutbox
    assert attributes(sent).items() >= attributes(secret_mail()).items()


@in_database
def test_a_backend_that_sends_nothing_has_failed(sent_by: Any) -> None:
    sent_by(f"{BACKENDS}.Idle")
    backend().send_messages([secret_mail()])
    with pytest.raises(exceptions.MailNotSent, match=r"Idle: it says that it sent none"):
        send.now(Mail.objects.get().pk)
    assert Mail.objects.exists()


@in_database
def test_a_backend_that_counts_nothing_has_sent(sent_by: Any, tmp_path: Path) -> None:
    sent_by(f"{BACKENDS}.Wordless", file_path=str(tmp_path))
    backend().send_messages([secret_mail()])
    assert send.now(Mail.objects.get().pk) == "sent"
    (file,) = tmp_path.iterdir()
    assert shows(file.read_text())


@pytest.mark.parametrize(
    "error",
    [
        smtplib.SMTPRecipientsRefused([("bob@example.com", (550, b"no"))]),
        smtplib.SMTPResponseException("bob@example.com", "no"),
    ],
)
def test_an_error_that_is_not_as_smtplib_makes_them_keeps_nothing_either(error: Exception) -> None:
    assert "bob" not in sending._told(error)


@in_database
def test_an_error_keeps_nothing_of_what_it_quotes(sent_by: Any) -> None:
    sent_by(f"{BACKENDS}.Talkative")
    backend().send_messages([secret_mail()])
    pk = Mail.objects.get().pk
    with pytest.raises(exceptions.MailNotSent) as told:
        send.now(pk)
    error = told.value
    assert f"Mail {pk} was not sent by {BACKENDS}.Talkative" in str(error)
    assert "ConnectionRefusedError, Connection refused (111), at " in str(error)
    assert "backends.py" in str(error)
    assert "Is the mail server there" in str(error)
    assert error.__cause__ is error.__context__ is None
    # Error trackers collect what stands in the frames below this one.
    (_, *frames) = traceback.walk_tb(error.__traceback__)
    assert frames
    assert not shows("".join(repr(frame.f_locals) for frame, _ in frames) + repr(error.args))


@in_database
def test_a_mail_that_cannot_be_read_stays_and_is_tried_again(settings: Any) -> None:
    settings.SECRET_KEY = "old"
    backend().send_messages([secret_mail()])
    settings.SECRET_KEY = "new"
    pk = Mail.objects.get().pk
    with pytest.raises(exceptions.UnreadableMail, match=f"Mail {pk} "):
        send.now(pk)
    assert Mail.objects.exists()


@in_database
def test_mails_are_pruned_when_they_are_old_and_nothing_is_to_send_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mails, "BATCH", 2)
    backend().send_messages([secret_mail() for _ in range(8)])
    old = list(Mail.objects.order_by("pk").values_list("pk", flat=True))[:7]
    Mail.objects.filter(pk__in=old).update(created_at=datetime(2020, 1, 1, tzinfo=UTC))
    (waiting,) = [row for row in Task.objects.all() if row.params()[0] == [old[0]]]
    Task.objects.exclude(pk=waiting.pk).delete()
    assert sum(mails.prune(timedelta(days=36500))) == 0
    assert list(mails.prune(timedelta(days=1))) == [1, 2, 2, 1]
    assert [row.pk for row in Mail.objects.order_by("pk")] == [old[0], old[-1] + 1]


# --- with a real server and real workers


class Server:
    """A real SMTP server, which answers as it is told to."""

    def __init__(self) -> None:
        self.mails: queue.Queue[Envelope] = queue.Queue()
        self.answer_to_recipient = self.answer = "250 OK"
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self._controller.start()
        self.port = self._controller.port

    async def handle_RCPT(  # noqa: N802  aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer_to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer_to_recipient.format(address)

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.mails.put(envelope)
        return self.answer

    def next(self) -> tuple[Envelope, ModernMessage]:
        envelope = self.mails.get(timeout=60)
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, ModernMessage)
        return envelope, message

    def close(self) -> None:
        self._controller.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def mailing(deploy: Deploy, server: Server, **more: Any) -> Deployment:
    return deploy(
        EMAIL_BACKEND="bgtasks.mail.BackgroundEmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=server.port,
        **more,
    )


def post(project: Deployment) -> None:
    """Send the secret mail, by Django's own way."""
    project.run(
        "from tests.bgtasks.project.mailing.messages import secret_mail\n"
        "assert secret_mail().send() == 1"
    )


def everything(project: Deployment) -> str:
    """All rows of all tables."""
    listing = (
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
        if project.database.on_postgresql
        else "SELECT name FROM sqlite_master WHERE type = 'table'"
    )
    names = [row["name"] for row in project.database.query(listing)]
    assert {"bgtasks_mail", "background_task", "bgtasks_attempt", "bgtasks_outcome"} <= set(names)
    return repr([project.database.query(f'SELECT * FROM "{name}"') for name in names])


def test_a_worker_sends_a_mail_with_its_attachments(deploy: Deploy, server: Server) -> None:
    project = mailing(deploy, server)
    post(project)
    assert server.mails.empty()
    assert not shows(everything(project))
    said = project.drain(**APP)
    envelope, mail = server.next()
    assert envelope.mail_from == "sender@example.com"
    assert envelope.rcpt_tos == ["ottilie@example.com", "carl@example.com", "bob@example.com"]
    assert (mail["Subject"], mail["Bcc"]) == ("Quarterly figures", None)
    assert mail["Reply-To"] == "answers@example.com"
    first, second = mail.iter_attachments()
    assert (first.get_filename(), first.get_content()) == ("zahlen.bin", BYTES)
    assert second.get_content().rstrip() == "the treasure is buried, \N{SNOWMAN}"
    html = mail.get_body(["html"])
    assert html
    assert html.get_content().rstrip() == "<b>the treasure is buried</b>"
    assert project.rows("bgtasks_mail") == project.rows() == []
    assert len(project.completed("failed_at IS NULL")) == 1
    assert not shows(everything(project) + said)
    assert shows(repr(envelope.content))


def test_a_refused_mail_is_tried_again_with_its_message_id_and_names_nobody(
    deploy: Deploy, server: Server
) -> None:
    project = mailing(deploy, server)
    post(project)
    server.answer_to_recipient = "550 5.1.1 <{}>: no such person"
    said = project.drain(**APP)
    (task,) = project.rows()
    assert "SMTPRecipientsRefused, 550 5.1.1 (recipients: 3), at " in task["last_error"]
    server.answer_to_recipient = "250 OK"
    server.answer = "451 4.3.0 Ottilie's box is full: Quarterly figures"
    project.hurry()
    said += project.drain(**APP)
    (task,) = project.rows()
    assert "SMTPDataError, 451 4.3.0, at " in task["last_error"]
    assert len(project.rows("bgtasks_mail")) == 1
    assert not shows(everything(project) + said)
    server.answer = "250 OK"
    project.hurry()
    said += project.drain(**APP)
    (_, first), (_, second) = server.next(), server.next()
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]
    assert project.rows("bgtasks_mail") == project.rows() == []
    assert [row["number"] for row in project.attempts()] == [1, 2]
    assert not shows(everything(project) + said)


def test_a_worker_killed_after_it_sent_sends_again_under_the_same_message_id(
    deploy: Deploy, server: Server
) -> None:
    project = mailing(deploy, server, BGTASKS_EMAIL_BACKEND=f"{BACKENDS}.Killed")
    post(project)
    project.drain(**APP)
    (_, first), (_, second) = server.next(), server.next()
    assert first["Message-ID"] == second["Message-ID"]
    assert server.mails.empty()
    assert [row["state"] for row in project.attempts()] == ["lost"]
    assert project.rows("bgtasks_mail") == project.rows() == []


def test_a_worker_reads_a_mail_that_was_stored_under_the_key_before(
    deploy: Deploy, server: Server
) -> None:
    project = mailing(deploy, server)
    post(project)
    project.extra["SECRET_KEY"] = "another"
    project.drain(**APP)
    (task,) = project.rows()
    assert "UnreadableMail: Mail 1 cannot be decrypted" in task["last_error"]
    project.extra["SECRET_KEY_FALLBACKS"] = ["tests-only"]
    project.hurry()
    project.drain(**APP)
    assert server.next()[1]["Subject"] == "Quarterly figures"


MAILERS = {
    "default": {
        "BACKEND": "bgtasks.mail.BackgroundEmailBackend",
        "OPTIONS": {"mailer": "real"},
    },
    "lost": {"BACKEND": "bgtasks.mail.BackgroundEmailBackend"},
    "circular": {
        "BACKEND": "bgtasks.mail.BackgroundEmailBackend",
        "OPTIONS": {"mailer": "default"},
    },
}


if HAS_MAILERS:

    def test_with_mailers_the_mailer_that_is_named_sends(deploy: Deploy, server: Server) -> None:
        real = {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {"host": "127.0.0.1", "port": server.port},
        }
        project = deploy(MAILERS={**MAILERS, "real": real})
        post(project)
        project.drain(**APP)
        assert server.next()[1]["Subject"] == "Quarterly figures"
        assert project.rows("bgtasks_mail") == []
        told = project.run(
            "from bgtasks.exceptions import InvalidMailSettings\n"
            "from django.core.mail import EmailMessage\n"
            "for name in ('lost', 'circular'):\n"
            "    try: EmailMessage('s', 'b', to=['a@example.com']).send(using=name)\n"
            "    except InvalidMailSettings as error: print(error)\n"
        )
        assert "names the mailer None to send by" in told
        assert "MAILERS['default'] is bgtasks.mail.BackgroundEmailBackend" in told
