"""Every mail through the queue: ``EMAIL_BACKEND = "bgtasks.mail.BackgroundEmailBackend"``.

A mail is stored encrypted, in the caller's transaction, together with a task that has nothing
but its id; the worker sends it by the backend that `BGTASKS_EMAIL_BACKEND` names. This package
stands above `bgtasks.calls` and may import whatever stands below that.
"""

from bgtasks.mail.backend import BackgroundEmailBackend
from bgtasks.mail.sending import send

__all__ = ["BackgroundEmailBackend", "send"]
