"""What a worker imports of this app: with it, the task that sends mails."""

from bgtasks.mail import send

__all__ = ["send"]
