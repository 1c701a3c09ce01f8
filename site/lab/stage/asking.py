"""A connection that asks for one page again and again, at the least cost.

The libraries for HTTP need one to four milliseconds of processor time for a request. With twenty
requests at the same moment, the last of them would seem to wait for that long although its server
had answered. This one sends the same bytes each time, and reads no more than it must.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Failed(Exception):
    """The server has closed the connection, or has answered with an error."""


class Asker:
    """Asks for a page by as many connections as are needed at a time; they stay open.

    Args:
        url: of the page, by plain HTTP.
        headers: sent with each request.
        most_idle: connections that stay open while nobody asks. After a stall there are many more.
    """

    def __init__(self, url: str, headers: dict[str, str], most_idle: int) -> None:
        self._most_idle = most_idle
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        lines = [f"GET {parts.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in ({"Host": parts.netloc} | headers).items()]
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._idle: list[Streams] = []

    async def ask(self) -> None:
        """Ask once, and read the whole answer.

        Raises:
            Failed: the answer's status was not 200, or the connection broke.
        """
        try:
            streams = self._open_one() or await asyncio.open_connection(*self._address)
            await self._ask(*streams)
        except (OSError, EOFError, ValueError) as error:
            raise Failed(str(error)) from error

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep = False
        try:
            writer.write(self._request)
            keep = await self._read(reader) and len(self._idle) < self._most_idle
        finally:
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def _open_one(self) -> Streams | None:
        """A connection that the server has not closed meanwhile; None if there is none."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def _read(self, reader: asyncio.StreamReader) -> bool:
        """Read an answer; returns whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise Failed(head.partition(b"\r\n")[0].decode())
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        return b"\r\nconnection: close" not in head

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
