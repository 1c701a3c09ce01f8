"""Takes a picture file apart before a decoder reads it, and leaves out what no pixel needs.

Strangers can put anything into the parts of a file beside its pixels: EXIF, XMP, comments, texts,
thumbnails, further frames. Pillow reads them one by one in Python, and some of them in quadratic
time: a well-formed file of 4 MB kept it busy for minutes, and another wrote a line of log for each
of its tags. So the decoder gets a file of the necessary parts alone. Of the rest one number is
read, by `exif`: how the camera was held.

The parts are counted as well, because a decoder spends time on each of the necessary ones too.
Files of cameras and programs have tens of parts, or thousands if an encoder writes each of its
buffers as one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from signup import exif

MAX_PARTS = 10_000
MAX_JPEG_SEGMENTS = 1_000
MAX_FILL = 64
# Tables of a JPEG: an encoder writes some hundred bytes of them for each scan.
MAX_TABLE_BYTES = 256 * 1024
# Colour profiles of cameras and displays have 500 bytes to some 100 kB.
MAX_PROFILE_BYTES = 1024**2

# A marker of a JPEG: 0xFF and its kind. 0xFF 0x00 is a byte of data, 0xD0 to 0xD7 are restarts
# within a scan, and further bytes of 0xFF before the kind fill up.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = {0x01, 0xD8}  # markers that no length follows
_SCAN, _END, _EXIF = 0xDA, 0xD9, 0xE1
# Frames, tables, scans. Among 0xC0 to 0xCF only 0xC8 is none; it is reserved.
_JPEG_TABLES = {*range(0xC0, 0xD0), _SCAN, 0xDB, 0xDC, 0xDD} - {0xC8}
_JPEG_APPS = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}

_PNG_START = b"\x89PNG\r\n\x1a\n"
# The necessary chunks, with the greatest length that the format allows to each.
_PNG_CHUNKS = {b"IHDR": 13, b"PLTE": 768, b"tRNS": 256, b"IDAT": 2**31 - 1, b"IEND": 0}

_GIF_BLOCK = re.compile(rb"[!,;]")
_GIF_EXTENSION, _GIF_CONTROL = 0x21, 0xF9

_WEBP_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
_WEBP_EXIF_AND_XMP = 0x0C  # flags of VP8X that announce these chunks


class UnknownContainer(ValueError):
    """The file is no JPEG, PNG, GIF or WebP."""


class OddContainer(ValueError):
    """The file is built as no camera or program builds it."""


class Stripped(NamedTuple):
    """A picture file without what its pixels do not need.

    Attributes:
        data: a file of the same format, with its pixels and its colour profile.
        orientation: EXIF's, 1 to 8; see `exif.orientation`.
        scans: of a JPEG's first picture; 1 for other formats.
    """

    data: bytes
    orientation: int = exif.UPRIGHT
    scans: int = 1


def strip(data: bytes) -> Stripped:
    """Leave out what a decoder does not need, whatever it is.

    Of a file that was cut off, what there is of the necessary parts remains.

    Raises:
        UnknownContainer: it is of another format.
        OddContainer: there are far too many parts, or some are far too large.
        IndexError, struct.error: the file ends within a part.
    """
    if data.startswith(b"\xff\xd8"):
        return _strip_jpeg(data)
    if data.startswith(_PNG_START):
        return _strip_png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _strip_gif(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _strip_webp(data)
    raise UnknownContainer


def _strip_jpeg(data: bytes) -> Stripped:
    kept, blocks, scans, tables = [b"\xff\xd8"], [], 0, 0
    for kind, segment, pixels in _jpeg_segments(data):
        if kind in _JPEG_TABLES:
            tables += len(segment)
            scans += kind == _SCAN
            kept.append(segment)
        elif kind in _JPEG_APPS and segment.startswith(_JPEG_APPS[kind], 4):
            kept.append(segment)
        elif kind == _EXIF and segment.startswith(b"Exif\0\0", 4):
            blocks.append(segment[4:])
        elif kind == _END:
            kept.append(segment)
        if tables > MAX_TABLE_BYTES:
            raise OddContainer
        if scans:
            # Bytes that filled up to a segment would make a marker with what comes next, now that
            # the segment is left out.
            kept.append(pixels.rstrip(b"\xff"))
    return Stripped(b"".join(kept), exif.orientation(*blocks), scans)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The kind of each segment, all of its bytes, and those that follow it up to the next one."""
    position, segments, scanning = 2, 0, False
    marker = _MARKER.search(data, position)
    while marker:
        if not scanning and marker.start() - position > MAX_FILL:
            raise OddContainer
        kind = data[marker.start() + 1]
        # After the end there may be a film or a second picture, which nobody decodes.
        if kind == _END:
            yield kind, marker[0], b""
            return
        segments += 1
        if segments > MAX_JPEG_SEGMENTS:
            raise OddContainer
        scanning |= kind == _SCAN
        position = marker.end() + (0 if kind in _ALONE else _length(data, marker.end()))
        begin, marker = marker.start(), _MARKER.search(data, position)
        end = marker.start() if marker else len(data)
        yield kind, data[begin:position], data[position:end]


