"""A mail as encrypted text, and back: JSON first, then Fernet.

What a backend may read is kept: the attributes of the message, and what ``message()`` would be
different about in another process. Nothing is pickled.
"""

from __future__ import annotations

import email.policy
import functools
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from email.charset import Charset
from email.generator import BytesGenerator
from email.message import EmailMessage as ModernMessage
from email.message import Message, MIMEPart
from email.mime.base import MIMEBase
from email.parser import BytesParser
from inspect import isfunction, signature
from io import BytesIO
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.mail import (
    EmailAlternative,
    EmailAttachment,
    EmailMessage,
    EmailMultiAlternatives,
)
from django.utils.encoding import force_bytes
from django.utils.functional import Promise

from bgtasks import codec, conf
from bgtasks.exceptions import CryptographyMissing, MailTooLarge, UnreadableMail, UnstorableMail

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

logger = logging.getLogger(__name__)

# Separates these keys from all others that are made of SECRET_KEY.
LABEL = b"bgtasks.mail"

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


# --- the whole way


def seal(message: EmailMessage, mailer: str | None = None) -> str:
    """A mail as the database keeps it.

    It is built once here, as the real backend will build it, so that a header with a line break
    fails where it was made and not in a worker.

    Args:
        mailer: the mailer that is to send it; kept with it.

    Raises:
        CryptographyMissing, UnstorableMail, MailTooLarge
        Exception: whatever the message's own ``message()`` raises.
    """
    keys = _keys()
    mail = {"mailer": mailer, **_written(message)}
    # Text may hold halves of surrogate pairs: bytes that somebody decoded with surrogateescape.
    text = json.dumps(mail, ensure_ascii=False).encode(errors="surrogatepass")
    if len(text) > (most := conf.mail_max_size()):
        raise MailTooLarge(
            f"A mail with {len(message.attachments)} attachments takes {len(text):,} bytes, more "
            f"than BGTASKS_MAIL_MAX_SIZE, {most:,}. Raise that setting, or mail a link to the file."
        )
    return keys.encrypt(text).decode()


def unseal(mail_id: int, body: str) -> tuple[EmailMessage, str | None]:
    """The mail, and the mailer that is to send it.

    Raises:
        CryptographyMissing, UnreadableMail
    """
    from cryptography.fernet import InvalidToken

    try:
        text = _keys().decrypt(body)
    except InvalidToken:
        text = None
    if text is None:  # raised out here: the cause would tell nothing more
        raise UnreadableMail(
            f"Mail {mail_id} cannot be decrypted: it was stored under another SECRET_KEY, which is "
            "not among SECRET_KEY_FALLBACKS, or its row was changed. Put the old key there and "
            "restart the workers, before the task has had its last attempt."
        )
    mail = json.loads(text.decode(errors="surrogatepass"))
    return _rebuilt(mail), mail["mailer"]


