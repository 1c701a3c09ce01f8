"""Django's own tasks framework: the backend that keeps its tasks in our rows.

The backend is `DatabaseBackend`. This package stands above `bgtasks.calls` and may import whatever
stands below that, and nothing of the other dialects.
"""

from bgtasks.dialects.django_tasks.backend import DatabaseBackend

__all__ = ["DatabaseBackend"]
