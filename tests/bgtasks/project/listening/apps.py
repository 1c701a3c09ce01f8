"""An app whose receivers all raise."""

from django.apps import AppConfig


class Listening(AppConfig):
    name = "tests.bgtasks.project.listening"
    label = "listening"

    def ready(self) -> None:
        from background_task import signals
        from background_task.models import CompletedTask, Task
        from django.contrib.auth.models import User
        from django.db.models.signals import post_delete, post_save, pre_save

        from tests.bgtasks.project.tasks import note

        def raising(name: str):
            def receiver(**kwargs: object) -> None:
                note("receiver", name)
                User.objects.create(username=f"{name}-{User.objects.count()}")
                User.objects.create(username="x" * 3, id="no number")

            return receiver

        def audit(sender: type, **kwargs: object) -> None:
            """As an audit log does, for all models there are; it expects them to be its own."""
            if sender is not User:
                note("receiver", "audit")
                raise AttributeError(f"{sender.__name__} has no tenant")

        post_save.connect(audit, weak=False)
        post_delete.connect(audit, weak=False)
        for name in ("successful", "failed", "error", "rescheduled", "started", "finished"):
            getattr(signals, f"task_{name}").connect(raising(name), weak=False)
        for signal, model in ((post_save, CompletedTask), (post_delete, Task), (pre_save, Task)):
            worker_only = raising(f"{model.__name__}")
            signal.connect(worker_only, sender=model, weak=False)
