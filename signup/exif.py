"""Reads from EXIF data how the camera was held, and nothing else.

Pillow reads each of the 65,535 entries that 64 kB of EXIF can have, and keeps what each of them
points to: 244 kB took gigabytes in one of its versions. In another, reading was quadratic in the
length. Here a thousand entries are looked at, and only those for the orientation are read.
"""

from __future__ import annotations

import struct

MAX_ENTRIES = 1_000  # cameras write tens into the first directory
UPRIGHT = 1
_ORIENTATION = 0x0112
_ENTRY = 12  # bytes: the tag, the type, how many values, and the value
_TYPES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT and LONG, as `struct` names them


def orientation(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, if there is none or the data make no sense.

    Args:
        exif: a TIFF structure, with or without the six bytes that introduce it in a JPEG.
    """
    data = memoryview(exif)[6:] if exif.startswith(b"Exif\0\0") else memoryview(exif)
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for position in range(start + 2, start + 2 + min(entries, MAX_ENTRIES) * _ENTRY, _ENTRY):
            tag, kind = struct.unpack_from(f"{order}HH", data, position)
            if tag == _ORIENTATION and kind in _TYPES:
                (value,) = struct.unpack_from(f"{order}{_TYPES[kind]}", data, position + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:  # it ends within what it announced
        pass
    return UPRIGHT
