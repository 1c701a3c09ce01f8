"""The site as it is deployed: a web server, a worker, a mail server, a database."""

from __future__ import annotations

import asyncio
import email
import email.policy
import os
import queue
import re
import socket
import subprocess
import sys
import uuid
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import psycopg
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests import settings
from tests.process import ROOT, Process

PASSWORD = "quite-Long-99"


class Mailbox:
    """A real SMTP server; what it takes can be awaited."""

    def __init__(self, port: int = 0, seconds_a_mail: float = 0) -> None:
        self._seconds = seconds_a_mail
        self._mails: queue.Queue[EmailMessage] = queue.Queue()
        self._controller = Controller(self, hostname="127.0.0.1", port=port or free_port())
        self._controller.start()
        self.url = f"smtp://127.0.0.1:{self._controller.port}"

    async def handle_DATA(  # noqa: N802  aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        await asyncio.sleep(self._seconds)
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self._mails.put(message)
        return "250 OK"

    def next_to(self, address: str, timeout: float = 60) -> EmailMessage:
        """Wait for the next mail to an address; others before it are dropped."""
        while True:
            mail = self._mails.get(timeout=timeout)
            if mail["To"] == address:
                return mail

    def close(self) -> None:
        self._controller.stop()


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
            self.env["STORAGE_BACKEND"] = "tests.storage.DisklessStorage"
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
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
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


class Database:
    """A database of the kind under test, gone when it is dropped."""

    def __init__(self, folder: Path) -> None:
        self._name = f"signup_live_{uuid.uuid4().hex}"
        if settings.DATABASE == "sqlite":
            self.url = f"sqlite:///{folder}/db.sqlite3"
        else:
            self._administer(f"CREATE DATABASE {self._name}")
            self.url = f"{settings.POSTGRES_URL.rpartition('/')[0]}/{self._name}"

    def drop(self) -> None:
        if settings.DATABASE == "postgresql":
            self._administer(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        with psycopg.connect(settings.POSTGRES_URL, autocommit=True) as connection:
            connection.execute(statement)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
