"""The site with Celery as its engine: the Procfile's own lines, and a real broker."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.fleets import need
from tests.harness.process import ROOT, Process
from tests.harness.site import LiveSite

pytestmark = [pytest.mark.any_database, pytest.mark.once]


class CelerySite(LiveSite):
    """The site whose tasks a Celery worker runs, started as the Procfile says."""

    celery: Process

    def start_worker(self) -> Process:
        [line] = re.findall(r"^celery: python (.*)$", (ROOT / "Procfile").read_text(), re.M)
        self.celery = Process(*line.split(), env=self.env)
        return super().start_worker()

    def stop(self) -> None:
        self.celery.stop()
        super().stop()


@pytest.fixture
def celery_site(tmp_path: Path) -> Iterator[CelerySite]:
    site = CelerySite(tmp_path)
    site.env |= {
        "ENGINE": "celery",
        "CELERY_BROKER_URL": need("redis"),
        "CELERY_TASK_DEFAULT_QUEUE": f"bgtasks-{secrets.token_hex(6)}",
        "PATH": f"{Path(sys.executable).parent}:{site.env['PATH']}",
    }
    site.start()
    yield site
    site.stop()


def test_a_signup_is_answered_and_celery_sends_its_mail(celery_site: CelerySite) -> None:
    assert celery_site.visitor().sign_up("ada").status_code == 302
    mail = celery_site.mailbox.next_to("ada@example.com")
    assert mail["Subject"] == "Welcome, ada"
    celery_site.celery.wait_for("send_welcome_email (attempt 1")
    assert "send_welcome_email" not in celery_site.worker.output
