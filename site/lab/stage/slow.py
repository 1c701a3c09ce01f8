"""The slow service and the slow mail server, in one process: they only wait.

    python -m lab.stage.slow SECONDS_A_REPLY SECONDS_A_CALL SECONDS_A_MAIL

It prints their ports as JSON when they listen.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"


class SlowService:
    """ASGI application: says "done" after the seconds that belong to the path."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(self.seconds.get(scope["path"], 0))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


class SlowMail:
    """Takes a mail after some seconds, and throws it away."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def handle_DATA(  # noqa: N802  aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        await asyncio.sleep(self.seconds)
        return "250 OK"


async def main(reply: float, call: float, mail: float) -> None:
    service = socket.create_server((HOST, 0))
    mails = await asyncio.get_running_loop().create_server(lambda: SMTP(SlowMail(mail)), HOST, 0)
    ports = {"api": service.getsockname()[1], "smtp": mails.sockets[0].getsockname()[1]}
    print(json.dumps(ports), flush=True)  # noqa: T201  whoever started it reads this
    application: Any = SlowService({"/": reply, "/call": call})
    config = uvicorn.Config(application, lifespan="off", log_level="warning")
    await uvicorn.Server(config).serve(sockets=[service])


if __name__ == "__main__":
    asyncio.run(main(*map(float, sys.argv[1:])))
