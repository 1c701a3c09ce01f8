"""The site on a WSGI server with a few threads, for the ways that are sync views.

    python -m lab.stage.wsgi_server PORT THREADS

It prints its port as JSON when it listens; with 0 it takes any that is free.
"""

from __future__ import annotations

import json
import socket
import sys

from waitress.server import create_server

from config.wsgi import application

# The others send eighty requests a second, and all wait for a server whose threads are in use.
CONNECTIONS = 1000


def main(port: int, threads: int) -> None:
    listening = socket.create_server(("127.0.0.1", port))
    server = create_server(
        application,
        sockets=[listening],
        threads=threads,
        connection_limit=CONNECTIONS,
        # It listens on this machine only. What a reverse proxy has said, the site's settings judge.
        clear_untrusted_proxy_headers=False,
    )
    print(json.dumps({"wsgi": listening.getsockname()[1]}), flush=True)  # noqa: T201  read by the lab
    server.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
