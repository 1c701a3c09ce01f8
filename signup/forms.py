from __future__ import annotations

import unicodedata
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import (
    AuthenticationForm,
    BaseUserCreationForm,
    PasswordChangeForm,
    PasswordResetForm,
    SetPasswordForm,
    UsernameField,
)
from django.contrib.auth.password_validation import (
    MinimumLengthValidator,
    get_default_password_validators,
)
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


def password_help() -> str:
    """What a new password must be like, in one line. An error names the rule that was broken."""
    lengths = [
        validator.min_length
        for validator in get_default_password_validators()
        if isinstance(validator, MinimumLengthValidator)
    ]
    length = f"At least {max(lengths)} characters, and hard" if lengths else "Hard"
    return f"{length} to guess: not your name, no common password, not digits alone."


class Focused:
    """Mixin: help for who fills a form in. After an error the cursor is where something is missing.

    That is the first field that has an error, or a field before it that came back empty: browsers
    get no passwords back. Django puts what is wrong with a new password to its second field. What
    that must be like is one line, and not a list of all rules.
    """

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("password1", "new_password1"):
            if name in self.fields:
                self.fields[name].help_text = password_help()

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(field, error)  # type: ignore[misc]
        self.focus_first_error()

    def focus_first_error(self) -> None:
        errors = self._errors or {}  # type: ignore[attr-defined]
        if not errors:
            return
        for field in self.fields.values():
            field.widget.attrs.pop("autofocus", None)
        wrong = [
            name
            for name, field in self.fields.items()
            if name in errors or isinstance(field.widget, forms.PasswordInput)
        ]
        self.fields[(wrong or list(self.fields))[0]].widget.attrs["autofocus"] = True


class LoginForm(Focused, AuthenticationForm):
    pass


class ChangePasswordForm(Focused, PasswordChangeForm):
    pass


class NewPasswordForm(Focused, SetPasswordForm):
    pass


class SignupForm(Focused, BaseUserCreationForm):
    avatar = avatar_field(required=False)

    class Meta(BaseUserCreationForm.Meta):
        model = User
        fields = ("username", "email")
        field_classes = {"username": OneLineUsernameField, "email": OneLineEmailField}
        help_texts = {"email": "Needed to reset a forgotten password."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].widget.attrs["autocomplete"] = "email"

    def keep_picture(self, in_page: bool) -> None:
        """After an error elsewhere, keep the picture that was chosen, or ask for it again.

        Args:
            in_page: whether the answer takes the place of a part of the page. Then the field of the
                page stays, with its file. No server can give a browser a file for a new field.
        """
        if "avatar" in self.errors:
            return
        if in_page:
            self.fields["avatar"].widget.attrs["hx-preserve"] = ""
        elif self.files:
            field = self["avatar"]
            field.help_text = f"Please choose your picture again. {field.help_text}"

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        if User.objects.named(username).exists():
            raise ValidationError(USERNAME_TAKEN, code="unique")
        return username


class AvatarForm(Focused, forms.Form):
    avatar = avatar_field(required=True)


class QueuedPasswordResetForm(Focused, PasswordResetForm):
    """Django's form, with the search for accounts and the mail done in the background.

    The request does the same for every address: it writes one row. So neither the page nor the
    time that it takes shows whether an account has this address.
    """

    email = OneLineEmailField(
        max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True})
    )

    def save(self, *args: Any, **kwargs: Any) -> None:
        send_password_reset(self.cleaned_data["email"])


class ReportForm(Focused, forms.ModelForm):
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