def _keys() -> MultiFernet:
    """The first key encrypts; each may decrypt."""
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise CryptographyMissing(
            "bgtasks.mail keeps mails encrypted in the database, and the package cryptography "
            'cannot be imported here. Run `pip install "cryptography>=45"`, for the site and for '
            "its workers."
        ) from None
    return MultiFernet(
        [Fernet(_key(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


def _key(secret: str | bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=LABEL).derive(force_bytes(secret))
    return b64encode(derived, altchars=b"-_")


# --- a mail as JSON


def _written(message: EmailMessage) -> dict[str, Any]:
    built = _built(message)
    own = _builds_its_own(message)
    return {
        "class": _base(message).__name__,
        "attributes": _attributes(message),
        # Chosen when a mail is built. A retry must not choose again: whoever gets both mails can
        # tell by the Message-ID that they are one.
        "headers": {name: str(built[name]) for name in ("Message-ID", "Date") if name in built},
        "raw": b64encode(_bytes_for_smtp(built)).decode() if own else None,
        "recipients": _encoded(list(message.recipients())) if own else None,
    }


def _built(message: EmailMessage) -> Any:
    """The message as Django's SMTP backend asks for it."""
    if django.VERSION >= (6,) and _takes_policy(message.message):
        return message.message(policy=email.policy.SMTP)
    return message.message()


def _takes_policy(build: Callable[..., Any]) -> bool:
    """Not the method of a subclass that was written before there was one."""
    try:
        signature(build).bind(policy=None)
    except TypeError:
        return False
    return True


def _bytes_for_smtp(built: Any) -> bytes:
    if django.VERSION >= (6,):
        return bytes(built.as_bytes())
    return bytes(built.as_bytes(linesep="\r\n"))


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
            found[name] = _headers(value) if name == "extra_headers" else _encoded(value)
        except (TypeError, ValueError) as error:
            raise _complaint(message, name, error) from error
    return found | _further_attributes(message)


def _headers(headers: Mapping[str, Any]) -> Any:
    """What Django makes text of, it makes text of here."""

    def value(given: Any) -> Any:
        try:
            _encoded(given)
        except (TypeError, ValueError):
            return str(given)
        return given

    return _encoded({str(name): value(given) for name, given in headers.items()})


def _further_attributes(message: EmailMessage) -> dict[str, Any]:
    """What Django knows nothing of and the real backend may: tags, metadata and the like."""
    exact = type(message) is _base(message)
    found = {}
    for name, value in (_of_its_classes(message) | vars(message)).items():
        if name in LEFT_HERE or name in ATTRIBUTES or name in BUILDERS:
            continue
        try:
            found[name] = _encoded(value)
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


def _rebuilt(mail: Mapping[str, Any]) -> EmailMessage:
    multiple = mail["class"] == "EmailMultiAlternatives"
    message = StoredMultiAlternatives() if multiple else StoredMessage()
    for name, value in mail["attributes"].items():
        setattr(message, name, _decoded(value))
    message.stored_headers = mail["headers"]
    if mail["raw"] is not None:
        message.stored_bytes = b64decode(mail["raw"])
        message.stored_recipients = _decoded(mail["recipients"])
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


# --- its values

# A value that JSON does not know is a list of a name below and what its reader takes. A list
# itself is one too, so that nothing else is one.


def _encoded(value: Any) -> Any:
    """A value as JSON.

    Raises:
        TypeError, ValueError: it has a part that cannot be written.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for types, name, write in _WRITERS:
        if isinstance(value, types):
            return [name, write(value)]
    return ["codec", codec.dumps(value)]


def _decoded(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    name, written = value
    return _READERS[name](written)


def _all_encoded(values: Any) -> list[Any]:
    return [_encoded(value) for value in values]


def _all_decoded(values: Any) -> list[Any]:
    return [_decoded(value) for value in values]


def _pairs(mapping: Mapping[Any, Any]) -> list[Any]:
    return [_all_encoded(pair) for pair in mapping.items()]


def _part(part: Message) -> str:
    """A MIME part as bytes, as it is: no line folded again, no From escaped."""
    into = BytesIO()
    # A header in UTF-8 would not be read again as such.
    plain: Any = part.policy
    if getattr(plain, "utf8", False):
        plain = plain.clone(utf8=False)
    BytesGenerator(into, mangle_from_=False, maxheaderlen=0, policy=plain).flatten(part)
    return b64encode(into.getvalue()).decode()


def _parsed(class_: Any, policy: Any) -> Callable[[str], Any]:
    return lambda written: BytesParser(class_, policy=policy).parsebytes(b64decode(written))


class _LegacyPart(MIMEBase):
    """A parsed part that is a MIMEBase, for Django takes nothing else of the old kind."""

    def __init__(self, policy: Any = email.policy.compat32) -> None:
        Message.__init__(self, policy=policy)


_WRITERS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (Promise, "text", str),  # in the language that is active now
    ((bytes, bytearray, memoryview), "bytes", lambda value: b64encode(value).decode()),
    (EmailAttachment, "attachment", _all_encoded),
    (EmailAlternative, "alternative", _all_encoded),
    (tuple, "tuple", _all_encoded),
    (list, "list", _all_encoded),
    (Mapping, "dict", _pairs),
    (ModernMessage, "modern message", _part),
    (MIMEPart, "modern part", _part),
    (MIMEBase, "legacy part", _part),
    (Message, "legacy message", _part),
    # Attached whole. Only what it looks like is of use to anybody.
    (EmailMessage, "part", lambda value: _encoded(_built(value))),
    (Charset, "charset", lambda value: _pairs(vars(value))),
]


def _charset(pairs: Any) -> Charset:
    charset = Charset()
    charset.__dict__ |= _dict(pairs)
    return charset


def _dict(pairs: Any) -> dict[Any, Any]:
    return dict(map(_all_decoded, pairs))


_READERS: dict[str, Callable[[Any], Any]] = {
    "text": str,
    "bytes": b64decode,
    "attachment": lambda values: EmailAttachment(*_all_decoded(values)),
    "alternative": lambda values: EmailAlternative(*_all_decoded(values)),
    "tuple": lambda values: tuple(_all_decoded(values)),
    "list": _all_decoded,
    "dict": _dict,
    "modern message": _parsed(ModernMessage, email.policy.default),
    "modern part": _parsed(MIMEPart, email.policy.default),
    "legacy part": _parsed(_LegacyPart, email.policy.compat32),
    "legacy message": _parsed(Message, email.policy.compat32),
    "part": lambda value: _decoded(value),
    "charset": _charset,
    "codec": codec.loads,
}
