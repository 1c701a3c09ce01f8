"""What the web servers, the worker and the lab's own process tell each other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

# Seconds. The stage writes its row every second, and a machine that is kept busy may delay that.
STAGE_IS_LOST = 10.0
# A run that has not ended after so many seconds is given up.
LONGEST_RUN = 60.0
# Runs of a way that are kept; older ones are deleted.
KEPT_RUNS = 20


class Stage(models.Model):
    """What ``manage.py lab`` has set up. There is one row, while it runs.

    Attributes:
        owner: a random text of the process that wrote this row.
        site_url: of the ASGI server, as the others ask it.
        wsgi_url: of the lab's WSGI server; "" while the servers do not run.
        api_url: of the slow service.
        smtp_port: of the slow mail server, on this host.
        folder: in which the picture and the files are that are worked on.
        seen_at: when its process was last alive.
        watched_until: so long the others ask, because somebody looks at the page.
        recent: how long the others have waited in the last seconds, for the live chart.
    """

    owner = models.CharField(max_length=32)
    site_url = models.CharField(max_length=200)
    wsgi_url = models.CharField(max_length=200, default="")
    api_url = models.CharField(max_length=200, default="")
    smtp_port = models.PositiveIntegerField(default=0)
    folder = models.CharField(max_length=500, default="")
    seen_at = models.DateTimeField()
    watched_until = models.DateTimeField()
    recent: Any = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"the lab of {self.site_url}"

    @property
    def ready(self) -> bool:
        return bool(self.wsgi_url)

    @property
    def picture(self) -> str:
        return f"{self.folder}/picture.jpg"

    @property
    def call_url(self) -> str:
        return f"{self.api_url}/call"

    @classmethod
    def current(cls) -> Stage | None:
        """The stage that is set up now; None if no ``manage.py lab`` runs."""
        alive = timezone.now() - timedelta(seconds=STAGE_IS_LOST)
        return cls.objects.filter(seen_at__gt=alive).first()


class Run(models.Model):
    """One press of a button, and what it cost.

    Attributes:
        pattern, way: their keys in the catalogue.
        server: which ran it, "ASGI" or "WSGI".
        visit: names the load of the page on which the button was pressed.
        active: True until the run has ended, and then NULL; unique, so that one runs at a time.
        started_at: when the request came.
        answered_at: when the view had its answer.
        done_at: when the work itself was done, or its tasks had ended.
        tasks: the ids of the background tasks that do it.
        browser: what the browser has reported: TTFB, LCP and INP in milliseconds.
        others: how long the others waited, by the names of `lab.figures.Metric`.
        samples: what that was computed from; see `lab.stage.record`.
        problem: why there are no figures.
    """

    pattern = models.CharField(max_length=20)
    way = models.CharField(max_length=20)
    server = models.CharField(max_length=4)
    visit = models.CharField(max_length=32, db_index=True)
    active = models.BooleanField(null=True, default=True, unique=True)
    started_at = models.DateTimeField(default=timezone.now)
    answered_at = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    tasks: Any = models.JSONField(default=list)
    browser: Any = models.JSONField(default=dict)
    others: Any = models.JSONField(default=dict)
    samples: Any = models.JSONField(default=dict)
    problem = models.TextField(default="")

    class Meta:
        indexes = [models.Index(fields=["pattern", "way", "-id"], name="lab_run_latest")]

    def __str__(self) -> str:
        return f"run {self.pk}: {self.pattern}, {self.way}"
