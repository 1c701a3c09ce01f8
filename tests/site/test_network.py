from typing import Any

import pytest
from django.test import RequestFactory

from config.network import client_ip


@pytest.mark.parametrize(
    ("hops", "forwarded", "peer", "expected"),
    [
        (0, "1.1.1.1", "9.9.9.9", "9.9.9.9"),  # nobody of ours wrote that header
        (1, "1.1.1.1", "9.9.9.9", "1.1.1.1"),
        (1, "6.6.6.6, 1.1.1.1", "9.9.9.9", "1.1.1.1"),  # the first is the visitor's own
        (2, "6.6.6.6, 1.1.1.1, 8.8.8.8", "9.9.9.9", "1.1.1.1"),
        (2, "1.1.1.1", "9.9.9.9", "9.9.9.9"),
        (1, "", "9.9.9.9", "9.9.9.9"),
        (1, "unknown", "9.9.9.9", "9.9.9.9"),
        (1, "2001:db8::1", "9.9.9.9", "2001:db8::1"),
        (0, "", "::ffff:9.9.9.9", "9.9.9.9"),
        (0, "", "", "127.0.0.1"),
    ],
)
def test_the_visitor_is_known_by_what_our_own_proxies_wrote(
    settings: Any, hops: int, forwarded: str, peer: str, expected: str
) -> None:
    settings.PROXY_HOPS = hops
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)
    assert client_ip(request) == expected