def _length(data: bytes, position: int) -> int:
    """The length of a JPEG's segment, which includes the two bytes that say it."""
    (length,) = struct.unpack_from(">H", data, position)
    if length < 2:
        raise OddContainer
    return int(length)


def _strip_png(data: bytes) -> Stripped:
    kept, blocks, profiles = [_PNG_START], [], 0
    for kind, chunk in _png_chunks(data):
        length = len(chunk) - 12
        if kind in _PNG_CHUNKS:
            if length > _PNG_CHUNKS[kind]:
                raise OddContainer
            kept.append(chunk)
        elif kind == b"iCCP":
            # Each is compressed, and Pillow would unpack them all.
            profiles += 1
            if profiles == 1 and length <= MAX_PROFILE_BYTES:
                kept.append(chunk)
        elif kind == b"eXIf":
            blocks.append(chunk[8:-4])
        if kind == b"IEND":
            break
    return Stripped(b"".join(kept), exif.orientation(*blocks))


def _strip_webp(data: bytes) -> Stripped:
    kept, orientation, length, seen = [], exif.UPRIGHT, 4, set()
    for kind, chunk in _webp_chunks(data):
        # Of an animation the first frame is shown; of a chunk that came twice the first counts.
        first = kind not in seen
        seen.add(kind)
        if first and kind == b"EXIF":
            orientation = exif.orientation(chunk[8:])
        profile = kind == b"ICCP" and len(chunk) <= MAX_PROFILE_BYTES
        if first and (profile or kind in _WEBP_CHUNKS):
            kept.append(_without_flags(chunk) if kind == b"VP8X" else chunk)
            # What the chunk announces. If the file was cut off within it, a decoder must notice.
            size = int.from_bytes(chunk[4:8], "little")
            length += 8 + size + size % 2
    head = b"RIFF" + struct.pack("<I", min(length, 2**32 - 1)) + b"WEBP"
    return Stripped(head + b"".join(kept), orientation)


def _without_flags(chunk: bytes) -> bytes:
    """The header of a WebP file, which does not announce EXIF and XMP any more."""
    return chunk[:8] + bytes([chunk[8] & ~_WEBP_EXIF_AND_XMP]) + chunk[9:]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind of each chunk, and all of its bytes: length, kind, content and checksum."""
    position = len(_PNG_START)
    for _ in _counted():
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        yield kind, data[position:end]
        position = end


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind of each chunk, and all of its bytes: kind, length, and an even number of others."""
    position, end_of_file = 12, 8 + int.from_bytes(data[4:8], "little")
    for _ in _counted():
        if position + 8 > min(len(data), end_of_file):
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        yield kind, data[position:end]
        position = end


def _counted() -> Iterator[int]:
    """Numbers for the parts of a file, of which there must not be too many."""
    yield from range(MAX_PARTS)
    raise OddContainer


def _strip_gif(data: bytes) -> Stripped:
    """Leave out comments and the like before the first frame. Nothing after it is ever decoded."""
    flags = data[10]
    position = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    kept, parts = [data[:position]], 0
    while data[begin := _gif_block(data, position)] == _GIF_EXTENSION:
        position = begin + 2
        while size := data[position]:
            position += size + 1
            parts += 1
            if parts > MAX_PARTS:
                raise OddContainer
        position += 1
        if data[begin + 1] == _GIF_CONTROL:  # it names the transparent colour
            kept.append(data[begin:position])
    return Stripped(b"".join([*kept, data[begin:]]))


def _gif_block(data: bytes, position: int) -> int:
    """Where the next block begins. Some encoders write a needless byte between two."""
    block = _GIF_BLOCK.search(data, position, position + MAX_FILL)
    if block is None:
        if position < len(data) - MAX_FILL:
            raise OddContainer
        return len(data)
    return block.start()
