from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import OperationalError, transaction

from bgtasks.tasks import crontab, policies
from signup import files, tasks
from signup.models import Avatar, Report, User
from tests.conftest import stored

pytestmark = pytest.mark.django_db


def put_aged(name: str, minutes: int) -> str:
    files.put(name, b"content")
    then = time.time() - minutes * 60
    os.utime(default_storage.path(name), (then, then))
    return name


def test_the_sweep_takes_orphans_older_than_an_hour_and_nothing_else(user: User) -> None:
    pending = Avatar.objects.create(user=user)
    day = {"start": "2026-01-01", "end": "2026-01-01"}
    report = Report.objects.create(created_by=user, **day)
    kept = [
        put_aged(files.original_name(pending.pk), 120),
        put_aged(files.picture_name(pending.pk, 64), 120),
        put_aged(files.report_name(report.pk), 120),
        put_aged(files.original_name(uuid.uuid4()), 30),
    ]
    for orphan in (
        files.original_name(uuid.uuid4()),
        files.picture_name(uuid.uuid4(), 64),
        files.report_name(uuid.uuid4()),
        "originals/not-named-by-us",
    ):
        put_aged(orphan, 90)
    assert tasks.sweep_files.now() == 4
    assert stored() == sorted(kept)


def test_the_sweep_takes_an_original_whose_renditions_stand(user: User) -> None:
    ready = Avatar.objects.create(user=user, state=Avatar.State.READY)
    put_aged(files.original_name(ready.pk), 90)
    picture = put_aged(files.picture_name(ready.pk, 64), 90)
    assert tasks.sweep_files.now() == 1
    assert stored() == [picture]


def test_the_sweep_of_an_empty_storage_is_no_error(db: None) -> None:
    assert tasks.sweep_files.now() == 0


def test_the_sweep_comes_hourly() -> None:
    line = crontab.parse(policies.of(tasks.sweep_files.name).cron or "", "the sweep")
    assert line.latest(datetime(2026, 3, 1, 12, 16, tzinfo=UTC)) == datetime(
        2026, 3, 1, 11, 17, tzinfo=UTC
    )


def test_an_upload_stays_when_its_transaction_commits(user: User) -> None:
    with files.uploaded(ContentFile(b"content")) as key, transaction.atomic():
        Avatar.objects.create(pk=key, user=user)
    assert stored() == [f"originals/{key}"]


def test_an_upload_goes_when_its_transaction_rolls_back(user: User) -> None:
    with (
        pytest.raises(RuntimeError),
        files.uploaded(ContentFile(b"content")) as key,
        transaction.atomic(),
    ):
        Avatar.objects.create(pk=key, user=user)
        raise RuntimeError
    assert stored() == []


def test_an_upload_stays_when_the_commit_went_through_but_its_answer_was_lost(user: User) -> None:
    with pytest.raises(OperationalError), files.uploaded(ContentFile(b"content")) as key:
        Avatar.objects.create(pk=key, user=user)
        raise OperationalError("connection lost while committing")
    assert stored() == [f"originals/{key}"]


def test_an_upload_is_left_to_the_sweep_when_the_database_cannot_tell(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(**kwargs: Any) -> None:
        raise OperationalError("the database is down")

    monkeypatch.setattr(Avatar.objects, "filter", unreachable)
    with pytest.raises(OperationalError), files.uploaded(ContentFile(b"content")) as key:
        raise OperationalError("connection lost while committing")
    assert stored() == [f"originals/{key}"]


def test_put_replaces_what_an_earlier_attempt_left() -> None:
    files.put("reports/one.xlsx", b"first")
    files.put("reports/one.xlsx", b"second")
    with default_storage.open("reports/one.xlsx") as file:
        assert file.read() == b"second"


def test_put_leaves_the_file_of_a_faster_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    files.put("reports/one.xlsx", b"theirs")
    delete = default_storage.delete
    monkeypatch.setattr(
        default_storage, "delete", lambda name: None if name == "reports/one.xlsx" else delete(name)
    )
    with pytest.raises(FileExistsError, match="another process"):
        files.put("reports/one.xlsx", b"ours")
    assert stored() == ["reports/one.xlsx"]
