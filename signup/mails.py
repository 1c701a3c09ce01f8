"""The mails that the site sends, built where they are sent: in the worker."""

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

MOST_ACCOUNTS = 5  # that one request for a password reset sends mails for


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
    """Django's password reset, told where the site is, and loud when a mail fails."""

    def save(self, **kwargs: Any) -> None:  # type: ignore[override]
        site = urlsplit(settings.SITE_URL)
        super().save(domain_override=site.netloc, use_https=site.scheme == "https")

    def get_users(self, email: str) -> Iterator[User]:
        # One address may have many accounts, and anybody may have made them.
        return islice(super().get_users(email), MOST_ACCOUNTS)

    def send_mail(
        self,
        subject_template_name: str,
        email_template_name: str,
        context: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        # Django's own logs a failure and returns; the queue must see it to try again.
        _mail("signup/email/password_reset", context, context["email"]).send()
