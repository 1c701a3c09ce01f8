from __future__ import annotations

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError
from django.http import HttpResponse
from django.test import RequestFactory

from config.caching import private_pages


def test_a_session_whose_reading_has_failed_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = []

    def fail(self: SessionStore) -> None:
        reads.append(self)
        raise OperationalError

    monkeypatch.setattr(SessionStore, "load", fail)
    request = RequestFactory().get("/")
    request.session = SessionStore("a-key-of-a-session")
    with pytest.raises(OperationalError):
        request.session.get("user")
    assert private_pages(lambda _request: HttpResponse(status=500))(request).status_code == 500
    assert len(reads) == 1
