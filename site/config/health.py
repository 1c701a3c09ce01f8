"""``/healthz`` answers whether this process reaches its database, and whether that is migrated.

``/healthz/queue`` answers whether all tasks that wait will be run. It is apart from ``/healthz``: a
load balancer must not take a web server away because a worker is down.
"""

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin

from bgtasks.operations.unserved import unserved


class HealthCheckMiddleware(MiddlewareMixin):
    """Answers ``/healthz`` before any other middleware sees the request.

    A load balancer asks by IP address and over plain HTTP, which the middleware that checks host
    and scheme would refuse.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        answers = {"/healthz": healthz, "/healthz/queue": queue}
        answer = answers.get(request.path_info)
        return answer() if answer else None


def healthz() -> HttpResponse:
    """200 if the database is reachable and migrated; otherwise 503 with the reason."""
    try:
        with connection.cursor() as cursor:
            # The query names a table, because SQLite answers `SELECT 1` also from an empty file
            # that it has just created.
            cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
    except Error as error:
        return _unavailable(error)
    return JsonResponse({"status": "ok", "database": "ok"})


def queue() -> HttpResponse:
    """200 if all tasks that wait will be run; otherwise 503 with the reasons."""
    try:
        problems = [str(each) for each in unserved()]
    except Error as error:
        return _unavailable(error)
    if problems:
        return JsonResponse({"status": "unserved", "queue": problems}, status=503)
    return JsonResponse({"status": "ok", "queue": "ok"})


def _unavailable(error: Error) -> HttpResponse:
    # Only the class of the error is shown: a driver's message may name hosts and users.
    problem = f"{type(error).__name__}: is the database up, and has `migrate` run?"
    return JsonResponse({"status": "unavailable", "database": problem}, status=503)
