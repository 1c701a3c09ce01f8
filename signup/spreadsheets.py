"""The signups report: an XLSX file of any length, in bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any

from django.core.files import File
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from xlsxwriter import Workbook
from xlsxwriter.worksheet import Worksheet

from bgtasks import set_progress
from signup.models import Avatar, Report, User

CHUNK = 2_000
# A sheet holds 1,048,576 rows; further signups go on a further sheet.
ROWS_A_SHEET = 1_000_000
COLUMNS = ("Signed up", "Username", "Email", "Picture", "Active")


@contextmanager
def signups(report: Report) -> Iterator[File]:
    """Write the report to a temporary file, noting its progress on the way.

    Yields:
        The file, open for reading from its start; it is gone afterwards.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile(dir=folder) as file:
        # constant_memory writes each row to disk when the next one begins. Without formulas and
        # links a username is always a text, also one that begins with "=".
        workbook = Workbook(
            file,
            {
                "constant_memory": True,
                "tmpdir": folder,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "default_date_format": "yyyy-mm-dd hh:mm",
            },
        )
        per_day = _write_people(workbook, report)
        _write_days(workbook, report, per_day)
        workbook.close()
        file.seek(0)
        yield File(file)


def _write_people(workbook: Workbook, report: Report) -> Counter[date]:
    total = _people(report).count()
    report.note(signups=total)
    set_progress(0, total)
    per_day: Counter[date] = Counter()
    sheet = None
    for number, user in enumerate(_in_chunks(_people(report))):
        if number % ROWS_A_SHEET == 0:
            sheet = _sheet(workbook, f"Signups {number // ROWS_A_SHEET + 1}", COLUMNS)
        assert sheet is not None  # noqa: S101  the first row makes it
        joined = timezone.localtime(user["date_joined"]).replace(tzinfo=None)
        per_day[joined.date()] += 1
        sheet.write_row(
            number % ROWS_A_SHEET + 1,
            0,
            (
                joined,
                user["username"],
                user["email"],
                "yes" if user["has_picture"] else "no",
                "yes" if user["is_active"] else "no",
            ),
        )
        if number % CHUNK == CHUNK - 1:
            set_progress(number, total)
    return per_day


def _people(report: Report) -> QuerySet[User, Any]:
    midnight = timezone.make_aware(datetime.combine(report.start, time.min))
    after = timezone.make_aware(datetime.combine(report.end + timedelta(days=1), time.min))
    people = User.objects.filter(date_joined__gte=midnight, date_joined__lt=after)
    has_picture = Exists(Avatar.objects.filter(user=OuterRef("pk")))
    return people.values(
        "pk", "date_joined", "username", "email", "is_active", has_picture=has_picture
    )


def _in_chunks(people: QuerySet[User, Any]) -> Iterator[dict[str, Any]]:
    """All rows in the order of their keys, one query for each chunk.

    ``iterator()`` would keep one SELECT open for the whole report, and with it its snapshot. On
    SQLite a connection that writes while its snapshot is outdated fails at once with "database is
    locked". On PostgreSQL the snapshot would hold back vacuum.
    """
    last = 0
    while chunk := list(people.filter(pk__gt=last).order_by("pk")[:CHUNK]):
        yield from chunk
        last = chunk[-1]["pk"]


def _write_days(workbook: Workbook, report: Report, per_day: Counter[date]) -> None:
    sheet = _sheet(workbook, "Per day", ("Day", "Signups"))
    day_format = workbook.add_format({"num_format": "yyyy-mm-dd"})
    for row, day in enumerate(sorted(per_day), start=1):
        sheet.write_datetime(row, 0, datetime.combine(day, time.min), day_format)
        sheet.write_number(row, 1, per_day[day])
    last = len(per_day) + 1
    sheet.write_string(last, 0, f"{report.start} to {report.end}")
    sheet.write_number(last, 1, per_day.total())


def _sheet(workbook: Workbook, name: str, columns: tuple[str, ...]) -> Worksheet:
    sheet = workbook.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, len(columns) - 1, 20)
    sheet.write_row(0, 0, columns, workbook.add_format({"bold": True}))
    return sheet
