"""Metrics for Prometheus: from a view of the site, and from a worker's port.

They are read from the tables when somebody asks, so each process of a deployment tells the same.
Needs ``pip install "django-bgtasks[metrics]"``.
"""

from bgtasks.metrics.views import view

__all__ = ["view"]
