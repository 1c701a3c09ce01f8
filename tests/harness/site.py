"""The site as it is deployed: a web server, a worker, a mail server, a database."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import httpx

from tests import settings
from tests.harness.databases import Database
from tests.harness.process import Process, run_python
from tests.harness.servers import Mailbox

PASSWORD = "quite-Long-99"


class LiveSite:
    """Web server and worker as processes of their own, on a database of their own.

    Args:
        folder: where its files go; a new one for each site.
        application: the ASGI application, as uvicorn names it.
    """

    def __init__(self, folder: Path, application: str = "config.asgi:application") -> None:
        self.application = application
        self.mailbox = Mailbox()
        self._visitors: list[Visitor] = []
        self.media = folder / "media"
        self.database = Database(folder)
        self.env = os.environ | settings.SETTINGS_IN_ENVIRONMENT | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATABASE_URL": self.database.url,
            "EMAIL_URL": self.mailbox.url,
            "MEDIA_ROOT": str(self.media),
            "STATIC_ROOT": str(folder / "static"),
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if settings.DATABASE == "postgresql":
            # Where web and worker share no disk, nothing may ask for a path.
            self.env["STORAGE_BACKEND"] = "tests.harness.storage.DisklessStorage"
            self.env["STORAGE_OPTIONS"] = f'{{"folder": "{self.media}"}}'

    def start(self) -> None:
        self.manage("migrate", "--verbosity", "0")
        self.manage("collectstatic", "--noinput", "--verbosity", "0")
        self.web = Process(
            "-m", "uvicorn", "--app-dir", "site", self.application,
            "--port", "0", "--lifespan", "off", env=self.env,
        )  # fmt: skip
        running = self.web.wait_for("Uvicorn running on")
        [self.url] = re.findall(r"http://\S+", running)
        self.env["SITE_URL"] = self.url
        self.worker = self.start_worker()

    def start_worker(self) -> Process:
        return Process("manage.py", "process_tasks", "--sleep", "0.1", env=self.env)

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end, and return what it printed."""
        done = run_python("manage.py", *arguments, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def shell(self, code: str) -> str:
        return self.manage("shell", "-v0", "-c", code)

    def staff(self, name: str) -> None:
        self.shell(
            "from signup.models import User;"
            f"User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff=True)"
        )

    def visitor(self) -> Visitor:
        visitor = Visitor(base_url=self.url, timeout=60)
        self._visitors.append(visitor)
        return visitor

    def stop(self) -> None:
        for visitor in self._visitors:
            visitor.close()
        for process in (self.worker, self.web):
            process.stop()
        self.mailbox.close()
        self.database.drop()


class Visitor(httpx.Client):
    """Somebody with a browser's manners: fills in forms, keeps cookies."""

    def submit(self, path: str, files: Any = None, **fields: str) -> httpx.Response:
        page = self.get(path).raise_for_status()
        [token] = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text))
        return self.post(path, data={"csrfmiddlewaretoken": token, **fields}, files=files)

    def sign_up(self, name: str, files: Any = None, **fields: str) -> httpx.Response:
        known = {"username": name, "email": f"{name}@example.com"}
        passwords = {"password1": PASSWORD, "password2": PASSWORD}
        return self.submit("/signup/", files, **known | passwords | fields)

    def log_in(self, name: str) -> httpx.Response:
        return self.submit("/login/", username=name, password=PASSWORD)


class LabSite(LiveSite):
    """The site, and beside it the lab instead of a worker: it starts one of its own."""

    def start_worker(self) -> Process:
        return Process("manage.py", "lab", "--site", self.url, env=self.env)
