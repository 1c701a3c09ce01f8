"""Reads from EXIF data how the camera was held, and nothing else.

Pillow reads each of the 65,535 entries that 64 kB of EXIF can have, and keeps what each of them
points to: 244 kB took gigabytes in one of its versions. In another, reading was quadratic in the
length. Here a thousand entries are looked at, and only those for the orientation are read.
"""

from __future__ import annotations

import struct

MAX_ENTRIES = 1_000  # cameras write tens into the first directory
MAX_BLOCKS = 16  # a file needs one, or some for more than 64 kB
UPRIGHT = 1
_ORIENTATION = 0x0112
_ENTRY = 12  # bytes: the tag, the type, how many values, and the value
_TYPES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT and LONG, as `struct` names them


def orientation(*blocks: bytes) -> int:
    """The orientation that the first of EXIF's blocks names, 1 to 8; 1, upright, if none does.

    Args:
        blocks: TIFF structures, with or without the six bytes that introduce them in a JPEG. What
            makes no sense names no orientation: such are the blocks by which a long one goes on.
            So many are looked at as `MAX_BLOCKS` says.
    """
    return next(filter(None, map(_named, blocks[:MAX_BLOCKS])), UPRIGHT)


def _named(exif: bytes) -> int | None:
    data = memoryview(exif)[6:] if exif.startswith(b"Exif\0\0") else memoryview(exif)
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for position in range(start + 2, start + 2 + min(entries, MAX_ENTRIES) * _ENTRY, _ENTRY):
            tag, kind = struct.unpack_from(f"{order}HH", data, position)
            if tag == _ORIENTATION and kind in _TYPES:
                (value,) = struct.unpack_from(f"{order}{_TYPES[kind]}", data, position + 8)
                return int(value) if 1 <= value <= 8 else None
    except struct.error:  # it ends within what it announced
        pass
    return None
