"""``/healthz``: does this process reach its database, and is it migrated?"""

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin


class HealthCheckMiddleware(MiddlewareMixin):
    """Answers ``/healthz`` ahead of every other middleware.

    A load balancer probes by bare IP address, over plain HTTP: the checks of host and
    scheme behind this would refuse it, and sessions and cookies mean nothing to it.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        return healthz() if request.path_info == "/healthz" else None


def healthz() -> HttpResponse:
    """200 with the database reachable and migrated, 503 with the reason otherwise."""
    try:
        with connection.cursor() as cursor:
            # A table, not `SELECT 1`: SQLite answers that from a file it just created.
            cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
    except Error as error:
        # The message of a driver may name hosts and users; the class says enough here.
        problem = f"{type(error).__name__}: is the database up, and has `migrate` run?"
        return JsonResponse({"status": "unavailable", "database": problem}, status=503)
    return JsonResponse({"status": "ok", "database": "ok"})
