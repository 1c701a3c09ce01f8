"""Many files are read, and their words are counted."""

from __future__ import annotations

import asyncio
from collections import Counter

from django.http import HttpResponse

from lab import tasks, work
from lab.answers import LabRequest, answer


def in_a_sync_view(request: LabRequest) -> HttpResponse:
    words: Counter[str] = Counter()
    for path in work.files_in(request.stage.folder):
        words.update(work.words_of(path.read_text()))
    return answer(request, f"There are {words.total()} words.")


async def all_at_once(request: LabRequest) -> HttpResponse:
    paths = work.files_in(request.stage.folder)
    texts = await asyncio.gather(*(asyncio.to_thread(path.read_text) for path in paths))
    words: Counter[str] = Counter()
    for text in texts:  # nothing else runs in this process meanwhile
        words.update(work.words_of(text))
    return answer(request, f"There are {words.total()} words.")


async def in_small_chunks(request: LabRequest) -> HttpResponse:
    words: Counter[str] = Counter()
    for path in work.files_in(request.stage.folder):
        text = await asyncio.to_thread(path.read_text)
        for chunk in work.chunks_of(text):
            words.update(work.words_of(chunk))
            await asyncio.sleep(0)  # others have their turn
    return answer(request, f"There are {words.total()} words.")


async def in_the_background(request: LabRequest) -> HttpResponse:
    task = await tasks.count_words.adelay(request.stage.folder)
    return answer(request, "The words will be counted in a moment.", task)
