"""The site as an ASGI application: ``uvicorn --app-dir site config.asgi:application``."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from config.body_limit import BodyLimit
from config.http_only import HttpOnly
from config.in_turn import InTurn

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Above the largest honest form (a 10 MiB picture and a few fields), so that a file
# slightly too large still reaches the form and gets its readable error there.
MAX_BODY_BYTES = 25 * 1024 * 1024

application = HttpOnly(
    BodyLimit(
        InTurn(
            get_asgi_application(),
            at_once=settings.REQUESTS_AT_ONCE,
            static=settings.STATIC_URL,
        ),
        max_bytes=MAX_BODY_BYTES,
    )
)
