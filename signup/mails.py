"""The mails that the site sends. The worker builds them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.forms import PasswordResetForm
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from signup.models import User

MOST_ACCOUNTS = 5  # to as many accounts one request for a password reset sends mails


def welcome(user: User) -> EmailMultiAlternatives:
    context = {"user": user, "site_url": settings.SITE_URL}
    return _mail("signup/email/welcome", context, user.email)


def _mail(template: str, context: dict[str, Any], to: str) -> EmailMultiAlternatives:
    """A mail of two parts, from ``template``.txt and .html; the first line is the subject."""
    subject, _, text = render_to_string(f"{template}.txt", context).partition("\n")
    mail = EmailMultiAlternatives(subject, text.lstrip("\n"), to=[to])
    mail.attach_alternative(render_to_string(f"{template}.html", context), "text/html")
    return mail


class PasswordResetMail(PasswordResetForm):
    """Django's password reset for a worker.

    It takes the address of the site from the settings, for there is no request, and it raises what
    sending a mail raises.
    """

    def save(self, **kwargs: Any) -> None:  # type: ignore[override]
        site = urlsplit(settings.SITE_URL)
        super().save(domain_override=site.netloc, use_https=site.scheme == "https")

    def get_users(self, email: str) -> Iterator[User]:
        # Anybody may make many accounts with one address, which would then get many mails.
        return islice(super().get_users(email), MOST_ACCOUNTS)

    def send_mail(
        self,
        subject_template_name: str,
        email_template_name: str,
        context: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        # Django's own method logs a failure and returns. Here it must raise, so that the task is
        # tried again.
        _mail("signup/email/password_reset", context, context["email"]).send()
