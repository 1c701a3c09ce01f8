"""A row of a project's own that refers to a task's."""

from background_task.models import Task
from django.db import models


class Report(models.Model):
    task = models.ForeignKey(Task, null=True, on_delete=models.SET_NULL)

    def __str__(self) -> str:
        return f"report of {self.task}"
