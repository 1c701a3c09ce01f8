"""The site, with its slow work done elsewhere than in the background, for comparison.

``BENCH_MODE=request`` does all of it before the response, as the code of a site without a
task queue would: after the commit, in the same thread. ``BENCH_MODE=nothing`` sends no mail.
"""

import os
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models.signals import post_save

from config.asgi import application
from signup import registration, signals, tasks
from signup.models import User

__all__ = ["application"]


def in_the_request(task: Any) -> Callable[..., None]:
    return lambda *arguments: transaction.on_commit(lambda: task.now(*arguments))


if os.environ["BENCH_MODE"] == "request":
    tasks.send_welcome_email = in_the_request(tasks.send_welcome_email)
    registration.make_renditions = in_the_request(registration.make_renditions)
elif os.environ["BENCH_MODE"] == "nothing":
    post_save.disconnect(signals.welcome, sender=User)
