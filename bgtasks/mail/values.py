"""The values of a mail's attributes as JSON, and back. Nothing is pickled.

None, booleans, numbers and texts are written as they are. Any other value is written as a list of
two: the name of a type from the tables below, and what the reader of that type takes. A list is
written in that way too, as ``["list", [...]]``. So every list that `decoded` meets is such a pair.
"""

from __future__ import annotations

import email.policy
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from email.charset import Charset
from email.generator import BytesGenerator
from email.message import EmailMessage as ModernMessage
from email.message import Message, MIMEPart
from email.mime.base import MIMEBase
from email.parser import BytesParser
from io import BytesIO
from typing import Any

from django.core.mail import EmailAlternative, EmailAttachment, EmailMessage
from django.utils.functional import Promise

from bgtasks.mail.building import built_for_smtp
from bgtasks.serialize import codec


def encoded(value: Any) -> Any:
    """A value as one that JSON knows, for `decoded`.

    Raises:
        TypeError, ValueError: a part of the value cannot be written.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for types, name, write in _WRITERS:
        if isinstance(value, types):
            return [name, write(value)]
    return ["codec", codec.dumps(value)]


def decoded(value: Any) -> Any:
    """The value that `encoded` has written."""
    if not isinstance(value, list):
        return value
    name, written = value
    return _READERS[name](written)


def _all_encoded(values: Any) -> list[Any]:
    return [encoded(value) for value in values]


def _all_decoded(values: Any) -> list[Any]:
    return [decoded(value) for value in values]


def _pairs(mapping: Mapping[Any, Any]) -> list[Any]:
    return [_all_encoded(pair) for pair in mapping.items()]


def _part(part: Message) -> str:
    """A MIME part as bytes in base64, unchanged: no line is folded again, no "From " escaped."""
    into = BytesIO()
    # The parser would not decode headers that are written as plain UTF-8.
    plain: Any = part.policy
    if getattr(plain, "utf8", False):
        plain = plain.clone(utf8=False)
    BytesGenerator(into, mangle_from_=False, maxheaderlen=0, policy=plain).flatten(part)
    return b64encode(into.getvalue()).decode()


def _parsed(class_: Any, policy: Any) -> Callable[[str], Any]:
    return lambda written: BytesParser(class_, policy=policy).parsebytes(b64decode(written))


class _LegacyPart(MIMEBase):
    """A parsed part that is a MIMEBase: of the old kind of parts Django attaches no others."""

    def __init__(self, policy: Any = email.policy.compat32) -> None:
        Message.__init__(self, policy=policy)


_WRITERS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (Promise, "text", str),  # a lazy text, in the language that is active now
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
    # A mail attached to another. It is written as the MIME message that would be sent.
    (EmailMessage, "part", lambda value: encoded(built_for_smtp(value))),
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
    "part": lambda value: decoded(value),
    "charset": _charset,
    "codec": codec.loads,
}
