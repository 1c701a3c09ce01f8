"""A password hash that costs next to nothing: most tests of the signup make several."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class QuickArgon2(Argon2PasswordHasher):
    """The site's hasher with the least that Argon2 can take."""

    time_cost = 1
    memory_cost = 8  # kibibytes; Django's own is 100 MiB
    parallelism = 1
