"""Passwords are hashed one at a time in each process."""

from __future__ import annotations

import threading
from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher

# Each hash takes 100 MiB and eight threads, so that several at once need much more memory and end
# no sooner. Each web request has a thread of its own: without the lock, thirty log-ins at once
# took 2 GB.
_turn = threading.Lock()


class Argon2InTurn(Argon2PasswordHasher):
    """Django's hasher by Argon2, whose hashes it writes and reads, one at a time."""

    def encode(self, *args: Any, **kwargs: Any) -> str:
        with _turn:
            encoded: str = super().encode(*args, **kwargs)
            return encoded

    def verify(self, *args: Any, **kwargs: Any) -> bool:
        with _turn:
            return super().verify(*args, **kwargs)
