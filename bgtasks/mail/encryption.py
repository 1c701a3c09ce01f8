"""Encrypts a mail to the text that its row keeps, and decrypts it again.

The cipher is Fernet of the package ``cryptography``. Its keys are made of `SECRET_KEY` and
`SECRET_KEY_FALLBACKS` by HKDF (RFC 5869).
"""

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

# HKDF's `info`. It makes these keys differ from all others that are made of SECRET_KEY.
LABEL = b"bgtasks.mail"


def seal(mail_id: int, message: EmailMessage, mailer: str | None = None) -> str:
    """A mail as the database keeps it: as encrypted JSON.

    The mail is built once here, as the real backend will build it later. So a mail that cannot be
    built, for example because a header has a line break, fails where it was made and not in a
    worker.

    Args:
        mail_id: the id that its row will have. It is encrypted with the mail, so that nobody can
            move the text to another row.
        message: the mail.
        mailer: the name of the mailer that is to send it, which is stored with it.

    Raises:
        CryptographyMissing: the package that encrypts mails is not installed.
        UnstorableMail: the mail has an attribute that cannot be stored.
        MailTooLarge: the mail exceeds `BGTASKS_MAIL_MAX_SIZE` bytes.
        Exception: whatever the message's own ``message()`` raises.
    """
    keys = _keys()
    mail = {"mailer": mailer, **written(message), "id": mail_id}
    # A text may hold lone surrogates, if somebody decoded bytes with surrogateescape. UTF-8 does
    # not allow them; surrogatepass keeps them.
    text = json.dumps(mail, ensure_ascii=False).encode(errors="surrogatepass")
    if len(text) > (most := conf.mail_max_size()):
        raise MailTooLarge(
            f"A mail with {len(message.attachments)} attachments takes {len(text):,} bytes, more "
            f"than BGTASKS_MAIL_MAX_SIZE, {most:,}. Raise that setting, or mail a link to the file."
        )
    return keys.encrypt(text).decode()


def unseal(mail_id: int, body: str) -> tuple[EmailMessage, str | None]:
    """The mail, and the name of the mailer that is to send it.

    Args:
        mail_id: the id of the mail's row.
        body: what `seal` returned.

    Raises:
        CryptographyMissing: the package that decrypts mails is not installed.
        UnreadableMail: none of the keys decrypts it, or it was stored for another row.
    """
    from cryptography.fernet import InvalidToken

    try:
        text = _keys().decrypt(body)
    except InvalidToken:
        text = None
    if text is None:  # raised outside of the except, as InvalidToken would explain nothing more
        raise UnreadableMail(
            f"Mail {mail_id} cannot be decrypted: it was stored under another SECRET_KEY, which is "
            "not among SECRET_KEY_FALLBACKS, or its row was changed. Put the old key there and "
            "restart the workers, before the task has had its last attempt."
        )
    mail = json.loads(text.decode(errors="surrogatepass"))
    # Older versions store no id with a mail. During a deployment, and after going back to such a
    # version, they store mails beside ours, and the database may give those ids above ours, so an
    # id does not say which version has stored the mail. What a mail without an id gives up: who may
    # write into the table can move it to another row, so that it is sent twice or in the place of
    # another, as before. Nobody can take the id out of a mail that has one.
    stored_as = mail.pop("id", mail_id)
    if stored_as != mail_id:
        raise UnreadableMail(
            f"Mail {mail_id} is not sent: what stands in its row was stored for another row, of "
            f"the id {stored_as}. Rows were given new ids, or the table was changed by hand. "
            "Delete the row, and send the mail again if it is missing."
        )
    return rebuilt(mail), mail["mailer"]


def _keys() -> MultiFernet:
    """The keys of which the first encrypts and any may decrypt.

    Raises:
        CryptographyMissing
    """
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
