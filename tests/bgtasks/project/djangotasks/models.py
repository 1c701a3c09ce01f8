"""Imports its tasks while Django still imports models, as projects do."""

from .tasks import double

__all__ = ["double"]
