from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher, check_password, make_password

from config import hashers
from tests.site.test_settings import setting

pytestmark = pytest.mark.any_database


@pytest.fixture
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The site's hasher with little to do; for each hash, whether another had to wait."""
    settings.PASSWORD_HASHERS = ["config.hashers.Argon2InTurn"]
    monkeypatch.setattr(hashers.Argon2InTurn, "memory_cost", 8)
    monkeypatch.setattr(hashers.Argon2InTurn, "parallelism", 1)
    seen: list[bool] = []
    for name in ("encode", "verify"):
        monkeypatch.setattr(Argon2PasswordHasher, name, watched(name, seen))
    return seen


def watched(name: str, seen: list[bool]) -> Any:
    method = getattr(Argon2PasswordHasher, name)

    def watching(*args: Any, **kwargs: Any) -> Any:
        seen.append(hashers._turn.locked())
        return method(*args, **kwargs)

    return watching


def test_passwords_are_hashed_and_checked_one_at_a_time(quick: list[bool]) -> None:
    encoded = make_password("quite-Long-99")
    assert encoded.startswith("argon2$")
    assert check_password("quite-Long-99", encoded)
    assert not check_password("wrong", encoded)
    assert len(quick) >= 3
    assert all(quick)


def test_the_site_uses_that_hasher_and_reads_what_djangos_own_wrote(quick: list[bool]) -> None:
    production = {"SECRET_KEY": "x" * 60, "ALLOWED_HOSTS": "example.com"}
    used = setting("settings.PASSWORD_HASHERS", **production)
    assert used[0] == "config.hashers.Argon2InTurn"  # type: ignore[index]
    hasher = Argon2PasswordHasher()
    assert check_password("quite-Long-99", hasher.encode("quite-Long-99", hasher.salt()))
