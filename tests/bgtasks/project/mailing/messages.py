"""A mail of which no word may show."""

from __future__ import annotations

from django.core.mail import EmailMultiAlternatives

BYTES = bytes(range(256))


def secret_mail() -> EmailMultiAlternatives:
    message = EmailMultiAlternatives(
        "Quarterly figures",
        "the treasure is buried",
        "sender@example.com",
        ["Ottilie <ottilie@example.com>"],
        cc=["carl@example.com"],
        bcc=["bob@example.com"],
        reply_to=["answers@example.com"],
        headers={"X-Kind": "report"},
    )
    message.attach_alternative("<b>the treasure is buried</b>", "text/html")
    message.attach("zahlen.bin", BYTES, "application/octet-stream")
    message.attach("notes.txt", "the treasure is buried, \N{SNOWMAN}", "text/plain")
    return message
