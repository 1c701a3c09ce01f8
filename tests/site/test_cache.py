from __future__ import annotations

import threading

import pytest
from django.core.cache import cache
from django.db import connection


@pytest.mark.django_db(transaction=True)
def test_counts_of_many_threads_at_once_are_all_kept() -> None:
    threads, each = 4, 25
    start = threading.Barrier(threads, timeout=20)
    cache.add("tries", 0)

    def count() -> None:
        start.wait()
        for _ in range(each):
            cache.incr("tries")
        connection.close()

    running = [threading.Thread(target=count) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert cache.get("tries") == threads * each


@pytest.mark.django_db
def test_a_count_outlives_those_of_many_others() -> None:
    for number in range(400):  # Django's own limit is 300, and then it deletes a third
        cache.add(f"visitor-{number}", 1)
    assert all(cache.get(f"visitor-{number}") == 1 for number in range(400))


@pytest.mark.django_db
def test_counting_up_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="not found"):
        cache.incr("nothing")
