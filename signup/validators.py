import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# To Unicode these are letters, so that Django takes them in names. Nothing is seen of them: four
# that fill the place of a Korean letter, and two that leave room between hieroglyphs.
INVISIBLE = re.compile("[\\u115f\\u1160\\u3164\\uffa0\\U00013441\\U00013442]")


def no_invisible_letters(name: str) -> None:
    """Refuse names that look empty, or like the name of somebody else."""
    if found := INVISIBLE.search(name):
        raise ValidationError(
            _("This name contains an invisible character (U+%(code)04X). Leave it out."),
            code="invisible",
            params={"code": ord(found[0])},
        )


class MaximumLengthValidator:
    """Refuses passwords that are absurdly long: hashing them takes time."""

    def __init__(self, max_length: int = 256) -> None:
        self.max_length = max_length

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > self.max_length:
            raise ValidationError(
                _("This password is too long. It must have at most %(max)d characters."),
                code="password_too_long",
                params={"max": self.max_length},
            )

    def get_help_text(self) -> str:
        return _("Your password must have at most %(max)d characters.") % {"max": self.max_length}
