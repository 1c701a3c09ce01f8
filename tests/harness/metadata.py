"""Pictures with metadata and other parts that no pixel needs, harmless and hostile."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from PIL import Image

from tests.harness import pictures

MARK = b"nobody reads this"


def jpeg_with(*segments: bytes) -> bytes:
    """A JPEG with further segments, each given as its marker's kind and its content."""
    data = pictures.jpeg(64, 64)
    made = [b"\xff" + each[:1] + struct.pack(">H", len(each) + 1) + each[1:] for each in segments]
    return data[:2] + b"".join(made) + data[2:]


def gif_with(label: bytes, content: bytes = MARK) -> bytes:
    """A GIF with an extension before its frame."""
    data = pictures.encoded(pictures.quarters(64, 64), "GIF")
    size = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    block = bytes([len(content)]) + content
    return data[:size] + b"\x21" + label + block + b"\x00" + data[size:]


def webp(**options: Any) -> bytes:
    return pictures.encoded(pictures.quarters(64, 64), "WEBP", **options)


def webp_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP in the extended format, with further chunks behind its pixels."""
    data = webp(exif=b"Exif\0\0")
    for kind, content in chunks:
        data += kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def exif_entries(entries: int, kind: int = 3, count: int = 1, value: int = 0) -> bytes:
    """EXIF data with so many entries, the last of which says that the camera was held upright."""
    tags = [struct.pack("<HHII", 0x9000 + n % 0x6000, kind, count, value) for n in range(entries)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + b"".join(tags) + MARK


# Pictures with something that no pixel needs, with MARK in it.
WITH = {
    "a jpeg with exif": jpeg_with(b"\xe1Exif\0\0" + exif_entries(5)),
    "a jpeg with xmp": jpeg_with(b"\xe1http://ns.adobe.com/xap/1.0/\0" + MARK),
    "a jpeg with photoshop's": jpeg_with(b"\xedPhotoshop 3.0\0" + MARK),
    "a jpeg with a comment": jpeg_with(b"\xfe" + MARK),
    "a jpeg with flashpix": jpeg_with(b"\xe2FPXR\0" + MARK),
    "a jpeg of two pictures": pictures.encoded(
        pictures.quarters(64, 64),
        "MPO",
        save_all=True,
        append_images=[Image.new("RGB", (9, 9))],
        exif=b"Exif\0\0" + MARK,
    ),
    "a jpeg whose fill hides exif": jpeg_with(b"\x01" + b"\xff\xe1\0\x19Exif\0\0" + MARK),
    "a jpeg with exif between its scans": pictures.jpeg(64, 64, progressive=True).replace(
        b"\xff\xda",
        b"\xff\xe1" + struct.pack(">H", len(MARK) + 8) + b"Exif\0\0" + MARK + b"\xff\xda",
    ),
    "a png with exif": pictures.png_with(pictures.png_chunk(b"eXIf", exif_entries(5))),
    "a png with text": pictures.png_with(pictures.png_chunk(b"tEXt", b"Comment\0" + MARK)),
    "a png with international text": pictures.png_with(
        pictures.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + MARK)
    ),
    "a png with packed text": pictures.png_with(
        pictures.png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MARK, 0))
    ),
    "a png with a second profile": pictures.png_with(
        pictures.png_chunk(b"iCCP", b"one\0\0" + zlib.compress(b"broken")),
        pictures.png_chunk(b"iCCP", b"two\0\0" + zlib.compress(MARK, 0)),
    ),
    "a png with frames": pictures.png_with(pictures.png_chunk(b"fcTL", MARK)),
    "a png with a chunk of its own": pictures.png_with(pictures.png_chunk(b"teSt", MARK)),
    "a png with more behind its end": pictures.png_with()
    + pictures.png_chunk(b"eXIf", exif_entries(5)),
    "a gif with a comment": gif_with(b"\xfe"),
    "a gif with a program's data": gif_with(b"\xff", b"XMP DataXMP" + MARK),
    "a gif with plain text": gif_with(b"\x01"),
    "a webp with exif": webp(exif=exif_entries(5)),
    "a webp with xmp": webp(xmp=MARK),
    "a webp with a second profile": webp_with((b"ICCP", b"broken"), (b"ICCP", MARK)),
    "a webp with a chunk of its own": webp_with((b"TEST", MARK)),
}
# Its pixels end with a byte that would begin a segment, if the comment in between were left out
# and nothing else.
SCAN_BEFORE_COMMENT = (
    pictures.jpeg(64, 64)[:-2] + b"\xff\xff\xfe\0\x02\xe1\0\x19Exif\0\0" + MARK + b"\xff\xd9"
)
# Each is a text of 64 kB, and all of them are the same bytes.
MANY_TAGS = exif_entries(65_000, 2, 2**16, 8)
# As above, in quantities that kept a decoder or a log busy.
BOMBS = {
    "a png whose exif begins again and again": pictures.png_with(
        pictures.png_chunk(b"eXIf", b"Exif\0\0" * 700_000)
    ),
    "a png of a great many tags": pictures.png_with(*[pictures.png_chunk(b"eXIf", MANY_TAGS)] * 10),
    "a jpeg of 65,000 tags in segments": jpeg_with(
        *[b"\xe1Exif\0\0" + MANY_TAGS[n : n + 60_000] for n in range(0, len(MANY_TAGS), 60_000)]
    ),
    "a webp of 65,000 tags": webp_with((b"EXIF", MANY_TAGS)),
    "a png of packed profiles": pictures.png_with(
        *[pictures.png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_000_000)))] * 5_000
    ),
    "a png of packed texts": pictures.png_with(
        *[pictures.png_chunk(b"zTXt", b"t\0\0" + zlib.compress(bytes(1_000_000)))] * 5_000
    ),
    "a gif of a long comment": gif_with(b"\xfe", b"x" * 255),
    "a webp of many frames": pictures.encoded(
        Image.new("RGB", (8, 8)),
        "WEBP",
        save_all=True,
        append_images=[Image.new("RGB", (8, 8), (n % 256, n // 256, 9)) for n in range(3_000)],
    ),
}
