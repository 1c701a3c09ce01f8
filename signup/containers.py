"""Counts the parts of a picture file before a decoder reads it, and refuses absurd numbers.

Pillow reads a file's small parts one by one in Python, and joins some of them in quadratic
time: a well-formed file of 10 MB in parts of ten bytes keeps it busy for a minute. Files of
cameras and programs have tens of parts, or thousands if an encoder writes each of its buffers as
one. Counting them takes milliseconds at most.
"""

from __future__ import annotations

import re

MAX_PARTS = 10_000
# The Exif data of a JPEG is one segment as a rule. Pillow joins several in quadratic time.
MAX_EXIF = 4
MAX_JPEG_SEGMENTS = 1_000
MAX_FILL = 64

# A marker of a JPEG: 0xFF and its kind. 0xFF 0x00 is a byte of data, 0xD0 to 0xD7 are restarts
# within a scan, and further bytes of 0xFF before the kind fill up.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN, _END = 0xDA, 0xD9


class OddContainer(ValueError):
    """The file is built as no camera or program builds it."""


def walk(data: bytes) -> int:
    """Count the parts of a JPEG, PNG or GIF file; other files have none.

    Returns:
        The scans of a JPEG's first picture; 1 for all others.

    Raises:
        OddContainer: there are far too many parts.
        IndexError: the file ends within a part.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_scans(data)
    if data.startswith(b"\x89PNG"):
        _walk_png(data)
    elif data.startswith(b"GIF8"):
        _walk_gif(data)
    return 1


def _jpeg_scans(data: bytes) -> int:
    position, segments, exif, scans = 2, 0, 0, 0
    while marker := _MARKER.search(data, position):
        if not scans and marker.start() - position > MAX_FILL:
            raise OddContainer
        kind = data[marker.start() + 1]
        # After the end there may be a film or a second picture, which nobody decodes.
        if kind == _END:
            break
        scans += kind == _SCAN
        exif += data[marker.end() + 2 : marker.end() + 6] == b"Exif"
        segments += 1
        if segments > MAX_JPEG_SEGMENTS or exif > MAX_EXIF:
            raise OddContainer
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _walk_png(data: bytes) -> None:
    position, parts = 8, 0
    while position < len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        parts += 1
        if parts > MAX_PARTS:
            raise OddContainer


def _walk_gif(data: bytes) -> None:
    """Count the blocks before the first frame. Nothing after that frame is ever decoded."""
    flags = data[10]
    position = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    parts = 0
    while data[position] == 0x21:  # an extension: a comment, a delay, ...
        position += 2
        while size := data[position]:
            position += size + 1
            parts += 1
            if parts > MAX_PARTS:
                raise OddContainer
        position += 1
