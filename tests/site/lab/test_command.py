"""What ``manage.py lab`` refuses, and how it keeps its row."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command

from lab.management.commands import lab
from lab.models import Stage
from lab.stage import props
from lab.stage.keeper import Keeper, Replaced
from lab.stage.processes import Ended
from tests.site.lab.helpers import set_up


@pytest.mark.parametrize(
    "site", ["https://example.com", "http://127.0.0.1.example.com", "http://10.0.0.1:8000", "8000"]
)
def test_load_goes_to_this_machine_only(site: str) -> None:
    with pytest.raises(CommandError, match=r"--site http://127\.0\.0\.1:8000"):
        call_command("lab", "--site", site)


@pytest.mark.django_db(transaction=True)
def test_a_lab_whose_row_another_has_taken_writes_nothing_more() -> None:
    lost = set_up(owner="one", wsgi_url="")
    Stage.objects.update(owner="other", wsgi_url="http://127.0.0.1:9")
    with pytest.raises(Replaced, match="Another lab has started on this database"):
        async_to_sync(Keeper(lost).publish)()
    assert Stage.objects.get().wsgi_url == "http://127.0.0.1:9"


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(props, "make", full)
    with pytest.raises(Ended, match=r"could not write its files in /tmp/x: .* No space left"):
        lab._make_props("/tmp/x")
