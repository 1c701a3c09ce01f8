"""The Django admin: the entry "Background tasks", with pages to look at tasks and act on them."""

from bgtasks.admin import act, entry, overview, schedules, stock, task, tasks, workers

__all__ = ["act", "entry", "overview", "schedules", "stock", "task", "tasks", "workers"]
