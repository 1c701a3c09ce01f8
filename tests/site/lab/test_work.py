"""The slow work: the same, however it is cut into parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lab import sizes, work
from lab.stage import props

pytestmark = pytest.mark.any_database


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sizes, "PICTURE_WIDTH", 400)
    monkeypatch.setattr(sizes, "PICTURE_HEIGHT", 300)
    monkeypatch.setattr(sizes, "FILES", 3)
    props.make(tmp_path)
    return tmp_path


def test_the_props_are_what_is_worked_on(folder: Path) -> None:
    assert len(work.files_in(str(folder))) == 3
    assert all(path.stat().st_size == sizes.FILE_BYTES for path in work.files_in(str(folder)))
    assert work.resize(str(folder / "picture.jpg")) > 1000


@pytest.mark.parametrize("size", [1, 7, 2000, 10**6])
def test_chunks_have_all_words_once(folder: Path, size: int) -> None:
    text = work.files_in(str(folder))[0].read_text()[:20_000]
    counted: Counter[str] = Counter()
    for chunk in work.chunks_of(text, size):
        counted.update(work.words_of(chunk))
    assert counted == work.words_of(text)


def test_primes_are_counted() -> None:
    assert [work.count_primes(below) for below in (0, 2, 3, 10, 100)] == [0, 0, 1, 4, 25]


def test_a_report_is_a_workbook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "REPORT_LINES", 10)
    assert work.build_report() > 1000
