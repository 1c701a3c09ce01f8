"""A mail as the encrypted text that a row keeps, and back. The cipher is Fernet."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.encoding import force_bytes

from bgtasks import conf
from bgtasks.exceptions import CryptographyMissing, MailTooLarge, UnreadableMail
from bgtasks.mail.message import rebuilt, written

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

# Separates these keys from all others that are made of SECRET_KEY.
LABEL = b"bgtasks.mail"


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
    mail = {"mailer": mailer, **written(message)}
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
    return rebuilt(mail), mail["mailer"]


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
