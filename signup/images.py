"""Pictures from strangers: checks that one is whole, and makes the site's own pictures from it.

An upload is hostile until it is proven an image. Only four decoders are ever used, the header is
checked before a pixel is decoded, and whatever a decoder raises means "not an image".
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from django.core.files import File
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from signup import containers

logger = logging.getLogger(__name__)

MAX_BYTES = 10 * 1024**2
# The limits bound the memory that a decoder needs. Measured at these limits: 440 MB for a
# progressive JPEG, although it is decoded at a reduced size, and 390 MB for a WebP, four times its
# pixels, which a file of 40 bytes can ask for. Telephones write JPEG files of 48 megapixels, and
# pictures of the other kinds are never so large.
MAX_PIXELS = 25_000_000
MAX_JPEG_PIXELS = 50_000_000
MAX_EDGE = 16_384  # with longer edges, decoders need more memory for rows than for pixels
# Cameras write ten scans into a progressive JPEG. For each scan a decoder passes over the whole
# picture, so a file of a thousand tiny scans keeps a processor busy for minutes.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 1_000_000_000
# A colour profile may hold a program (the element type "mpet" of ICC.1: a list of steps), and 3 kB
# can hold one that runs for an hour.
PROGRAM = b"mpet"

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The types that a browser's file picker offers. The server checks them itself.
ACCEPT = "image/jpeg,image/png,image/gif,image/webp"

# `check` decodes one picture at a time: each web request has a thread of its own, and each of them
# could need the memory given above.
_decoder = threading.Lock()
_srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class BadImage(ValueError):
    """The upload is not a picture that this site takes; the text says why, for its owner."""


def check(upload: File) -> None:
    """Prove that an upload is a whole picture of an accepted kind.

    Args:
        upload: the file with its name; it is read, and rewound afterwards.

    Raises:
        BadImage: it is too large, of another kind, not what its name says, or broken.
    """
    if (upload.size or 0) > MAX_BYTES:
        raise BadImage(
            f"This file is {upload.size / 1024**2:.1f} MB large. "
            f"Choose a picture of at most {MAX_BYTES // 1024**2} MB."
        )
    upload.seek(0)
    data = upload.read()
    upload.seek(0)
    with _decoder, _opened(data) as (image, _):
        kind = str(image.format)
        _check_name(upload.name or "", kind)
        if kind == "JPEG":
            # Decoding at an eighth of the size still reads every byte, and is fast enough to be
            # done within a request.
            image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()


def renditions(original: bytes, sizes: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Make square WebP pictures, the largest first, without any metadata.

    The middle of the first frame is taken, turned upright as EXIF says, its colours
    converted to sRGB; transparency stays.

    Yields:
        The edge in pixels, and the file's content.

    Raises:
        BadImage: the original cannot be decoded.
    """
    largest = max(sizes)
    with _opened(original) as (image, orientation):
        # Twice the edge is enough for the resampling filter.
        image.draft("RGB", (largest * 2, largest * 2))
        square = _upright_square(image, largest, TURNS.get(orientation))
    for size in sorted(sizes, reverse=True):
        yield size, _webp(square.resize((size, size), Image.Resampling.LANCZOS))


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Image.Image, int]]:
    """Open the image in a file's content, after its numbers of pixels and parts were checked.

    The decoder gets no metadata to read; EXIF's orientation comes beside the image.

    Any exception raised inside the context becomes a `BadImage`. So only decode there: the error of
    a storage, for example, would be reported as a broken picture.
    """
    try:
        stripped = containers.strip(data)
        with Image.open(io.BytesIO(stripped.data), formats=list(EXTENSIONS)) as image:
            _check_pixels(image, stripped.scans)
            yield image, stripped.orientation
    except (BadImage, MemoryError):
        raise
    except containers.OddContainer as error:
        raise BadImage("This file is built in an unusual way. Save it again and retry.") from error
    except (containers.UnknownContainer, UnidentifiedImageError) as error:
        raise BadImage("This is not a picture. Choose a JPEG, PNG, GIF or WebP file.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels() from error
    # Pillow's decoders and parsers raise all kinds of exceptions at broken files: OSError,
    # SyntaxError, ValueError, struct.error, IndexError and others.
    except Exception as error:
        logger.info("undecodable upload: %r", error)
        raise BadImage("This picture is damaged or incomplete. Choose another file.") from error


def _check_name(name: str, kind: str) -> None:
    suffix = PurePath(name).suffix.lower()
    if suffix not in EXTENSIONS[kind]:
        raise BadImage(
            f"This is a {kind} picture, but its name ends in “{suffix[:10]}”. "
            f"Rename it to end in {EXTENSIONS[kind][0]}, or choose another file."
        )


def _check_pixels(image: Image.Image, scans: int) -> None:
    pixels = image.width * image.height
    limit = MAX_JPEG_PIXELS if image.format == "JPEG" else MAX_PIXELS
    if pixels > limit or max(image.size) > MAX_EDGE:
        raise _too_many_pixels()
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
        raise containers.OddContainer


def _too_many_pixels() -> BadImage:
    return BadImage(
        f"This picture has too many pixels. Choose one of at most {MAX_PIXELS // 10**6} "
        f"megapixels (a JPEG: {MAX_JPEG_PIXELS // 10**6})."
    )


def _upright_square(image: Image.Image, edge: int, turn: Image.Transpose | None) -> Image.Image:
    """The middle of the picture, ``edge`` pixels wide and high, in sRGB or sRGB with alpha."""
    profile = image.info.get("icc_profile")
    square = ImageOps.fit(_resizable(image), (edge, edge), Image.Resampling.LANCZOS)
    if turn is not None:  # turning the middle square is the same as turning the picture first
        square = square.transpose(turn)
    if profile and len(profile) <= containers.MAX_PROFILE_BYTES and PROGRAM not in profile:
        square = _in_srgb(square, profile)
    return square.convert("RGBA" if square.mode in ("RGBA", "LA") else "RGB")


def _resizable(image: Image.Image) -> Image.Image:
    """The picture in a mode that resampling handles: no palette, no 16-bit grey."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        return image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    if image.mode in ("RGB", "L", "CMYK"):
        return image
    return image.convert("RGB")


def _in_srgb(square: Image.Image, profile: bytes) -> Image.Image:
    alpha = square.getchannel("A") if square.mode in ("RGBA", "LA") else None
    colours = square.convert("L" if square.mode == "LA" else "RGB") if alpha else square
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(colours, source, _srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return square  # the profile is broken, or of another colour space: keep the colours
    if converted is not None and alpha:
        converted.putalpha(alpha)
    return converted or square


def _webp(image: Image.Image) -> bytes:
    image.info.clear()  # the encoder would write EXIF, XMP, ICC profiles and comments again
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=4)
    return buffer.getvalue()
