from __future__ import annotations

import asyncio
import io
import tracemalloc
import zipfile
from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from asgiref.sync import sync_to_async
from django.core.files.storage import default_storage
from django.db import connections
from django.test import AsyncClient, Client

from signup import files, spreadsheets, tasks
from signup.models import Report, User
from tests.conftest import queued, run_queued, stored

pytestmark = pytest.mark.django_db

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
DAY = {"start": date(2026, 3, 1), "end": date(2026, 3, 31)}


@pytest.fixture
def staff(db: None) -> User:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    return User.objects.bulk_create([User(username="boss", is_staff=True, date_joined=long_ago)])[0]


def sign_up(*days: datetime, name: str = "user") -> None:
    User.objects.bulk_create(
        User(username=f"{name}{number}", email=f"{name}{number}@example.com", date_joined=day)
        for number, day in enumerate(days)
    )


def build(staff: User, **range_: date) -> Report:
    report = Report.objects.create(created_by=staff, **(range_ or DAY))
    assert tasks.build_report.now(str(report.pk)) == "Built"
    report.refresh_from_db()
    return report


def rows_of(report: Report, sheet: int = 1) -> list[list[str]]:
    with default_storage.open(files.report_name(report.pk)) as file:
        archive = zipfile.ZipFile(io.BytesIO(file.read()))
    # In the order of the workbook; texts stand inline, as a constant-memory writer puts them.
    root = ET.fromstring(archive.read(f"xl/worksheets/sheet{sheet}.xml"))
    return [["".join(cell.itertext()) for cell in row] for row in root.iter(f"{MAIN}row")]


def test_reports_are_for_staff(client: Client, user: User) -> None:
    assert client.get("/reports/").headers["Location"] == "/login/?next=/reports/"
    report = Report.objects.create(created_by=user, **DAY)
    client.force_login(user)
    for address in ("/reports/", f"/reports/{report.pk}/", f"/reports/{report.pk}/download/"):
        assert client.get(address).status_code == 403
    assert client.post("/reports/", {"start": "2026-01-01", "end": "2026-01-02"}).status_code == 403
    assert queued() == []


def test_a_report_is_queued_with_its_row_and_polled(client: Client, staff: User) -> None:
    client.force_login(staff)
    client.post("/reports/", {"start": "2026-01-01", "end": "2026-01-02"})
    report = Report.objects.get()
    assert queued() == [("build_report", [str(report.pk)])]
    page = client.get("/reports/").content.decode()
    assert f'hx-get="/reports/{report.pk}/"' in page
    assert "<noscript>" in page
    run_queued()
    fragment = client.get(f"/reports/{report.pk}/").content.decode()
    assert "hx-get" not in fragment
    assert f'href="/reports/{report.pk}/download/"' in fragment


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [("2026-01-02", "2026-01-01", "end"), ("", "2026-01-01", "start"), ("x", "y", "start"),
     ("2026-01-01", "9999-12-31", "end"), ("0001-01-01", "2026-01-01", "start")],
)  # fmt: skip
def test_a_bad_range_is_refused(
    client: Client, staff: User, start: str, end: str, field: str
) -> None:
    client.force_login(staff)
    response = client.post("/reports/", {"start": start, "end": end})
    assert field in response.context["form"].errors
    assert not Report.objects.exists()
    assert queued() == []


