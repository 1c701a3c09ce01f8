"""Tasks with crontab lines, and times, for the tests of both."""

from __future__ import annotations

from datetime import timedelta

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
