"""The project as an ASGI application, whose event streams are kept alive often."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()

from bgtasks.watch import events  # noqa: E402

events.KEEP_ALIVE = 0.2
