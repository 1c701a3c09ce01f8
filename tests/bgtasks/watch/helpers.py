"""A web server of the tests' project, and clients that read its event streams."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.signed_cookies import SessionStore

from bgtasks.watch import watch_url
from tests.harness.deployment import Deployment
from tests.harness.process import Process

ENQUEUE = """
import json
from django.contrib.auth.models import User
user = User.objects.create_user("zoe")
row = tasks.{call}, creator=user)
print(json.dumps([row.pk, user.pk, user.get_session_auth_hash()]))
"""


class Watched:
    """A task of the project, and the cookie of who has enqueued it.

    Args:
        call: the call of the task, without the closing parenthesis.
    """

    def __init__(self, project: Deployment, call: str) -> None:
        said = project.run(ENQUEUE.format(call=call))
        self.id, pk, password_hash = json.loads(said.splitlines()[-1])
        self.url = watch_url(self.id)
        session = SessionStore()
        session[SESSION_KEY] = str(pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = password_hash
        session.save()
        self.cookies = {"sessionid": str(session.session_key)}


class Web:
    """A web server of the project: one process of uvicorn's."""

    def __init__(self, project: Deployment) -> None:
        self.process = Process(
            "-m", "uvicorn", "tests.bgtasks.project.asgi:application",
            "--port", "0", "--lifespan", "off",
            env=project.environment(DJANGO_SETTINGS_MODULE="tests.bgtasks.project.web"),
        )  # fmt: skip
        project.workers.append(self.process)  # it ends with the project
        running = self.process.wait_for("Uvicorn running on")
        [self.url] = re.findall(r"http://\S+", running)

    def get(self, task: Watched, **headers: str) -> httpx.Response:
        return httpx.get(self.url + task.url, cookies=task.cookies, headers=headers)

    @contextmanager
    def stream(self, task: Watched) -> Iterator[Events]:
        """The event stream of a task."""
        headers = {"Accept": "text/event-stream"}
        with (
            httpx.Client(base_url=self.url, cookies=task.cookies, timeout=60) as client,
            client.stream("GET", task.url, headers=headers) as response,
        ):
            assert response.status_code == 200
            assert response.headers["Content-Type"] == "text/event-stream"
            yield Events(response)

    def descriptors(self) -> int:
        """How many files and sockets the server has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


class Events:
    """What comes on an event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self

    def __next__(self) -> tuple[str, Any]:
        name = ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                return name, json.loads(value)
        raise StopIteration

    def comment(self) -> str:
        """The next comment, which keeps the stream alive."""
        return next(line for line in self._lines if line.startswith(":"))

    def until(self, state: str) -> Any:
        """The next event of a task that is in this state."""
        return next(task for _, task in self if task["state"] == state)
