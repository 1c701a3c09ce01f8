"""Moments as Python has them and as the workers' heartbeats tell them."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone


def at(seconds: float) -> datetime:
    """A moment given in seconds since 1970, like those of `timezone.now`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment if timezone.is_aware(timezone.now()) else timezone.make_naive(moment)