def test_a_report_holds_the_signups_of_its_days_in_local_time(staff: User, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    first, last = datetime(2026, 2, 28, 23, 30, tzinfo=UTC), datetime(2026, 3, 31, 21, tzinfo=UTC)
    early, late = first - timedelta(hours=1), last + timedelta(hours=2)
    sign_up(early, first, last, late)
    report = build(staff)
    assert report.signups == 2
    header, *rows = rows_of(report)
    assert header == list(spreadsheets.COLUMNS)
    assert [row[1:] for row in rows] == [
        ["user1", "user1@example.com", "no", "yes"],
        ["user2", "user2@example.com", "no", "yes"],
    ]
    _, *days, total = rows_of(report, sheet=2)
    assert [day[1] for day in days] == ["1", "1"]
    assert total == ["2026-03-01 to 2026-03-31", "2"]


def test_a_report_of_days_without_signups_is_empty_but_whole(staff: User) -> None:
    report = build(staff)
    assert report.signups == 0
    assert rows_of(report, sheet=1)


def test_what_looks_like_a_formula_or_a_link_stays_text(staff: User) -> None:
    day = datetime(2026, 3, 5, tzinfo=UTC)
    User.objects.bulk_create([User(username="=1+1", email="http://evil.example", date_joined=day)])
    with default_storage.open(files.report_name(build(staff).pk)) as file:
        archive = zipfile.ZipFile(io.BytesIO(file.read()))
    sheet = archive.read("xl/worksheets/sheet1.xml")
    assert b"<f>" not in sheet
    assert b"hyperlink" not in sheet


def test_a_full_sheet_is_followed_by_another(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "ROWS_A_SHEET", 2)
    sign_up(*[datetime(2026, 3, 5, tzinfo=UTC)] * 3)
    report = build(staff)
    assert [len(rows_of(report, sheet)) for sheet in (1, 2)] == [3, 2]


def test_ten_times_the_users_need_no_more_memory(
    staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak() -> int:
        tracemalloc.start()
        build(staff)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    monkeypatch.setattr(spreadsheets, "CHUNK", 200)
    day = datetime(2026, 3, 5, tzinfo=UTC)
    sign_up(*[day] * 1_000)
    few = peak()
    sign_up(*[day] * 9_000, name="more")
    many = peak()
    assert Report.objects.filter(signups=10_000).exists()
    assert many < 1.5 * few


def test_progress_grows_while_a_report_is_built(
    staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheets, "CHUNK", 10)
    seen = []
    monkeypatch.setattr(spreadsheets, "set_progress", lambda done, total: seen.append(done / total))
    sign_up(*[datetime(2026, 3, 5, tzinfo=UTC)] * 40)
    build(staff)
    assert seen == sorted(seen)
    assert len(set(seen)) == 5


def test_a_download_is_the_file(client: Client, staff: User) -> None:
    report = build(staff)
    client.force_login(staff)
    response = client.get(f"/reports/{report.pk}/download/")
    assert 'filename="signups_2026-03-01_2026-03-31.xlsx"' in response["Content-Disposition"]
    assert "no-store" in response["Cache-Control"]
    assert b"".join(response).startswith(b"PK")


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_download_is_streamed(staff: User) -> None:
    report = build(staff)
    client = AsyncClient()
    client.force_login(staff)

    async def get() -> list[bytes]:
        response = await client.get(f"/reports/{report.pk}/download/")
        assert response.is_async
        assert "no-store" in response["Cache-Control"]
        chunks = [chunk async for chunk in response]
        await sync_to_async(connections.close_all)()  # the test client keeps it open
        return chunks

    assert b"".join(asyncio.run(get())).startswith(b"PK")


def test_a_download_whose_file_is_gone_is_a_404(client: Client, staff: User) -> None:
    report = build(staff)
    files.discard(files.names_of(report))
    client.force_login(staff)
    assert client.get(f"/reports/{report.pk}/download/").status_code == 404


def test_a_deleted_report_takes_its_file_along(client: Client, staff: User) -> None:
    build(staff).delete()
    run_queued()
    assert stored() == []


def test_reports_of_the_same_days_are_told_apart(client: Client, staff: User) -> None:
    ordered = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)
    for minutes in range(2):
        report = Report.objects.create(created_by=staff, **DAY)
        moment = ordered + timedelta(minutes=minutes)
        Report.objects.filter(pk=report.pk).update(created_at=moment)
    client.force_login(staff)
    page = client.get("/reports/").content.decode()
    assert ">1 Apr 2026, 09:30:00</time> by boss" in page
    assert ">1 Apr 2026, 09:31:00</time> by boss" in page
