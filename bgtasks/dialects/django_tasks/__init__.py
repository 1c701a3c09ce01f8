"""Django's own tasks framework: the backend that keeps its tasks in our rows.

The backend is `DatabaseBackend`. This package may import `bgtasks.calls` and what stands below
that, and never another dialect.
"""

from bgtasks.dialects.django_tasks.backend import DatabaseBackend

__all__ = ["DatabaseBackend"]
