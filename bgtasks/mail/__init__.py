"""Every mail through the queue: ``EMAIL_BACKEND = "bgtasks.mail.BackgroundEmailBackend"``.

A mail is stored encrypted, in the caller's transaction, together with a row of the task that sends
it. That row carries nothing but the mail's id. The worker sends the mail by the backend that
`BGTASKS_EMAIL_BACKEND` names. This package may import `bgtasks.calls` and what stands below that.
"""

from bgtasks.mail.backend import BackgroundEmailBackend
from bgtasks.mail.sending import send

__all__ = ["BackgroundEmailBackend", "send"]
