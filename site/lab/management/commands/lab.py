"""``manage.py lab``: the servers and the visitors that the lab needs, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, close_old_connections
from django.urls import reverse
from django.utils import timezone

from lab import access
from lab.models import Stage
from lab.stage import props
from lab.stage.keeper import Keeper, Replaced, Stopped
from lab.stage.others import Others
from lab.stage.processes import Ended, Processes

# Seconds between two looks whether another lab has ended.
PAUSE = 1.0


class Command(BaseCommand):
    help = (
        "Set up what the pages of /lab/ measure with, as soon as somebody opens them: a slow "
        "service, a slow mail server, a WSGI server with a few threads, a worker, and others "
        "who ask the site for a small page. The site itself must run. Ctrl-C ends all of it."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--site",
            default=settings.SITE_URL,
            metavar="URL",
            help="Where this site's ASGI server listens on this machine (SITE_URL).",
        )
        parser.add_argument(
            "--wsgi-port",
            type=int,
            default=0,
            metavar="PORT",
            help="On which port of 127.0.0.1 the WSGI server listens; otherwise on any free one.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        site = options["site"].rstrip("/")
        if not access.is_loopback(site):
            raise CommandError(
                f"{site} is not on this machine, and the lab sends its load to this machine only. "
                "Say where the site's server listens here: --site http://127.0.0.1:8000"
            )
        self._stopping = False
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._stop)
        with suppress(Stopped):
            while not self._stopping:
                try:
                    self._run(site, options["wsgi_port"])
                except (Ended, Replaced, Error) as problem:
                    self.stderr.write(f"{str(problem).strip()}\nThe lab begins anew.")
                time.sleep(PAUSE)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _run(self, site: str, wsgi_port: int) -> None:
        """Set up the lab whenever somebody looks at it, until something goes wrong.

        Raises:
            Stopped: it was asked to end.
            Ended: a process of the lab has ended, or could not start.
            Replaced: another lab has started.
            Error: the database does not answer.
        """
        close_old_connections()
        self._wait_for_another()
        if self._stopping:
            raise Stopped
        stage = _new_stage(site)
        try:
            asyncio.run(self._serve(stage, wsgi_port))
        finally:
            with suppress(Error):  # then it counts as lost after a few seconds
                Stage.objects.filter(owner=stage.owner).delete()

    def _wait_for_another(self) -> None:
        """Wait until no other lab is set up on this database: one measures at a time."""
        if stage := Stage.current():
            self._say(f"A lab is set up already, for {stage.site_url}. This one waits.")
        while Stage.current() and not self._stopping:
            time.sleep(PAUSE)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()  # a pipe keeps it otherwise

    async def _serve(self, stage: Stage, wsgi_port: int) -> None:
        # asgiref runs the queries in a thread of its own, whose connection may be broken as well.
        await sync_to_async(close_old_connections)()
        keeper = Keeper(stage, lambda: self._stopping)
        page = stage.site_url + reverse("lab")
        self._say(f"The lab waits for somebody to open {page}")
        while True:
            await keeper.wait_for_somebody()
            async with _set_up(keeper, wsgi_port) as processes:
                await keeper.publish()
                self._say(f"The lab is set up: {page}")
                others = Others(
                    {"ASGI": stage.site_url, "WSGI": stage.wsgi_url},
                    reverse("lab_light"),
                    _headers(),
                )
                try:
                    await keeper.keep(others, processes)
                finally:
                    others.close()
            stage.wsgi_url = ""
            await keeper.publish()
            self._say("Nobody looks at the lab, so its servers have ended.")


def _new_stage(site: str) -> Stage:
    """The row of a stage whose servers do not run yet; it takes the place of one that was lost."""
    now = timezone.now()
    stage = Stage(pk=1, owner=secrets.token_hex(8), site_url=site, seen_at=now)
    stage.watched_until = now - timedelta(seconds=1)
    stage.save()
    return stage


@asynccontextmanager
async def _set_up(keeper: Keeper, wsgi_port: int) -> AsyncIterator[Processes]:
    """Start the servers, and note in the stage where they are; end them afterwards."""
    processes, stage = Processes(), keeper.stage
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        try:
            await keeper.beat_until(asyncio.to_thread(_make_props, folder))
            ports = await keeper.beat_until(asyncio.to_thread(processes.start, wsgi_port))
            stage.folder, stage.smtp_port = folder, ports.smtp
            stage.api_url = f"http://127.0.0.1:{ports.api}"
            stage.wsgi_url = f"http://127.0.0.1:{ports.wsgi}"
            yield processes
        finally:
            processes.stop()


def _make_props(folder: str) -> None:
    try:
        props.make(Path(folder))
    except OSError as error:
        raise Ended(f"The lab could not write its files in {folder}: {error}.") from error


def _headers() -> dict[str, str]:
    """What a reverse proxy would add: without it, production redirects to https."""
    public = urlsplit(settings.SITE_URL)
    return {"Host": public.netloc, "X-Forwarded-Proto": public.scheme}
