"""The site as an ASGI application: ``uvicorn --app-dir site config.asgi:application``."""

import os

from django.core.asgi import get_asgi_application

from config.body_limit import BodyLimit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Above the largest honest form (a 10 MiB picture and a few fields), so that a file
# slightly too large still reaches the form and gets its readable error there.
MAX_BODY_BYTES = 25 * 1024 * 1024

application = BodyLimit(get_asgi_application(), max_bytes=MAX_BODY_BYTES)
