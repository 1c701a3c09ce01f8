"""Finds the IP address of a visitor who comes through the site's own proxies."""

from ipaddress import IPv6Address, ip_address

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str:
    """The visitor's IP address, as far as it can be trusted.

    Each proxy appends the address that it saw to ``X-Forwarded-For``. So with ``PROXY_HOPS``
    proxies of ours in front, the visitor's address is the entry with that number from the right.
    The entries to the left of it are the visitor's own and prove nothing.
    """
    # A unix socket has no address. Whoever comes through it gets this one.
    peer = request.META.get("REMOTE_ADDR") or "127.0.0.1"
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    hops: int = settings.PROXY_HOPS
    claimed = forwarded[-hops].strip() if 0 < hops <= len(forwarded) else ""
    return _plain(claimed) or _plain(peer) or "127.0.0.1"


def _plain(text: str) -> str:
    """An address, as IPv4 if it is an IPv4 address mapped to IPv6; empty if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
