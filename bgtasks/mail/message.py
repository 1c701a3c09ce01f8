"""A mail as JSON, and back.

What a backend may read is kept: the attributes of the message, and what ``message()`` would be
different about in another process.
"""

from __future__ import annotations

import email.policy
import functools
import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from inspect import isfunction
from typing import Any

from django.core.mail import EmailMessage, EmailMultiAlternatives

from bgtasks.exceptions import UnstorableMail
from bgtasks.mail.building import built_for_smtp, bytes_for_smtp
from bgtasks.mail.values import decoded, encoded

logger = logging.getLogger(__name__)

# What Django gives a mail. The last two go with Django 6, where a mail that has them fails.
ATTRIBUTES = (
    "subject",
    "body",
    "from_email",
    "to",
    "cc",
    "bcc",
    "reply_to",
    "extra_headers",
    "attachments",
    "alternatives",
    "content_subtype",
    "encoding",
    "mixed_subtype",
    "alternative_subtype",
)


# What a mail is sent by stays here; its worker has a connection of its own.
LEFT_HERE = {"connection", "_connection"}


# Methods that are over when a mail comes to its backend. All others say what it looks like.
BEFORE_SENDING = {
    "__init__",
    "send",
    "attach",
    "attach_file",
    "attach_alternative",
    "get_connection",
    "body_contains",
}


BUILDERS = {
    name
    for class_ in (EmailMessage, EmailMultiAlternatives)
    for name, value in vars(class_).items()
    if isfunction(value)
} - BEFORE_SENDING


_MISSING = object()


def written(message: EmailMessage) -> dict[str, Any]:
    built = built_for_smtp(message)
    own = _builds_its_own(message)
    return {
        "class": _base(message).__name__,
        "attributes": _attributes(message),
        # Chosen when a mail is built. A retry must not choose again: whoever gets both mails can
        # tell by the Message-ID that they are one.
        "headers": {name: str(built[name]) for name in ("Message-ID", "Date") if name in built},
        "raw": b64encode(bytes_for_smtp(built)).decode() if own else None,
        "recipients": encoded(list(message.recipients())) if own else None,
    }


def _base(message: EmailMessage) -> type[EmailMessage]:
    multiple = isinstance(message, EmailMultiAlternatives)
    return EmailMultiAlternatives if multiple else EmailMessage


def _builds_its_own(message: EmailMessage) -> bool:
    """Whether it looks other than its attributes say, by methods of its own."""
    base = _base(message)
    return any(
        name in vars(message) or getattr(type(message), name, None) is not getattr(base, name, None)
        for name in BUILDERS
    )


def _attributes(message: EmailMessage) -> dict[str, Any]:
    base = _base(message)
    found = {}
    for name in ATTRIBUTES:
        value: Any = getattr(message, name, _MISSING)
        if value is _MISSING or value == getattr(base, name, _MISSING):
            continue
        try:
            found[name] = _headers(value) if name == "extra_headers" else encoded(value)
        except (TypeError, ValueError) as error:
            raise _complaint(message, name, error) from error
    return found | _further_attributes(message)


def _headers(headers: Mapping[str, Any]) -> Any:
    """What Django makes text of, it makes text of here."""

    def value(given: Any) -> Any:
        try:
            encoded(given)
        except (TypeError, ValueError):
            return str(given)
        return given

    return encoded({str(name): value(given) for name, given in headers.items()})


def _further_attributes(message: EmailMessage) -> dict[str, Any]:
    """What Django knows nothing of and the real backend may: tags, metadata and the like."""
    exact = type(message) is _base(message)
    found = {}
    for name, value in (_of_its_classes(message) | vars(message)).items():
        if name in LEFT_HERE or name in ATTRIBUTES or name in BUILDERS:
            continue
        try:
            found[name] = encoded(value)
        except (TypeError, ValueError) as error:
            if exact:  # somebody set it for the backend
                raise _complaint(message, name, error) from error
            if name in vars(message):
                _warn_once(f"{type(message).__module__}.{type(message).__name__}", name, str(error))
    return found


def _of_its_classes(message: EmailMessage) -> dict[str, Any]:
    """Values that subclasses of Django's classes have for all their mails."""
    found: dict[str, Any] = {}
    for class_ in reversed(type(message).__mro__):
        if class_ not in {object, EmailMessage, EmailMultiAlternatives}:
            found |= {
                name: value
                for name, value in vars(class_).items()
                if not name.startswith("_") and not hasattr(value, "__get__")
            }
    return found


@functools.cache
def _warn_once(class_: str, name: str, reason: str) -> None:
    logger.warning(
        "Mails of the class %s are queued without their attribute %s: %s. Where the mail backend "
        "reads it, give it a value that JSON knows.",
        class_,
        name,
        reason,
    )


def _complaint(message: EmailMessage, name: str, reason: Exception) -> UnstorableMail:
    return UnstorableMail(
        f"The attribute {name} of a {type(message).__name__} cannot be queued ({reason}). Use "
        "text, bytes, numbers, lists, dicts, dates or MIME parts; or send this mail at once, by a "
        "connection of the real backend."
    )


def rebuilt(mail: Mapping[str, Any]) -> EmailMessage:
    multiple = mail["class"] == "EmailMultiAlternatives"
    message = StoredMultiAlternatives() if multiple else StoredMessage()
    for name, value in mail["attributes"].items():
        setattr(message, name, decoded(value))
    message.stored_headers = mail["headers"]
    if mail["raw"] is not None:
        message.stored_bytes = b64decode(mail["raw"])
        message.stored_recipients = decoded(mail["recipients"])
    return message


class StoredMessage(EmailMessage):
    """A mail from the queue. Its Message-ID and Date were chosen when it was queued.

    Those stand beside the headers that the sender gave, not among them: of a backend that sends
    by attributes, some services refuse such headers.

    Attributes:
        stored_bytes: of a class with a ``message()`` of its own, what that gave.
    """

    stored_headers: Mapping[str, str] = {}
    stored_bytes: bytes | None = None
    stored_recipients: list[str] | None = None

    def message(self, *args: Any, **kwargs: Any) -> Any:
        if self.stored_bytes is not None:
            return RawMessage.of(self.stored_bytes, kwargs.get("policy", email.policy.compat32))
        built = super().message(*args, **kwargs)
        for name, value in self.stored_headers.items():
            if name in built:
                built.replace_header(name, value)
        return built

    def recipients(self) -> list[str]:
        kept = self.stored_recipients
        return super().recipients() if kept is None else kept


class StoredMultiAlternatives(StoredMessage, EmailMultiAlternatives):
    """As `StoredMessage`, of a mail that has alternatives."""


class RawMessage(Message):
    """A parsed mail that is written as the very bytes that it was parsed from.

    Signatures hold for these bytes only.
    """

    exact: bytes

    @classmethod
    def of(cls, exact: bytes, policy: Any) -> RawMessage:
        message = cls(policy=policy)
        message.__dict__ |= vars(BytesParser(Message, policy=policy).parsebytes(exact))
        message.exact = exact
        return message

    def as_bytes(  # Django 5.2's own messages take a linesep too
        self, unixfrom: bool = False, policy: Any = None, linesep: str | None = None
    ) -> bytes:
        ending = linesep or (policy or self.policy).linesep
        return self.exact.replace(b"\r\n", ending.encode())

    def as_string(self, unixfrom: bool = False, *args: Any, **options: Any) -> str:
        return self.as_bytes(linesep=options.get("linesep")).decode(errors="surrogateescape")
