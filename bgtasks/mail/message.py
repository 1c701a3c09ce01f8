"""A mail as JSON, and back.

Everything that a backend may read is stored: the attributes of the message, and those parts of
what ``message()`` builds that would be different in the worker's process.
"""

from __future__ import annotations

import email.policy
import functools
from base64 import b64decode, b64encode
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from inspect import isfunction
from typing import Any

from django.core.mail import EmailMessage, EmailMultiAlternatives

from bgtasks.exceptions import UnstorableMail
from bgtasks.logs import get_logger
from bgtasks.mail.building import built_for_smtp, bytes_for_smtp
from bgtasks.mail.values import decoded, encoded

logger = get_logger(__name__)

# The attributes that Django's own classes give a mail. Django 6 has removed the last two, and
# there a mail that has them cannot be built.
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


# Attributes that are not stored: the connection to send by. The worker makes its own.
NOT_STORED = {"connection", "_connection"}


# Methods that have done their work when a mail reaches its backend. All other methods of Django's
# classes decide what the mail looks like.
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
    """A mail as a value that JSON knows, for `rebuilt`.

    Raises:
        UnstorableMail: an attribute cannot be stored.
        Exception: whatever the message's own ``message()`` raises.
    """
    built = built_for_smtp(message)
    own = _builds_its_own(message)
    return {
        "class": _base(message).__name__,
        "attributes": _attributes(message),
        # These headers are chosen when a mail is built. They are stored so that each attempt sends
        # the same ones: who gets the mail twice can see by the Message-ID that it is the same mail.
        "headers": {name: str(built[name]) for name in ("Message-ID", "Date") if name in built},
        "raw": b64encode(bytes_for_smtp(built)).decode() if own else None,
        "recipients": encoded(list(message.recipients())) if own else None,
    }


def _base(message: EmailMessage) -> type[EmailMessage]:
    multiple = isinstance(message, EmailMultiAlternatives)
    return EmailMultiAlternatives if multiple else EmailMessage


def _builds_its_own(message: EmailMessage) -> bool:
    """Whether a mail has methods of its own, by which it may look other than its attributes say."""
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
    """The headers, each value as it is if it can be stored, and otherwise as text.

    When Django builds the mail, it turns such values into text too.
    """

    def value(given: Any) -> Any:
        try:
            encoded(given)
        except (TypeError, ValueError):
            return str(given)
        return given

    return encoded({str(name): value(given) for name, given in headers.items()})


def _further_attributes(message: EmailMessage) -> dict[str, Any]:
    """Attributes that are not Django's, but which the real backend may read: tags, metadata etc.

    Of a mail of Django's own class, each must be storable, for somebody has set it for the backend.
    Of a subclass, those that cannot be stored are left out with a warning.
    """
    exact = type(message) is _base(message)
    found = {}
    for name, value in (_of_its_classes(message) | vars(message)).items():
        if name in NOT_STORED or name in ATTRIBUTES or name in BUILDERS:
            continue
        try:
            found[name] = encoded(value)
        except (TypeError, ValueError) as error:
            if exact:
                raise _complaint(message, name, error) from error
            if name in vars(message):
                _warn_once(f"{type(message).__module__}.{type(message).__name__}", name, str(error))
    return found


def _of_its_classes(message: EmailMessage) -> dict[str, Any]:
    """Attributes that subclasses of Django's classes define once for all their mails."""
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
        "Mails of the class %s are queued without their attribute %s: %s. If the mail backend "
        "reads it, give it a value that JSON knows.",
        class_,
        name,
        reason,
    )


def _complaint(message: EmailMessage, name: str, reason: Exception) -> UnstorableMail:
    return UnstorableMail(
        f"The attribute {name} of this {type(message).__name__} cannot be queued ({reason}). Use "
        "text, bytes, numbers, lists, dicts, dates or MIME parts; or send this mail at once, by a "
        "connection of the real backend."
    )


def rebuilt(mail: Mapping[str, Any]) -> EmailMessage:
    """The mail that `written` has written."""
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
    """A mail from the queue.

    Attributes:
        stored_headers: the Message-ID and the Date that were chosen when the mail was queued. They
            are not in `extra_headers`: a backend that hands a mail's attributes to a web service
            would pass them on, and some services refuse these headers.
        stored_bytes: what ``message()`` built when the mail was queued, if its class has methods
            of its own; else None.
        stored_recipients: what ``recipients()`` returned then, in the same case; else None.
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
    """As `StoredMessage`, for a mail that may have alternatives."""


class RawMessage(Message):
    """A parsed mail that is written as the very bytes from which it was parsed.

    A signed mail needs that: the signature is valid for exactly these bytes.

    Attributes:
        exact: the bytes, with lines that end in CRLF.
    """

    exact: bytes

    @classmethod
    def of(cls, exact: bytes, policy: Any) -> RawMessage:
        """Parse a mail by a policy of the package ``email``."""
        message = cls(policy=policy)
        message.__dict__ |= vars(BytesParser(Message, policy=policy).parsebytes(exact))
        message.exact = exact
        return message

    def as_bytes(  # Django 5.2 passes `linesep`, which the base class does not have
        self, unixfrom: bool = False, policy: Any = None, linesep: str | None = None
    ) -> bytes:
        ending = linesep or (policy or self.policy).linesep
        return self.exact.replace(b"\r\n", ending.encode())

    def as_string(self, unixfrom: bool = False, *args: Any, **options: Any) -> str:
        return self.as_bytes(linesep=options.get("linesep")).decode(errors="surrogateescape")
