"""Pictures, honest and hostile, made where they are needed."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 160, 60), (40, 60, 210), (255, 255, 255)
ORIENTATION, GPS = 0x0112, 0x8825


def quarters(width: int = 800, height: int = 600, mode: str = "RGB") -> Image.Image:
    """Red, green / blue, white: what is up and what is left can be told by colour."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 2, height // 2), fill=RED)
    draw.rectangle((width // 2, 0, width, height // 2), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2, height), fill=BLUE)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(width: int = 800, height: int = 600, **options: Any) -> bytes:
    return encoded(quarters(width, height), "JPEG", **options)


def jpeg_with_location(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif.get_ifd(GPS)[1] = "N"
    exif.get_ifd(GPS)[2] = (48.0, 8.0, 0.0)
    return jpeg(exif=exif, comment=b"taken at home")


def transparent_png() -> bytes:
    image = quarters(mode="RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 800, 300))
    return encoded(image, "PNG")


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (300, 300), colour) for colour in (RED, GREEN, BLUE)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def bomb(width: int = 10_000, height: int = 6_000) -> bytes:
    """A PNG of sixty megapixels in a few kB: its pixels compress to next to nothing."""
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND", b"")
    )


def many_scans() -> bytes:
    """A progressive JPEG whose last scan is repeated a thousand times."""
    data = jpeg(64, 64, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 1000 + data[-2:]


def many_exif_segments() -> bytes:
    """A JPEG of a thousand EXIF segments, which Pillow would join in quadratic time."""
    data = jpeg(64, 64)
    segment = b"\xff\xe1\x00\x0aExif\x00\x00xx"
    return data[:2] + segment * 1000 + data[2:]


def many_comments() -> bytes:
    """A GIF with a comment of twenty thousand blocks of a byte."""
    data = encoded(quarters(64, 64), "GIF")
    size = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:size] + b"\x21\xfe" + b"\x01x" * 20_000 + b"\x00" + data[size:]


def png_with(*chunks: bytes) -> bytes:
    """A PNG with further chunks before its pixels."""
    data = encoded(quarters(64, 64), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def many_chunks() -> bytes:
    """A PNG of twenty thousand empty chunks."""
    return png_with(png_chunk(b"teSt", b"") * 20_000)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"

# What no form may take: the file's name, its content, and a part of what is said of it.
HOSTILE = {
    "not an image": ("me.jpg", b"just some text, nothing to look at", "not a picture"),
    "svg as png": ("me.png", SVG, "not a picture"),
    "html as jpeg": ("me.jpg", HTML, "not a picture"),
    "svg as itself": ("me.svg", SVG, "not a picture"),
    "a tiff": ("me.tiff", encoded(quarters(64, 64), "TIFF"), "not a picture"),
    "a lying extension": ("me.jpg", encoded(quarters(64, 64), "PNG"), "is a PNG picture, but"),
    "no extension": ("me", jpeg(64, 64), "is a JPEG picture, but"),
    "a bomb": ("me.png", bomb(), "too many pixels"),
    "over ten megabytes": ("me.jpg", jpeg(64, 64) + bytes(10 * 1024**2), "at most 10 MB"),
    "a truncated jpeg": ("me.jpg", jpeg()[: len(jpeg()) // 2], "damaged or incomplete"),
    "a truncated png": ("me.png", encoded(quarters(), "PNG")[:-900], "damaged or incomplete"),
    "a header alone": ("me.jpg", jpeg()[:400], "damaged or incomplete"),
    "a thousand scans": ("me.jpg", many_scans(), "unusual way"),
    "a thousand exif segments": ("me.jpg", many_exif_segments(), "unusual way"),
    "padding before the picture": (
        "me.jpg",
        jpeg(64, 64)[:2] + b"\xff" * 9_000 + jpeg(64, 64)[2:],
        "unusual way",
    ),
    "a gif of comments": ("me.gif", many_comments(), "unusual way"),
    "a png of chunks": ("me.png", many_chunks(), "unusual way"),
    "a thread of pixels": (
        "me.png",
        encoded(Image.new("1", (1, 20_000)), "PNG"),
        "too many pixels",
    ),
    "an empty file": ("me.jpg", b"", "empty"),
}
