"""The slow work itself. Views do it, or tasks do it: it is the same work."""

from __future__ import annotations

import io
import smtplib
import ssl
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from math import isqrt
from pathlib import Path

import httpx
import xlsxwriter
from PIL import Image

from lab import sizes

EDGES = (1600, 800, 400, 200)
# A client without it reads the certificates of all authorities: tens of milliseconds each time, in
# which an event loop serves nobody.
TLS = ssl.create_default_context()
PATIENCE = 30.0  # seconds: no server of the lab is slower


def resize(picture: str) -> int:
    """Make smaller copies of a picture; returns how many bytes they have together."""
    copies = io.BytesIO()
    with Image.open(picture) as image:
        for edge in EDGES:
            size = (edge, edge * image.height // image.width)
            image.resize(size, Image.Resampling.LANCZOS).save(copies, "WEBP")
    return copies.tell()


def send_mail(port: int) -> None:
    """Send one mail by the lab's mail server, which takes its time."""
    mail = EmailMessage()
    mail["From"], mail["To"] = "lab@localhost", "visitor@localhost"
    mail["Subject"] = "Welcome"
    mail.set_content("It was worth the wait.")
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as server:
        server.send_message(mail)


def build_report() -> int:
    """Write a workbook; returns how many bytes it has."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as workbook:
        sheet = workbook.add_worksheet("Signups")
        for line in range(sizes.REPORT_LINES):
            sheet.write_row(
                line, 0, [line, f"visitor{line}", f"visitor{line}@example.com", line % 7]
            )
    return len(file.getvalue())


def call(api: str) -> str:
    return httpx.get(api, timeout=PATIENCE, verify=TLS).text


async def acall(api: str) -> str:
    async with httpx.AsyncClient(verify=TLS) as client:
        return (await client.get(api, timeout=PATIENCE)).text


def count_primes(below: int) -> int:
    """Count primes by trial division: pure Python, which holds the interpreter lock."""
    return sum(all(n % d for d in range(2, isqrt(n) + 1)) for n in range(2, below))


def files_in(folder: str) -> list[Path]:
    return sorted(Path(folder, "files").iterdir())


def words_of(text: str) -> Counter[str]:
    """Count words, one after the other."""
    counts: Counter[str] = Counter()
    for word in text.split():
        counts[word.strip(".,").lower()] += 1
    return counts


def chunks_of(text: str, size: int = 2_000) -> Iterator[str]:
    """Parts of a text that end between two words, each of about ``size`` letters."""
    begin = 0
    while begin < len(text):
        end = text.find(" ", begin + size)
        end = len(text) if end < 0 else end
        yield text[begin:end]
        begin = end
