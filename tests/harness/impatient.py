"""The site's ASGI application, which waits for a body much shorter than the site does."""

from __future__ import annotations

from config import asgi
from config.body_limit import BodyLimit

body_limit = asgi.application.app
assert isinstance(body_limit, BodyLimit)
body_limit.patience = 0.5
body_limit.slowest = 1024**2
application = asgi.application
