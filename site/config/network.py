"""Who is asking: the address of the visitor behind the site's own proxies."""

from ipaddress import IPv6Address, ip_address

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str:
    """The visitor's IP address, as far as it can be trusted.

    Each proxy appends the address that it saw to ``X-Forwarded-For``, so with
    ``PROXY_HOPS`` proxies of ours in front, the visitor is the entry that many from
    the right. All that stands left of it was written by the visitor and proves nothing.
    """
    # A unix socket has no address; all who come through it share one.
    peer = request.META.get("REMOTE_ADDR") or "127.0.0.1"
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    hops: int = settings.PROXY_HOPS
    claimed = forwarded[-hops].strip() if 0 < hops <= len(forwarded) else ""
    return _plain(claimed) or _plain(peer) or "127.0.0.1"


def _plain(text: str) -> str:
    """The address without an IPv6 wrapping of IPv4; empty if it is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
