from __future__ import annotations

import unicodedata
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm, PasswordResetForm, UsernameField
from django.core.exceptions import ValidationError
from django.core.files import File
from django.utils import timezone

from signup import images
from signup.models import USERNAME_TAKEN, Report, User
from signup.tasks import send_password_reset

# Cc: control characters, with all that breaks a line; Zl, Zp: Unicode's line separators.
CONTROLS = {"Cc", "Zl", "Zp"}
EPOCH = date(1970, 1, 1)


class OneLine:
    """Mixin: a text field that refuses line breaks and other control characters.

    Fields strip white space before they validate, and that would hide a newline at an end. The
    one-line input of a browser never sends one, so a request that has one was forged.
    """

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and any(unicodedata.category(c) in CONTROLS for c in value):
            raise ValidationError("Line breaks and control characters are not allowed here.")
        return super().to_python(value)  # type: ignore[misc]


class OneLineUsernameField(OneLine, UsernameField):
    pass


class OneLineEmailField(OneLine, forms.EmailField):
    pass


class AvatarField(forms.FileField):
    """A file field that accepts only whole pictures; see `images.check`."""

    widget = forms.FileInput(attrs={"accept": images.ACCEPT})

    def to_python(self, data: Any) -> File | None:
        upload = super().to_python(data)
        if upload is None:
            return None
        try:
            images.check(upload)
        except images.BadImage as error:
            raise ValidationError(str(error), code="bad_image") from error
        return upload


def avatar_field(*, required: bool) -> AvatarField:
    return AvatarField(
        required=required,
        label="Picture",
        max_length=255,
        help_text=f"JPEG, PNG, GIF or WebP, at most {images.MAX_BYTES // 1024**2} MB. "
        "It is cut square; place and camera details in it are removed.",
    )


class SignupForm(BaseUserCreationForm):
    avatar = avatar_field(required=False)

    class Meta(BaseUserCreationForm.Meta):
        model = User
        fields = ("username", "email")
        field_classes = {"username": OneLineUsernameField, "email": OneLineEmailField}
        help_texts = {"email": "Needed to reset a forgotten password."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].widget.attrs["autocomplete"] = "email"

    def focus_first_error(self) -> None:
        """Put the cursor where something is wrong, rather than where the form begins."""
        for field in self.fields.values():
            field.widget.attrs.pop("autofocus", None)
        first = next((name for name in self.fields if name in self.errors), "username")
        self.fields[first].widget.attrs["autofocus"] = True

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        if User.objects.named(username).exists():
            raise ValidationError(USERNAME_TAKEN, code="unique")
        return username


class AvatarForm(forms.Form):
    avatar = avatar_field(required=True)


class QueuedPasswordResetForm(PasswordResetForm):
    """Django's form, with the search for accounts and the mail done in the background.

    The request does the same for every address: it writes one row. So neither the page nor the
    time that it takes shows whether an account has this address.
    """

    email = OneLineEmailField(
        max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True})
    )

    def save(self, *args: Any, **kwargs: Any) -> None:
        send_password_reset(self.cleaned_data["email"])


class ReportForm(forms.ModelForm):
    class Meta:
        model = Report
        fields = ("start", "end")
        widgets = {
            name: forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d") for name in fields
        }

    def clean_start(self) -> date:
        start: date = self.cleaned_data["start"]
        # The first days of year 1 cannot be converted to UTC in time zones east of it.
        if start < EPOCH:
            raise ValidationError(f"Nobody signed up before {EPOCH:%Y}.")
        return start

    def clean_end(self) -> date:
        end: date = self.cleaned_data["end"]
        # Tomorrow is allowed, because it may be today already where the staff lives.
        if end > timezone.localdate() + timedelta(days=1):
            raise ValidationError("This day is yet to come.")
        return end

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "start" in cleaned and "end" in cleaned and cleaned["end"] < cleaned["start"]:
            self.add_error("end", "The last day is before the first.")
        return cleaned
