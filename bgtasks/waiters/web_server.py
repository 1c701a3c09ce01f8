"""Whether the web server that this process is has been asked to stop.

A server that stops waits for the answers that it is sending, and an event stream is one that may
last for hours. No part of ASGI tells an application of it in time: uvicorn ends its lifespan when
the last answer is complete.
"""

from __future__ import annotations

import signal


def is_stopping() -> bool:
    """Whether uvicorn runs here and was asked to stop; False with any other server."""
    # The server's own handler of the signal is all that leads to it from outside.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
