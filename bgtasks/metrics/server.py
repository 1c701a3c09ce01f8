"""The port of a worker from which Prometheus reads the metrics."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.db import DatabaseError, InterfaceError, connections

from bgtasks.exceptions import CannotServe
from bgtasks.logs import get_logger, no_record_half_written
from bgtasks.metrics.collector import exposition

logger = get_logger(__name__)


class Handler(WSGIRequestHandler):
    """Answers one request, without a line in the log."""

    timeout = 5.0  # seconds: requests are answered one after the other

    def log_message(self, *args: object) -> None:
        """Log nothing: Prometheus asks every few seconds."""


@contextmanager
def serving(host: str, port: int, fork: bool) -> Iterator[None]:
    """Serve the metrics while this context lasts.

    Args:
        host: the address to listen on.
        fork: serve from a process of its own. A worker that forks children must have no threads.

    Raises:
        CannotServe: the port is in use, or cannot be listened on.
    """
    try:
        server = make_server(host, port, _answer, handler_class=Handler)
    except (OSError, OverflowError) as error:
        raise CannotServe(
            f"The metrics cannot be served on {host}:{port}: {error}. Give another --metrics-port."
        ) from None
    logger.info("Metrics: http://%s:%d/metrics", *server.server_address[:2])
    with _in_process(server) if fork else _in_thread(server):
        yield


@contextmanager
def _in_process(server: WSGIServer) -> Iterator[None]:
    connections.close_all()  # two processes must not share one
    parent = os.getpid()
    with no_record_half_written():
        pid = os.fork()
    if not pid:
        _serve_for(parent, server)
    server.server_close()
    try:
        yield
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _serve_for(parent: int, server: WSGIServer) -> None:
    """Serve as long as the parent lives, and end this process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent ends it
        signal.signal(number, signal.SIG_IGN)
    server.timeout = 1.0
    try:
        while os.getppid() == parent:
            server.handle_request()
    finally:
        os._exit(0)


@contextmanager
def _in_thread(server: WSGIServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, name="bgtasks-metrics", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status = "200 OK"
    try:
        text, content_type = exposition(environ.get("HTTP_ACCEPT", ""))
    except (DatabaseError, InterfaceError) as error:
        status, content_type = "503 Service Unavailable", "text/plain; charset=utf-8"
        text = f"The database does not answer: {error}\n".encode()
    finally:
        connections.close_all()
    start_response(status, [("Content-Type", content_type)])
    return [text]
